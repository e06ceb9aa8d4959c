"""What is said after a change of the champion that fails twice."""

import pytest

from components.deploy.champion_change import ChampionChangeError, _failed_step, _move_and_switch
from mlops import tracking
from mlops.tracking import champion
from serving.torchserve.client import ServingError


class BrokenRollout:
    """A rollout whose TorchServe stops before the switch."""

    def switch(self) -> None:
        raise ServingError("connection refused")


def test_a_champion_that_was_not_restored_is_not_called_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise tracking.TrackingError("MLflow cannot be reached")

    monkeypatch.setattr(tracking, "champion_number", lambda _: None)
    monkeypatch.setattr(champion, "move_back", fail)
    version = tracking.Version("sounds", 2, "run")
    with pytest.raises(ChampionChangeError) as raised, _failed_step(version):
        _move_and_switch(version, lambda: None, BrokenRollout())
    message = str(raised.value)
    assert "'restore the previous champion' failed: MLflow cannot be reached\n`audiocnn status` shows" in message
    assert "as before" not in message
