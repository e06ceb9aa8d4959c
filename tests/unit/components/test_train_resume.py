"""A training that was killed goes on: with the bits of an unbroken one, and in one MLflow run with every epoch once."""

import signal
from pathlib import Path

import mlflow
import pytest
from helpers.train import (
    Killed,
    Train,
    epochs_of,
    kept_until,
    killed_after,
    run_of,
    same_weights,
    start_training,
    wait_for_checkpoint,
)

from components.train import step
from mlops import stores
from mlops.checkpoint_store import CheckpointStore


@pytest.mark.slow
def test_a_training_killed_at_three_points_ends_in_the_bits_of_an_unbroken_one(
    spectrogram_folder: Path, tmp_path: Path
) -> None:
    unbroken = start_training(spectrogram_folder, tmp_path / "unbroken")
    assert unbroken.communicate()[0] and unbroken.returncode == 0

    broken = tmp_path / "broken"
    for stop in ("checkpoint", "epoch 2/", "epoch 3/"):
        process = start_training(spectrogram_folder, broken)
        if stop == "checkpoint":  # in the middle of the first epoch, as soon as there is something to resume from
            wait_for_checkpoint(process, broken)
        else:
            assert process.stdout is not None
            assert any(stop in line for line in process.stdout), "the training ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (broken / "model").exists()
    last = start_training(spectrogram_folder, broken)
    said = last.communicate()[0]
    assert last.returncode == 0 and "epoch 1/" not in said
    assert same_weights(tmp_path / "unbroken" / "model", broken / "model")
    # One MLflow run, with every epoch once, though three processes could not end theirs.
    assert epochs_of(broken / "model") == [1, 2, 3, 4]
    assert not list((broken / "checkpoints").iterdir())


def interrupted(train: Train, kept: int, killed: int) -> str:
    """A try that wrote its last checkpoint before epoch `kept` ended, and was killed after `killed`; its MLflow run."""
    with pytest.MonkeyPatch.context() as broken:
        kept_until(kept, broken)
        killed_after(killed, broken)
        begun, start = [], step.tracking.start_run
        broken.setattr(step.tracking, "start_run", lambda **named: begun.append(start(**named)) or begun[-1])
        with pytest.raises(Killed):
            train()
    (run,) = begun
    return str(run.run_id)


def test_an_epoch_that_is_trained_again_is_recorded_once(train: Train) -> None:
    run = interrupted(train, kept=2, killed=3)
    model = train()
    assert run_of(model).info.run_id == run and epochs_of(model) == [1, 2, 3]


def test_a_training_killed_before_its_first_checkpoint_goes_on_in_its_run(train: Train, tmp_path: Path) -> None:
    run = interrupted(train, kept=1, killed=1)
    assert not list((tmp_path / "checkpoints").glob("*.pt"))
    model = train()
    assert run_of(model).info.run_id == run and epochs_of(model) == [1, 2, 3]
    assert run_of(model).info.status == "FINISHED"


def test_the_weights_outlive_a_deleted_run_and_its_whole_history_goes_to_a_new_one(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupted(train, kept=3, killed=2)
    mlflow.MlflowClient().delete_run(run)
    capsys.readouterr()
    model = train()
    said = capsys.readouterr().out
    assert f"MLflow has no run {run} (any more)" in said and "epoch 1/" not in said
    assert run_of(model).info.run_id != run and epochs_of(model) == [1, 2, 3]


def test_the_weights_outlive_an_mlflow_that_is_another_one_now(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(train, kept=3, killed=2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    capsys.readouterr()
    model = train()
    assert "epoch 1/" not in capsys.readouterr().out and epochs_of(model) == [1, 2, 3]


@pytest.mark.parametrize("memo", [b"{", b"{}", b"[]", b"\xff"])
def test_a_memo_that_is_damaged_costs_the_run_and_not_the_weights(
    memo: bytes, train: Train, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupted(train, kept=3, killed=2)
    (tmp_path / "checkpoints" / f"{checkpoint}.json").write_bytes(memo)
    capsys.readouterr()
    model = train()
    said = capsys.readouterr().out
    assert f"{checkpoint}.json" in said and "is damaged" in said and "epoch 1/" not in said
    assert run_of(model).info.run_id != run and epochs_of(model) == [1, 2, 3]


def test_checkpoints_on_s3_resume_on_another_machine(train: Train, tmp_path: Path, s3: str) -> None:
    root = f"{s3}/checkpoints"
    unbroken = train(output="unbroken", checkpoints=str(tmp_path / "local"))
    write, writes = CheckpointStore.write, []

    def dies(self: CheckpointStore, content: bytes) -> None:
        write(self, content)
        writes.append(len(content))
        if len(writes) == 5:
            raise Killed

    with pytest.MonkeyPatch.context() as broken, pytest.raises(Killed):
        broken.setattr(CheckpointStore, "write", dies)
        train(checkpoints=root)
    assert {entry.name.rpartition(".")[2] for entry in stores.open_store(root).list()} == {"pt", "json"}
    assert same_weights(unbroken, train(checkpoints=root))
    assert not list(stores.open_store(root).list())
