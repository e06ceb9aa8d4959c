"""ManagedProcess with a small Python web server."""

import json
import os
import signal
import sys
import textwrap
import time

import psutil
import pytest
import requests
from helpers.processes import is_alive
from helpers.torchserve import free_ports

from mlops.process import ManagedProcess, ProcessError

TIMEOUT = 20.0  # s
SERVER = textwrap.dedent("""
    import os, subprocess, sys
    from http.server import HTTPServer, SimpleHTTPRequestHandler
    child = subprocess.Popen([sys.executable, "-c", CHILD])
    print("serving", os.environ.get("GREETING"), flush=True)
    HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
""")
SLEEPING_CHILD = "import time; time.sleep(600)"
STUBBORN_CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


@pytest.fixture
def server(tmp_path):
    process = ManagedProcess("server", tmp_path / "run" / "state.json", tmp_path / "logs" / "server.log")
    yield process
    process.stop()


def start(server: ManagedProcess, child: str = SLEEPING_CHILD, **arguments) -> psutil.Process:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    script = f"CHILD = {child!r}\n{SERVER}"
    command = [sys.executable, "-c", script, str(port)]
    return server.start(command, url, lambda: requests.get(url, timeout=5).ok, TIMEOUT, **arguments)


def test_start_waits_until_ready_and_stop_ends_the_process_tree(server, tmp_path):
    (tmp_path / "page.txt").write_text("hello")
    process = start(server, environment={**os.environ, "GREETING": "good day"}, directory=tmp_path)
    assert requests.get(f"{server.url}/page.txt", timeout=5).text == "hello"
    assert server.log_file.read_text().startswith("serving good day")
    assert server.find() == process
    assert os.getsid(process.pid) == process.pid
    tree = [process, *process.children()]
    assert len(tree) == 2
    assert server.stop()
    assert not [each for each in tree if is_alive(each)]
    assert server.find() is None and not server.state_file.exists()
    assert not server.stop()


def test_process_that_ignores_sigterm_is_killed(server, monkeypatch):
    monkeypatch.setattr("mlops.process.STOP_TIMEOUT", 1.0)
    (child,) = start(server, STUBBORN_CHILD).children()
    assert server.stop()
    assert not is_alive(child)


def test_killed_server_is_not_found_and_can_be_started_again(server):
    process = start(server)
    children = process.children()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert server.find() is None
    assert start(server).pid != process.pid
    for child in children:
        child.kill()


def test_children_of_a_killed_server_are_stopped_and_hanging_ones_at_once(server):
    process = start(server, STUBBORN_CHILD)
    (child,) = process.children()
    for each in (child, process):
        each.send_signal(signal.SIGSTOP)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    began = time.monotonic()
    assert not server.stop(kill=True), "it was not running"
    assert time.monotonic() - began < 5
    assert not is_alive(child) and not server.state_file.exists()


def test_process_with_a_recycled_pid_is_neither_found_nor_stopped(server):
    server.state_file.parent.mkdir()
    server.state_file.write_text(json.dumps({"pid": os.getpid(), "create_time": 1.0, "url": "http://127.0.0.1:1"}))
    assert server.find() is None
    assert not server.stop()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pid": 1}', '{"pid": -1, "create_time": 1.0, "url": ""}'])
def test_invalid_state_file_means_not_running(server, content):
    server.state_file.parent.mkdir()
    server.state_file.write_text(content)
    assert server.find() is None


def test_failed_start_shows_the_log_and_leaves_no_process(server):
    command = [sys.executable, "-c", "print('first'); raise SystemExit('the port is broken')"]
    with pytest.raises(ProcessError, match=r"server ended during its start: .*the port is broken \(log: .*server\.log"):
        server.start(command, "http://127.0.0.1:1", lambda: True, TIMEOUT)
    assert not server.state_file.exists()


def test_server_whose_threads_end_after_its_main_thread_leaves_no_zombie(server):
    script = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=[0.5]).start()"
    command = [sys.executable, "-c", f"{script}; ctypes.CDLL(None).pthread_exit(None)"]
    before = psutil.Process().children()  # helpers of other tests, such as multiprocessing's tracker
    with pytest.raises(ProcessError, match="server ended during its start"):
        server.start(command, "http://127.0.0.1:1", lambda: True, TIMEOUT)
    assert set(psutil.Process().children()) <= set(before)


def test_server_that_never_becomes_healthy_is_stopped(server):
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with pytest.raises(ProcessError, match="server is not ready after 1 s"):
        server.start(command, f"http://127.0.0.1:{port}", lambda: False, 1.0)
    assert not [each for each in psutil.Process().children() if str(port) in each.cmdline()]


def test_another_process_on_the_port_does_not_count_as_ready(server, tmp_path):
    other = ManagedProcess("other", tmp_path / "other.json", tmp_path / "other.log")
    start(other)
    try:
        command = [sys.executable, "-c", SLEEPING_CHILD]
        with pytest.raises(ProcessError, match="is not ready"):
            server.start(command, other.url, lambda: True, 1.0)
    finally:
        other.stop()
