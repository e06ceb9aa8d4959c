"""The main process of a container and its readiness probe, without TorchServe."""

import json
import socket
import subprocess
import sys

import psutil
import pytest
from helpers.project import ROOT
from helpers.torchserve import free_ports

from audiocnn.errors import AudioCNNError
from serving.torchserve import ready, start
from serving.torchserve.client import TorchServeClient

REQUIRED = {"AUDIOCNN_MODEL_STORE": "s3://bucket/models", "AUDIOCNN_INFERENCE_KEYS": "key"}
TRAINING_PACKAGES = ["mlflow", "kfp", "kubernetes", "kubeflow", "dvc", "pandas", "torch"]


def test_settings_are_those_of_the_environment():
    settings = start.settings_from(REQUIRED)
    assert (settings.inference, settings.management) == ("http://0.0.0.0:8080", "http://0.0.0.0:8081")
    assert (settings.state, settings.max_request_bytes) == ("var/torchserve", 10485760)
    assert start.settings_from({**REQUIRED, "AUDIOCNN_TORCHSERVE_STATE": ""}) == settings
    changed = start.settings_from({**REQUIRED, "AUDIOCNN_TORCHSERVE_STATE": "/s", "AUDIOCNN_MAX_REQUEST_BYTES": "7"})
    assert (changed.state, changed.max_request_bytes) == ("/s", 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"AUDIOCNN_MODEL_STORE": ""}, "AUDIOCNN_MODEL_STORE is not set; set it to a folder or s3://bucket/prefix"),
        ({"AUDIOCNN_INFERENCE_KEYS": "  "}, "AUDIOCNN_INFERENCE_KEYS is not set; set it to the keys"),
        ({"AUDIOCNN_MAX_REQUEST_BYTES": "10 MB"}, "AUDIOCNN_MAX_REQUEST_BYTES: .*10 MB"),
        ({"AUDIOCNN_MAX_REQUEST_BYTES": "0"}, "AUDIOCNN_MAX_REQUEST_BYTES: .*0"),
    ],
)
def test_missing_or_malformed_variables_are_named(changes, message):
    with pytest.raises(AudioCNNError, match=message):
        start.settings_from({**REQUIRED, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"AUDIOCNN_MODEL_STORE": "ftp://bucket"},
            "'ftp://bucket' is not a valid address; expected a folder or s3://bucket/prefix",
        ),
        (
            {"AUDIOCNN_MODEL_STORE": "models", "AUDIOCNN_TORCHSERVE_STATE": "/dev/null/state"},
            "[Errno 20] Not a directory: '/dev/null/state/model-store'; AUDIOCNN_TORCHSERVE_STATE has to be a folder "
            "that this user can write to",
        ),
    ],
)
def test_error_is_one_sentence_and_the_status_2(tmp_path, changes, message):
    variables = {**REQUIRED, **changes}
    command = [sys.executable, "-m", "serving.torchserve.start"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), **variables}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {message}\n"


def test_a_container_imports_no_packages_for_training():
    code = "import json, sys, serving.torchserve.start, serving.torchserve.ready; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not packages.intersection(TRAINING_PACKAGES)


def test_container_without_torchserve_is_not_ready(monkeypatch, capsys):
    address = f"http://127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setattr(ready, "TorchServeClient", lambda *_, **__: TorchServeClient(address, address))
    assert ready.main() == 1
    assert "cannot be reached (Connection refused)" in capsys.readouterr().out


@pytest.mark.parametrize("listens", [True, False])
def test_torchserve_without_an_answer_hangs(listens):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert start.hangs(TorchServeClient(address, address, max_timeout=0.2), psutil.Process())
