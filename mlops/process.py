"""Background server processes that outlive the program that starts them."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from audiocnn.atomic import atomic_file
from audiocnn.config import PositiveInt
from audiocnn.deferred_signals import defer_signals
from audiocnn.errors import AudioCNNError
from audiocnn.strict_model import StrictModel

POLL_INTERVAL = 0.2  # s
STOP_TIMEOUT = 30.0  # s that the server has to end after SIGTERM, before SIGKILL
REAP_TIMEOUT = 1.0  # s that the threads of a process may take to end after its main thread
CLOCK_TOLERANCE = 2.0  # s; the creation time of a process moves when the system clock is adjusted
LOG_LINES = 4  # in error messages


class ProcessError(AudioCNNError):
    """A server process that does not start."""


class ProcessState(StrictModel):
    """Content of a state file. The creation time distinguishes the process from a later one with the same pid."""

    pid: PositiveInt
    create_time: float
    url: str


@dataclass(frozen=True)
class ManagedProcess:
    """A background server, identified by its state file.

    The server runs in a session of its own: it continues when this program ends and ignores Ctrl-C in its terminal.

    Attributes:
        name: name of the server for messages.
        state_file: JSON file with a ProcessState.
        log_file: output of the server, replaced by each start.
    """

    name: str
    state_file: Path
    log_file: Path

    def start(
        self,
        command: Sequence[str],
        url: str,
        is_healthy: Callable[[], bool],
        timeout: float,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> psutil.Process:
        """Start the server, which must not be running, and wait until it is ready; stop it if it does not become ready.

        Args:
            url: an address at which the server listens.
            is_healthy: health check, called while the server listens at `url`.
            timeout: maximum time to wait, in s.
            environment: environment variables; None for those of this process.
            directory: working directory; None for that of this process.
        Raises:
            ProcessError: the server ended or is not ready in time.
        """
        self.state_file.unlink(missing_ok=True)
        try:
            self.spawn(command, url, environment, directory)
            self.wait_until_ready(is_healthy, timeout)
        except BaseException:
            self.stop()
            raise
        process = self.find()
        if process is None:
            raise ProcessError(f"{self.name} ended after its start: {self.log_tail()} (log: {self.log_file})")
        return process

    def spawn(
        self,
        command: Sequence[str],
        url: str,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        """Start the server, as start() does, but do not wait until it is ready."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        # A signal between the two statements would leave a process without a state file.
        with self.log_file.open("wb") as output, defer_signals():
            process = psutil.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
                cwd=directory,
            )
            self.register(process.pid, url)

    def register(self, pid: int, url: str) -> None:
        """Write the state file for a process that runs."""
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        state = ProcessState(pid=pid, create_time=psutil.Process(pid).create_time(), url=url)
        with atomic_file(self.state_file) as part:
            part.write_text(state.model_dump_json(), encoding="utf-8")

    def wait_until_ready(self, is_healthy: Callable[[], bool], timeout: float) -> None:
        """Wait until the server listens at its address and the health check passes.

        Raises:
            ProcessError: the server ended or is not ready in time.
        """
        deadline = time.monotonic() + timeout
        while (process := self.find()) is not None and time.monotonic() < deadline:
            # Another server on the same port might pass the health check.
            if _listens(process.pid, urlsplit(self.url).port) and is_healthy():
                return
            time.sleep(POLL_INTERVAL)
        problem = "ended during its start" if process is None else f"is not ready after {timeout:g} s"
        raise ProcessError(f"{self.name} {problem}: {self.log_tail()} (log: {self.log_file})")

    def find(self) -> psutil.Process | None:
        """Return the running server, None if there is none. A process that reuses its pid is not returned."""
        if (state := self._read_state()) is None:
            return None
        try:
            process = psutil.Process(state.pid)
            same = abs(process.create_time() - state.create_time) < CLOCK_TOLERANCE
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    @property
    def url(self) -> str:
        """Address from the state file, empty without one."""
        state = self._read_state()
        return state.url if state else ""

    def stop(self, kill: bool = False) -> bool:
        """Stop the server and its child processes, also those that it left; return False if it was not running.

        Args:
            kill: send SIGKILL at once, to a server that hangs.
        """
        process, state = self.find(), self._read_state()
        if state is not None and _is_session(state):
            _end_session(state.pid, kill)
        self.state_file.unlink(missing_ok=True)
        return process is not None

    def _read_state(self) -> ProcessState | None:
        try:
            return ProcessState.model_validate_json(self.state_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def log_tail(self) -> str:
        """Return the last lines of the log, for an error message."""
        lines = [line.strip() for line in self.log_file.read_text(errors="replace").splitlines()]
        lines = [line for line in lines if line and not line.startswith("at ")]  # without Java's stack trace
        return " | ".join(lines[-LOG_LINES:]) or "no output"


def is_port_free(port: int) -> bool:
    """Return whether a server can listen at a port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignores closed connections in TIME_WAIT
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _session_members(leader: int) -> list[psutil.Process]:
    """Return the live processes of a session, its leader first: the leader and its descendants, orphans included.

    A server in a terminal is the leader of no session; it is returned alone.
    """
    members = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if leader in (process.pid, os.getsid(process.pid)) and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return sorted(members, key=lambda process: process.pid != leader)


def _is_session(state: ProcessState) -> bool:
    """Return whether the processes of a session are those of a server; its leader may have ended.

    The kernel does not give the number of a session to another process while one of its members lives.
    """
    try:
        return abs(psutil.Process(state.pid).create_time() - state.create_time) < CLOCK_TOLERANCE
    except psutil.NoSuchProcess:
        return state.create_time > psutil.boot_time()


def _end_session(leader: int, kill: bool) -> None:
    """Terminate all processes of a session, and kill those that do not end in time, or all at once."""
    for end in (psutil.Process.kill,) if kill else (psutil.Process.terminate, psutil.Process.kill):
        for process in _session_members(leader):
            with suppress(psutil.NoSuchProcess):
                end(process)
        deadline = time.monotonic() + STOP_TIMEOUT
        while _session_members(leader) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
    with suppress(psutil.NoSuchProcess):
        psutil.wait_procs([psutil.Process(leader)], REAP_TIMEOUT)  # reap it if it is a child of this program


def _listens(leader: int, port: int | None) -> bool:
    """Return whether a process of a session listens on a TCP port."""
    for process in _session_members(leader):
        with suppress(psutil.Error):
            sockets = process.net_connections("tcp")
            if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets):
                return True
    return False
