"""How deploy retires a version of TorchServe."""

import pytest

from components.deploy.rollout import _drain
from serving.torchserve.client import ServedVersion, ServingError, TorchServeClient


@pytest.mark.parametrize(
    ("ready", "answers", "asked"),
    [
        (1, [503, 503, None], 3),  # a full queue empties
        (1, [500], 1),
        (0, [503], 1),  # no worker: it will never answer
    ],
)
def test_full_queue_is_drained_before_its_version_is_unregistered(ready, answers, asked, monkeypatch):
    client, calls = TorchServeClient("http://127.0.0.1:1", "http://127.0.0.1:1"), []

    def predict(clip: bytes, name: str, version: str) -> dict:
        calls.append(version)
        if status := answers[len(calls) - 1]:
            raise ServingError("refused", status)
        return {}

    monkeypatch.setattr(client, "predict", predict)
    try:
        _drain(client, "sounds", ServedVersion("1.0", ready, {}), b"")
    except ServingError as error:
        assert error.status == answers[-1]
    assert calls == ["1.0"] * asked
