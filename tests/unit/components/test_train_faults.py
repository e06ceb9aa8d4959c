"""Injected faults: a full disk, MLflow outages, unusable checkpoints."""

import errno
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from helpers.mlflow import Proxy
from helpers.train import Train, epochs_of, run_of
from tenacity import RetryCallState, stop_after_attempt

from audiocnn.classifier import Classifier
from audiocnn.config import TrainSettings
from audiocnn.training.checkpoint import CheckpointError
from audiocnn.training.state import Epoch
from components.train import metrics
from components.train.metrics import MetricsLogger
from mlops import storage, tracking


def test_training_continues_without_checkpoints_on_a_full_disk(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: storage.FolderStore, name: str, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.FolderStore, "put", fail)
    model = train()
    output = capsys.readouterr().out
    assert output.count("cannot be written, training continues") == 1 and "No space left" in output
    assert Classifier.load(model)


def test_full_disk_at_the_end_keeps_the_training_and_no_partial_model(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Classifier, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Classifier, "save", fail)
        train()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    capsys.readouterr()
    model = train()
    output = capsys.readouterr().out
    assert "epoch" not in output and "fold 2: training was already complete in its checkpoint" in output
    assert Classifier.load(model)


def test_undeletable_checkpoint_does_not_fail_the_training(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: storage.FolderStore, names: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(storage.FolderStore, "delete", fail)
    model = train()
    assert Classifier.load(model) and run_of(model).info.status == "FINISHED"
    output = capsys.readouterr().out
    assert f"{tmp_path}/checkpoints" in output and "is not needed and cannot be deleted: [Errno 30]" in output


def test_damaged_checkpoint_is_refused_with_its_path(train: Train, checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / f"{checkpoint}.state").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CheckpointError, match=rf"{checkpoint}\.state: cannot resume.*delete it to start over"):
        train(checkpoints=str(tmp_path))
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow")
@pytest.mark.usefixtures("short_retries")
def test_training_continues_without_mlflow_and_logs_epochs_later(
    mlflow_server: str,
    train: Train,
    settings: TrainSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained = []
    with Proxy(urlsplit(mlflow_server).port or 0) as wire:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", wire.url)

        def cut(epoch: Epoch) -> None:
            trained.append(epoch.epoch)
            if epoch.epoch == 1:
                wire.cut.set()

        def restore(state: RetryCallState) -> None:
            print_failure(state)
            if state.attempt_number == 3:
                wire.cut.clear()

        print_failure = metrics._print_first_failure
        monkeypatch.setattr(metrics, "_print_first_failure", restore)
        model = train(settings.replace(epochs=6), on_epoch=cut)
        assert epochs_of(model, mlflow_server) == [1, 2, 3, 4, 5, 6] == trained
        assert run_of(model, mlflow_server).info.status == "FINISHED"
    output = capsys.readouterr().out
    assert output.count("missing epochs are logged later") == 1
    assert output.count("waiting up to 10 minutes for MLflow") == 1


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow")
@pytest.mark.usefixtures("short_retries")
def test_lasting_outage_fails_and_keeps_the_trained_state(
    mlflow_server: str,
    train: Train,
    checkpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = rf"kept in {tmp_path}/checkpoints/{checkpoint}\.state, start the same training again to log it"
    with Proxy(urlsplit(mlflow_server).port or 0) as wire:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", wire.url)
        with monkeypatch.context() as patch, pytest.raises(tracking.TrackingError, match=kept):
            patch.setattr(metrics, "BACKFILL_SECONDS", 1.0)
            train(on_epoch=lambda epoch: wire.cut.set())
        assert not (tmp_path / "model").exists()
        wire.cut.clear()
        capsys.readouterr()
        model = train()
    assert "epoch 3/3" not in capsys.readouterr().out
    assert epochs_of(model, mlflow_server) == [1, 2, 3]


class UnreachableRun:
    """A run whose MLflow records metrics but whose answers are lost while `lost` is true."""

    def __init__(self) -> None:
        self.lost, self.points = True, []

    def logged_steps(self, metric: str) -> set[int]:
        return {step for step, _ in self.points}

    def log_points(self, points: list[tuple[object, int, float]]) -> None:
        self.points += [(step, at) for _, step, at in points]
        if self.lost:
            raise tracking.TrackingError("no answer")


def epoch(number: int) -> Epoch:
    return Epoch(number, 0.1, 0.5, 0.5, None, None)


def test_failed_attempt_is_followed_by_a_pause_without_attempts() -> None:
    run = UnreachableRun()
    logger = MetricsLogger(run)
    history = [epoch(number) for number in (1, 2, 3)]
    for each in history:
        logger.log(each)
    assert [step for step, _ in run.points] == [1]
    run.lost = False
    logger.backfill(history)
    assert [step for step, _ in run.points] == [1, 2, 3]  # the first was recorded although its answer was lost


def test_attempts_resume_after_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 70.0, 600.0, 671.0, 672.0])  # the failed attempt ends at 70 s
    monkeypatch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: next(clock), time=time.time))
    run = UnreachableRun()
    logger = MetricsLogger(run)
    for number in (1, 2, 3):
        logger.log(epoch(number))
    assert [step for step, _ in run.points] == [1, 1, 2, 3]
    assert run.points[0] == run.points[1], "the same point again, which MLflow stores once"


def test_short_epochs_are_logged_together(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.1, 12.0, 19.0, 20.2, 20.3, 21.0])
    monkeypatch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: next(clock), time=time.time))
    run, requests = UnreachableRun(), []
    run.log_points = lambda points: requests.append([step for _, step, _ in points])
    logger = MetricsLogger(run)
    for number in (1, 2, 3, 4, 5):
        logger.log(epoch(number))
    assert requests == [[1], [2, 3, 4]]
    logger.backfill([epoch(number) for number in (1, 2, 3, 4, 5)])
    assert requests[2] == [1, 2, 3, 4, 5], "what MLflow does not have at the end"


@pytest.mark.usefixtures("short_retries")
def test_attempts_for_one_epoch_have_the_same_timestamp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "stop_after_delay", lambda seconds: stop_after_attempt(3))
    run = UnreachableRun()
    monkeypatch.setattr(run, "logged_steps", lambda metric: set())  # its request is still being processed
    logger = MetricsLogger(run)
    logger.log(epoch(1))
    with pytest.raises(tracking.TrackingError, match="no answer"):
        logger.backfill([epoch(1)])
    assert len(run.points) == 4 and len(set(run.points)) == 1


def test_failure_before_the_training_does_not_mention_a_checkpoint(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: tracking.Run, metric: str) -> set[int]:
        raise tracking.TrackingError("not now")

    monkeypatch.setattr(tracking.Run, "logged_steps", fail)
    with pytest.raises(tracking.TrackingError, match=r"^not now$"):
        train()
