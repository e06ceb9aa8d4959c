"""Several trainings in one call of the step train: each has its own model folder, run and checkpoint."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.networks import small_network
from helpers.train import epochs_of, run_of, same_weights
from helpers.trainings import start_parent_run

from audiocnn.config import TrainSettings
from audiocnn.device import DeviceError
from audiocnn.training.distributed import SINGLE_PROCESS, ProcessGroup
from audiocnn.training.loop import TrainingError
from components.train import step
from mlops.artifacts import TrainingRequest
from pipeline.settings import PipelineSettings


def requests(*settings: TrainSettings, parent: str = "") -> list[TrainingRequest]:
    return [TrainingRequest(recipe="demo", settings=each, parent_run=parent) for each in settings]


def test_models_and_runs_are_those_of_single_trainings(
    spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    planned = requests(tiny.train, tiny.train.replace(seed=1, epochs=3))
    outputs = [tmp_path / "first", tmp_path / "second"]
    step.train_many(spectrogram_folder, planned, outputs, str(tmp_path / "checkpoints"))
    step.train(spectrogram_folder, planned[1], tmp_path / "alone", str(tmp_path / "checkpoints"))
    assert same_weights(tmp_path / "second", tmp_path / "alone") and not same_weights(*outputs)
    assert [epochs_of(output) for output in outputs] == [[1, 2], [1, 2, 3]]
    assert [run_of(output).info.status for output in outputs] == ["FINISHED", "FINISHED"]
    assert not list((tmp_path / "checkpoints").iterdir())


def test_one_that_fails_is_named_and_the_others_resume(
    spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = requests(tiny.train, tiny.train.replace(seed=1, max_lr=1e30), parent=start_parent_run())
    checkpoints = str(tmp_path / "checkpoints")
    with pytest.raises(TrainingError, match="max_lr") as raised:
        step.train_many(spectrogram_folder, [good, bad], [tmp_path / "good", tmp_path / "bad"], checkpoints)
    assert raised.value.__notes__ == ["Failed training: fold 2, seed 1"]
    assert not (tmp_path / "good").exists() and not (tmp_path / "bad").exists()
    step.train(spectrogram_folder, good, tmp_path / "good", checkpoints)
    assert "training was already complete in its checkpoint" in capsys.readouterr().out
    assert run_of(tmp_path / "good").info.status == "FINISHED"


def test_a_gpu_without_enough_memory_is_reported(
    spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    monkeypatch.setattr(step, "fit_many", fail)
    monkeypatch.setattr(step, "trainings_that_fit", fail)
    message = r"not enough free memory on the GPU \(CUDA out of memory\); decrease train.batch_size, or --together"
    with pytest.raises(DeviceError, match=message):
        step.train_many(spectrogram_folder, requests(tiny.train), [tmp_path / "model"], str(tmp_path / "checkpoints"))
    assert not (tmp_path / "model").exists()
    with pytest.raises(DeviceError, match=message):
        step.trainings_side_by_side(spectrogram_folder, requests(tiny.train))


@pytest.mark.parametrize(("group", "lines"), [(ProcessGroup(0, 2), 1), (SINGLE_PROCESS, 0)])
def test_a_gpu_without_a_graph_is_reported_once(
    group: ProcessGroup, lines: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr("audiocnn.training.captured.ResidentBatches", SimpleNamespace)
    clips = SimpleNamespace(clips=40, device=gpu)
    training = SimpleNamespace(network=small_network(10), train=clips, test=clips)
    step._print_sizes([training, training], gpu, group)  # type: ignore[list-item]
    assert capsys.readouterr().out.count("without a CUDA graph, so slower: 2 processes train together\n") == lines


def test_trainings_run_one_at_a_time_on_a_cpu(spectrogram_folder: Path, tiny: PipelineSettings) -> None:
    assert step.trainings_side_by_side(spectrogram_folder, requests(tiny.train, tiny.train.replace(seed=1))) == 1
