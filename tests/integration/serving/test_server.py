"""Starting and stopping TorchServe on this machine."""

import json
import socket
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from helpers.processes import is_alive
from helpers.project import ROOT, read_json
from helpers.torchserve import build, deploy_settings, encode, noise, probabilities, small_model

from mlops.process import ProcessError
from serving.torchserve import launch
from serving.torchserve import server as torchserve
from serving.torchserve.client import ServingError, TorchServeClient
from serving.torchserve.settings import ARCHIVE_FOLDER

pytestmark = pytest.mark.xdist_group("torchserve")
START_SCRIPT = (
    "import json, sys; from components.deploy.settings import DeploySettings; from serving.torchserve import server; "
    "print(server.start(DeploySettings(**json.loads(sys.argv[1]))).pid)"
)


def test_start_reuse_kill_restart_and_stop(tmp_path):
    """One test for the whole life cycle, because each start takes seconds."""
    state = tmp_path / "state"
    settings = deploy_settings(state)
    try:
        started = start_in_a_program_that_ends(settings)
        assert torchserve.find(state).pid == started
        assert torchserve.start(settings).pid == started
        assert torchserve.check_startable(settings).pid == started  # its own ports do not count as in use
        assert TorchServeClient.from_settings(settings).health() == "Healthy"
        check_keys(state)
        for function in (torchserve.start, torchserve.check_startable):
            with pytest.raises(ServingError, match="other addresses or limits"):
                function(settings.replace(max_request_bytes=1))
        # SIGKILL leaves the state file, the keys and the temporary files.
        killed = psutil.Process(started)
        killed.kill()
        psutil.wait_procs([killed], timeout=10)
        assert torchserve.find(state) is None
        restarted = torchserve.start(settings)
        assert restarted.pid != started
        tree = [restarted, *restarted.children(recursive=True)]
    finally:
        stopped = torchserve.stop(state)
    assert stopped
    assert not [process for process in tree if is_alive(process)]
    assert not torchserve.stop(state)
    assert not (state / "key_file.json").exists()
    assert not (state / "tmp").exists()
    with pytest.raises(ServingError, match="cannot be reached"):
        TorchServeClient.from_settings(settings).list_models()


def start_in_a_program_that_ends(settings) -> int:
    done = subprocess.run(
        [sys.executable, "-c", START_SCRIPT, json.dumps(settings.to_dict())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "[deploy] TorchServe is ready after" in done.stdout
    return int(done.stdout.split()[-1])


def check_keys(state: Path) -> None:
    keys = state / "key_file.json"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    content = read_json(keys)
    assert torchserve.inference_key(state) == content["inference"]["key"]
    expires = datetime.fromisoformat(content["inference"]["expiration time"][:19]).replace(tzinfo=UTC)
    assert expires > datetime.now(UTC) + timedelta(days=365)


def test_a_model_is_served_from_a_folder_with_any_name(tmp_path, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")  # in which Java knows no letters outside ASCII
    state = tmp_path / "My (études) #1? 100% 🎵" / "state"
    settings, classifier, clip = deploy_settings(state), small_model(tmp_path / "model", seed=1), encode(noise())
    try:
        torchserve.start(settings)
        client = TorchServeClient.from_settings(settings)
        client.register(build(tmp_path / "model", "sounds", 1, state / ARCHIVE_FOLDER))
        best = client.predict(clip, "sounds")["predictions"][0]
    finally:
        torchserve.stop(state)
    assert best["probability"] == pytest.approx(probabilities(classifier, clip)[best["class"]], abs=1e-5)
    assert (state / "logs" / "model_log.log").stat().st_size > 0


def test_socket_paths_are_short_for_any_state_folder(tmp_path):
    state = tmp_path / ("a-long-name" * 10) / "state"
    launch.prepare(state, launch.render_config(state, deploy_settings(state)))
    temporary = (state / "tmp").resolve()
    assert len(str(temporary / ".ts.sock.9000")) < 104
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700
    torchserve.stop(state)
    assert not temporary.exists()
    assert not (state / "tmp").is_symlink()


def test_port_in_use_is_named_with_a_remedy(tmp_path):
    settings = deploy_settings(tmp_path / "state")
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(settings.management.rpartition(":")[2])))
        other.listen()
        with pytest.raises(ServingError, match=r"deploy.management: port \d+ is in use.*--set deploy.inference="):
            torchserve.start(settings)
    assert torchserve.find(tmp_path / "state") is None


@pytest.mark.parametrize(
    "url",
    [
        "http://0.0.0.0:8080",
        "http://192.168.1.5:8080",
        "https://127.0.0.1:8080",
        "http://[::1]:9480",
    ],
)
def test_only_loopback_addresses_are_accepted(tmp_path, url):
    with pytest.raises(ServingError, match=r"deploy.inference: .*deploy.start=false"):
        torchserve.start(deploy_settings(tmp_path / "state", inference=url))


def test_failed_start_shows_the_log_and_leaves_nothing(tmp_path, monkeypatch):
    settings = deploy_settings(tmp_path / "state")
    render = launch.render_config
    # TorchServe ends when two of its APIs have the same port.
    monkeypatch.setattr(
        launch,
        "render_config",
        lambda state, settings: render(state, settings).replace(settings.metrics, settings.management),
    )
    message = r"TorchServe ended during its start: .*Failed to bind to address"
    with pytest.raises(ProcessError, match=message), torchserve.started(settings):
        pytest.fail("TorchServe was started")
    assert torchserve.find(tmp_path / "state") is None
    assert not (tmp_path / "state" / "tmp").exists()


def test_key_without_a_server_is_one_sentence(tmp_path):
    with pytest.raises(ServingError, match="start TorchServe with `audiocnn deploy`"):
        torchserve.inference_key(tmp_path)


def test_key_of_a_server_in_a_container_is_that_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOCNN_INFERENCE_KEYS", "new-key old-key")
    assert torchserve.inference_key(tmp_path) == "new-key"
