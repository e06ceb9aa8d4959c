"""Resuming: bit-identical weights, and one MLflow run with every epoch once."""

import signal
from pathlib import Path

import mlflow
import pytest
from helpers.train import (
    Killed,
    Train,
    drop_checkpoints,
    epochs_of,
    kill_after,
    run_of,
    same_weights,
    start_training,
)

from components.train import step
from mlops.checkpoint_store import CheckpointStore
from mlops.storage import open_store

STEPS_PER_EPOCH = 3  # and one more checkpoint at the end


@pytest.mark.slow
@pytest.mark.timeout(600)  # five processes
def test_training_killed_three_times_gives_identical_weights(spectrogram_folder: Path, tmp_path: Path) -> None:
    uninterrupted = start_training(spectrogram_folder, tmp_path / "uninterrupted")
    output = uninterrupted.communicate()[0]
    assert uninterrupted.returncode == 0, output

    killed = tmp_path / "killed"
    # In the middle of the first epoch, as soon as there is something to resume from, and between two epochs.
    for moment in ("first checkpoint", "epoch 2/", "epoch 3/"):
        process = start_training(spectrogram_folder, killed, stop_at=moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (killed / "model").exists()
    last = start_training(spectrogram_folder, killed)
    output = last.communicate()[0]
    assert last.returncode == 0 and "epoch 1/" not in output
    assert output.count("resuming from a checkpoint in epoch ") == 1
    assert same_weights(tmp_path / "uninterrupted" / "model", killed / "model")
    assert epochs_of(killed / "model") == [1, 2, 3, 4]
    assert not list((killed / "checkpoints").iterdir())


def interrupt(train: Train, checkpoints: int, after_epoch: int) -> str:
    """Kill a training after an epoch, with a limited number of checkpoints written; return its MLflow run id."""
    with pytest.MonkeyPatch.context() as patch:
        drop_checkpoints(checkpoints, patch)
        started, start = [], step.tracking.start_run
        patch.setattr(step.tracking, "start_run", lambda **named: started.append(start(**named)) or started[-1])
        with pytest.raises(Killed):
            train(on_epoch=kill_after(after_epoch))
    (run,) = started
    return str(run.run_id)


def test_repeated_epoch_is_logged_once(train: Train) -> None:
    run_id = interrupt(train, checkpoints=STEPS_PER_EPOCH + 1, after_epoch=3)
    model = train()
    assert run_of(model).info.run_id == run_id and epochs_of(model) == [1, 2, 3]


def test_training_without_a_checkpoint_continues_in_its_run(train: Train, tmp_path: Path) -> None:
    run_id = interrupt(train, checkpoints=0, after_epoch=1)
    assert not list((tmp_path / "checkpoints").glob("*.state"))
    model = train()
    assert run_of(model).info.run_id == run_id and epochs_of(model) == [1, 2, 3]
    assert run_of(model).info.status == "FINISHED"


def test_whole_history_is_logged_to_a_new_run_if_the_old_is_deleted(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = interrupt(train, checkpoints=100, after_epoch=2)
    mlflow.MlflowClient().delete_run(run_id)
    capsys.readouterr()
    model = train()
    output = capsys.readouterr().out
    assert f"MLflow has no run {run_id}" in output and "epoch 1/" not in output
    assert run_of(model).info.run_id != run_id and epochs_of(model) == [1, 2, 3]


def test_training_resumes_with_another_mlflow(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(train, checkpoints=100, after_epoch=2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    capsys.readouterr()
    model = train()
    assert "epoch 1/" not in capsys.readouterr().out and epochs_of(model) == [1, 2, 3]


def test_training_resumes_from_s3(train: Train, tmp_path: Path, s3: str) -> None:
    root = f"{s3}/checkpoints"
    uninterrupted = train(output="uninterrupted", checkpoints=str(tmp_path / "local"))
    write, writes = CheckpointStore.write, []

    def write_five(self: CheckpointStore, content: bytes) -> None:
        write(self, content)
        writes.append(content)
        if len(writes) == 5:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(CheckpointStore, "write", write_five)
        train(checkpoints=root)
    assert {entry.name.rpartition(".")[2] for entry in open_store(root).list()} == {"state", "run"}
    assert same_weights(uninterrupted, train(checkpoints=root))
    assert not list(open_store(root).list())
