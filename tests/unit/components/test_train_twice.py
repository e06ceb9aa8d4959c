"""The same training started twice at the same time: one of the two trains, and MLflow shows every epoch once."""

import errno
import os
import signal
from pathlib import Path
from typing import Any

import mlflow
import pytest
from filelock import FileLock
from helpers.train import (
    Killed,
    Train,
    epochs_of,
    killed_after,
    run_of,
    same_weights,
    start_training,
    wait_for_checkpoint,
)

from audiocnn.classifier import Classifier
from audiocnn.config import TrainSettings
from audiocnn.training.loop import Epoch
from components.train import step
from mlops import stores
from mlops.checkpoint_store import AlreadyRunningError, CheckpointStore


@pytest.mark.slow
def test_the_second_process_says_so_and_writes_nothing(
    spectrogram_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/own.db")
    first = start_training(spectrogram_folder, tmp_path)
    wait_for_checkpoint(first, tmp_path)
    first.send_signal(signal.SIGSTOP)  # it lives, and goes on only once the second has been refused
    second = start_training(spectrogram_folder, tmp_path, "--output", str(tmp_path / "second"))
    said = second.communicate()[0]
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2 and "Traceback" not in said
    assert f"the same training is under way, by process {first.pid} on {os.uname().nodename}; wait for it, or" in said
    assert first.wait(120) == 0 and not (tmp_path / "second").exists()
    assert epochs_of(tmp_path / "model") == [1, 2, 3, 4] and not list((tmp_path / "checkpoints").iterdir())
    assert len(mlflow.search_runs(search_all_experiments=True, output_format="list")) == 1


def test_a_lock_ends_with_its_block_and_keeps_no_other_training_away(tmp_path: Path) -> None:
    with CheckpointStore(str(tmp_path), "a").held():
        with pytest.raises(AlreadyRunningError, match="under way"), CheckpointStore(str(tmp_path), "a").held():
            pass
        with CheckpointStore(str(tmp_path), "b").held():
            pass
    with CheckpointStore(str(tmp_path), "a").held():
        pass
    assert not list(tmp_path.iterdir())


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A folder for checkpoints on a disk that knows no locks."""
    acquire = FileLock.acquire

    def unknown(self: FileLock, *given: Any, **named: Any) -> Any:
        if "unlocked" in self.lock_file:
            raise OSError(errno.ENOLCK, "No locks available")
        return acquire(self, *given, **named)

    monkeypatch.setattr(FileLock, "acquire", unknown)
    return str(tmp_path / "unlocked")


def test_a_disk_that_knows_no_locks_is_told_and_trained_on(
    train: Train, without_locks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Classifier.load(train(checkpoints=without_locks))
    assert "cannot be locked; start this training once only: [Errno 37] No locks" in capsys.readouterr().out


@pytest.fixture(params=["s3", "without_locks"])
def lockless(request: pytest.FixtureRequest) -> str:
    """A place for checkpoints in which no lock keeps a second process away."""
    return str(request.getfixturevalue(request.param))


def started_again(train: Train, first: TrainSettings, root: str, killed: bool) -> str:
    """What the first of two trainings says, the second of which begins after its first epoch and ends, or is killed."""
    said, begun = step._said, []

    def second(epoch: Epoch, settings: TrainSettings) -> None:
        said(epoch, settings)
        if begun:
            return
        begun.append(epoch)
        with pytest.MonkeyPatch.context() as patch:
            if killed:
                killed_after(2, patch)
                with pytest.raises(Killed):
                    train(checkpoints=root, output="second")
            else:
                train(checkpoints=root, output="second")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(AlreadyRunningError) as raised:
        patch.setattr(step, "_said", second)
        train(first, checkpoints=root, output="first")
    return str(raised.value)


def test_without_a_lock_the_first_stops_where_a_second_goes_on(
    train: Train, settings: TrainSettings, tmp_path: Path, lockless: str
) -> None:
    seldom = settings.replace(checkpoint_minutes=1e6)  # it must not need a checkpoint to notice
    said = started_again(train, seldom, lockless, killed=True)
    assert f"process {os.getpid()} on {os.uname().nodename} was started with the same training and goes on" in said
    third = train(checkpoints=lockless, output="third")
    assert epochs_of(third) == [1, 2, 3] and not (tmp_path / "first").exists()
    assert same_weights(third, train(output="unbroken"))


def test_without_a_lock_the_first_stops_where_a_second_has_ended(
    train: Train, settings: TrainSettings, tmp_path: Path, lockless: str
) -> None:
    assert "another process has ended the same training" in started_again(train, settings, lockless, killed=False)
    run = run_of(tmp_path / "second")
    assert run.info.status == "FINISHED" and "failure" not in run.data.tags
    assert epochs_of(tmp_path / "second") == [1, 2, 3] and not (tmp_path / "first").exists()
    assert not list(stores.open_store(lockless).list())
