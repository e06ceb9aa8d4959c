"""What may go wrong around a training, injected: kills, a full disk, an MLflow that goes away, checkpoints on S3."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pytest
import torch
from safetensors.torch import load_file
from support import ROOT, read_json
from support_mlflow import Wire

from audiocnn.classifier import Classifier
from audiocnn.params import Params
from audiocnn.settings import TrainSettings
from components import stores, tracking, tracking_live
from components.train import step
from components.train.checkpoints import StoredCheckpoints

ARGUMENTS = ["recipe=demo", "device=cpu", "fold=2", "epochs=4", "batch_size=16", "checkpoint_minutes=0"]
ARGUMENTS += ["architecture.width=0.0625", "augment.mix=power"]


def start_training(spectrograms: Path, folder: Path) -> subprocess.Popen[str]:
    options = ["--spectrograms", str(spectrograms), "--output", str(folder / "model")]
    options += ["--checkpoints", str(folder / "checkpoints")]
    options += [part for argument in ARGUMENTS for part in ("--set", f"train.{argument}")]
    return subprocess.Popen(
        [sys.executable, "-m", "components.train", *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


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
            while not list((broken / "checkpoints").glob("*.pt")):
                assert process.poll() is None
                time.sleep(0.005)
        else:
            assert process.stdout is not None
            assert any(stop in line for line in process.stdout), "the training ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (broken / "model").exists()
    last = start_training(spectrogram_folder, broken)
    said = last.communicate()[0]
    assert last.returncode == 0 and "epoch 1/" not in said
    expected, found = weights(tmp_path / "unbroken" / "model"), weights(broken / "model")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    # One MLflow run, with every epoch once, though three processes could not end theirs.
    run = read_json(broken / "model" / "run.json")["run_id"]
    points = mlflow.MlflowClient().get_metric_history(run, "train_loss")
    assert sorted({point.step for point in points}) == [1, 2, 3, 4]
    assert not list((broken / "checkpoints").iterdir())


@pytest.fixture
def settings(tiny: Params) -> TrainSettings:
    return dataclasses.replace(tiny.train, epochs=3, checkpoint_minutes=0.0)


def test_a_full_disk_costs_checkpoints_and_not_the_training(
    spectrogram_folder: Path,
    settings: TrainSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(self: stores.FolderStore, name: str, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stores.FolderStore, "put", full)
    step.train(spectrogram_folder, settings, tmp_path / "model", str(tmp_path / "checkpoints"))
    said = capsys.readouterr().out
    assert said.count("no checkpoint could be written") == 1 and "No space left" in said
    assert Classifier.load(tmp_path / "model")


def test_a_disk_that_is_full_at_the_end_keeps_the_training_and_leaves_no_half_model(
    spectrogram_folder: Path,
    settings: TrainSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(self: Classifier, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space left"):
        broken.setattr(Classifier, "save", full)
        step.train(spectrogram_folder, settings, tmp_path / "model", str(tmp_path / "checkpoints"))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    capsys.readouterr()
    step.train(spectrogram_folder, settings, tmp_path / "model", str(tmp_path / "checkpoints"))
    assert "epoch" not in capsys.readouterr().out  # nothing was trained again
    assert Classifier.load(tmp_path / "model")


def test_checkpoints_on_s3_resume_on_another_machine(
    spectrogram_folder: Path, settings: TrainSettings, tmp_path: Path, s3: str
) -> None:
    class Killed(BaseException):
        pass

    root = f"{s3}/checkpoints"
    unbroken = tmp_path / "unbroken"
    step.train(spectrogram_folder, settings, unbroken, str(tmp_path / "local"))
    write, writes = StoredCheckpoints.write, []

    def dies(self: StoredCheckpoints, content: bytes) -> None:
        write(self, content)
        writes.append(len(content))
        if len(writes) == 5:
            raise Killed

    with pytest.MonkeyPatch.context() as broken, pytest.raises(Killed):
        broken.setattr(StoredCheckpoints, "write", dies)
        step.train(spectrogram_folder, settings, tmp_path / "model", root)
    assert {entry.name.rpartition(".")[2] for entry in stores.open_store(root).list()} == {"pt", "json"}
    step.train(spectrogram_folder, settings, tmp_path / "model", root)
    expected, found = weights(unbroken), weights(tmp_path / "model")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not list(stores.open_store(root).list())


def test_a_broken_checkpoint_is_one_sentence_that_names_it(
    spectrogram_folder: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    from audiocnn.dataset import SpectrogramSet
    from audiocnn.training import fingerprint
    from components.revision import software

    name = fingerprint(settings, SpectrogramSet.open(spectrogram_folder).spec, software())
    (tmp_path / f"{name}.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(Exception, match=rf"{name}\.pt.*delete it to start anew"):
        step.train(spectrogram_folder, settings, tmp_path / "model", str(tmp_path))
    assert not (tmp_path / "model").exists()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(tracking_live, "RETRY_SECONDS", 0.2)


def test_a_number_that_no_chart_shows_is_refused_at_once_and_not_sent_for_ever() -> None:
    with tracking.start_run("nan", {}, {}, tracking.Lineage("ab" * 32, "demo", 1)) as run:
        send = tracking.LiveMetrics(run)
        with pytest.raises(tracking.TrackingError, match="'test_loss' is nan at step 3"):
            send({"test_loss": float("nan")}, 3)
        send.finish(5.0)


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow")
@pytest.mark.usefixtures("impatient")
def test_training_goes_on_without_mlflow_and_sends_the_curves_later(
    mlflow_server: str,
    spectrogram_folder: Path,
    settings: TrainSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    longer = dataclasses.replace(settings, epochs=6)
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
        step.train(spectrogram_folder, longer, tmp_path / "model", str(tmp_path / "checkpoints"))
        run = read_json(tmp_path / "model" / "run.json")["run_id"]
        client = mlflow.MlflowClient(mlflow_server)
        points = client.get_metric_history(run, "test_accuracy")
        assert sorted(point.step for point in points) == [1, 2, 3, 4, 5, 6] == trained
        assert client.get_run(run).info.status == "FINISHED"
    said = capsys.readouterr().out
    assert said.count("going on without, and trying again") == 1 and said.count("MLflow answers again") == 1


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow")
@pytest.mark.usefixtures("impatient")
def test_an_mlflow_that_stays_away_ends_in_one_sentence_and_costs_no_training(
    mlflow_server: str,
    spectrogram_folder: Path,
    settings: TrainSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(step, "PATIENCE_SECONDS", 1.0)
    where = tmp_path / "model", str(tmp_path / "checkpoints")
    with Wire(urlsplit(mlflow_server).port or 0) as wire:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", wire.url)
        with monkeypatch.context() as broken, pytest.raises(tracking.TrackingError):
            broken.setattr(step, "_said", lambda epoch, settings: wire.cut.set())
            step.train(spectrogram_folder, settings, *where)
        assert "start it again to record it" in capsys.readouterr().out and not where[0].exists()
        wire.cut.clear()
        step.train(spectrogram_folder, settings, *where)
    run = read_json(where[0] / "run.json")["run_id"]
    points = mlflow.MlflowClient(mlflow_server).get_metric_history(run, "train_loss")
    assert sorted({point.step for point in points}) == [1, 2, 3]
