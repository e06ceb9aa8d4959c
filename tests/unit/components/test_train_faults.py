"""What may go wrong around a training, injected: a full disk, an MLflow that goes away, checkpoints that are no use."""

import errno
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from helpers.mlflow import Wire
from helpers.train import Train, epochs_of, run_of

from audiocnn.classifier import Classifier
from audiocnn.config import TrainSettings
from audiocnn.training.checkpoint import CheckpointError
from components.train import step
from mlops import stores, tracking


def test_a_full_disk_costs_checkpoints_and_not_the_training(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: stores.FolderStore, name: str, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stores.FolderStore, "put", full)
    model = train()
    said = capsys.readouterr().out
    assert said.count("none could be written") == 1 and "No space left" in said
    assert Classifier.load(model)


def test_a_disk_that_is_full_at_the_end_keeps_the_training_and_leaves_no_half_model(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: Classifier, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space left"):
        broken.setattr(Classifier, "save", full)
        train()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    capsys.readouterr()
    model = train()
    assert "epoch" not in capsys.readouterr().out  # nothing was trained again
    assert Classifier.load(model)


def test_a_checkpoint_that_cannot_be_removed_does_not_fail_the_training(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(self: stores.FolderStore, names: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(stores.FolderStore, "delete", refused)
    model = train()
    assert Classifier.load(model) and run_of(model).info.status == "FINISHED"
    said = capsys.readouterr().out
    assert f"{tmp_path}/checkpoints" in said and "cannot be removed: [Errno 30] Read-only" in said


def test_a_broken_checkpoint_is_one_sentence_that_names_it(train: Train, checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / f"{checkpoint}.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CheckpointError, match=rf"{checkpoint}\.pt.*delete it to start anew"):
        train(checkpoints=str(tmp_path))
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow")
@pytest.mark.usefixtures("impatient")
def test_training_goes_on_without_mlflow_and_sends_the_curves_later(
    mlflow_server: str,
    train: Train,
    settings: TrainSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained = []
    with Wire(urlsplit(mlflow_server).port or 0) as wire:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", wire.url)
        metrics = tracking.LiveMetrics.__call__

        def cuts(self: tracking.LiveMetrics, values: dict[str, float], epoch: int) -> None:
            if epoch == 2:
                wire.cut.set()
            if epoch == 6:  # every epoch was trained before the server came back
                threading.Timer(1.0, wire.cut.clear).start()
            metrics(self, values, epoch)
            trained.append(epoch)

        monkeypatch.setattr(tracking.LiveMetrics, "__call__", cuts)
        model = train(settings.replace(epochs=6))
        assert epochs_of(model, mlflow_server) == [1, 2, 3, 4, 5, 6] == trained
        assert run_of(model, mlflow_server).info.status == "FINISHED"
    said = capsys.readouterr().out
    assert said.count("going on without, and trying again") == 1 and said.count("MLflow answers again") == 1


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow")
@pytest.mark.usefixtures("impatient")
def test_an_mlflow_that_stays_away_ends_in_one_sentence_and_costs_no_training(
    mlflow_server: str,
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Wire(urlsplit(mlflow_server).port or 0) as wire:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", wire.url)
        with monkeypatch.context() as broken, pytest.raises(tracking.TrackingError):
            broken.setattr(step, "PATIENCE_SECONDS", 1.0)
            broken.setattr(step, "_said", lambda epoch, settings: wire.cut.set())
            train()
        assert "start it again to record it" in capsys.readouterr().out and not (tmp_path / "model").exists()
        wire.cut.clear()
        model = train()
    assert epochs_of(model, mlflow_server) == [1, 2, 3]


def test_what_mlflow_refuses_before_anything_was_trained_is_not_called_trained(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(self: tracking.Run, metric: str) -> set[int]:
        raise tracking.TrackingError("not now")

    monkeypatch.setattr(tracking.Run, "steps", refuses)
    with pytest.raises(tracking.TrackingError, match="not now"):
        train()
    assert "start it again" not in capsys.readouterr().out
