"""The lock of a checkpoint folder: one process at a time."""

import errno
import os
import signal
from pathlib import Path
from typing import Any

import mlflow
import pytest
from filelock import FileLock
from helpers.train import Train, epochs_of, start_training

from audiocnn.classifier import Classifier
from mlops.checkpoint_store import AlreadyRunningError, CheckpointStore


@pytest.mark.slow
def test_second_process_is_refused_and_writes_nothing(
    spectrogram_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/own.db")
    first = start_training(spectrogram_folder, tmp_path, stop_at="first checkpoint")
    second = start_training(spectrogram_folder, tmp_path, "--output", str(tmp_path / "second"))
    output = second.communicate()[0]
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2 and "Traceback" not in output
    assert f": process {first.pid} on {os.uname().nodename} runs the same training; wait for it, or" in output
    assert first.wait(120) == 0 and not (tmp_path / "second").exists()
    assert epochs_of(tmp_path / "model") == [1, 2, 3, 4] and not list((tmp_path / "checkpoints").iterdir())
    assert len(mlflow.search_runs(search_all_experiments=True, output_format="list")) == 1


def test_lock_is_exclusive_for_one_training_until_released(tmp_path: Path) -> None:
    with CheckpointStore(str(tmp_path), "a").lock():
        with pytest.raises(AlreadyRunningError, match="same training"), CheckpointStore(str(tmp_path), "a").lock():
            pass
        with CheckpointStore(str(tmp_path), "b").lock():
            pass
    with CheckpointStore(str(tmp_path), "a").lock():
        pass
    assert not list(tmp_path.iterdir())


def test_file_system_without_locks_is_reported_and_used(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    acquire = FileLock.acquire

    def fail(self: FileLock, *args: Any, **kwargs: Any) -> Any:
        if "checkpoints" in self.lock_file:
            raise OSError(errno.ENOLCK, "No locks available")
        return acquire(self, *args, **kwargs)

    monkeypatch.setattr(FileLock, "acquire", fail)
    assert Classifier.load(train())
    assert "cannot be locked, so start this training only once: [Errno 37] No locks" in capsys.readouterr().out
