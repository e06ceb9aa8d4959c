"""Several trainings in one call, and what a training's result is."""

from pathlib import Path

import pytest
import torch
from helpers.fits import CPU, fit, same, training
from helpers.networks import replace_settings

from audiocnn.config import TrainSettings
from audiocnn.training import capacity
from audiocnn.training.capacity import trainings_that_fit
from audiocnn.training.forward import evaluate, evaluation_batch_size
from audiocnn.training.loop import TrainingError, fit_many
from audiocnn.training.schedule import one_cycle
from pipeline.settings import PipelineSettings


@pytest.fixture
def settings(tiny: PipelineSettings) -> TrainSettings:
    return replace_settings(tiny.train, epochs=2, dropout=0.5)


def test_networks_equal_those_of_separate_trainings(spectrogram_folder: Path, settings: TrainSettings) -> None:
    different = [settings, settings.replace(seed=1, fold=3), settings.replace(epochs=1, batch_size=7)]
    together, separate = ([training(spectrogram_folder, each) for each in different] for _ in range(2))
    fit_many(together)
    for each in separate:
        each.history = fit(each.network, each.train, each.test, each.settings)
    assert all(map(same, together, separate))
    assert not same(together[0], together[1])


def test_training_that_fails_is_named(spectrogram_folder: Path, settings: TrainSettings) -> None:
    trainings = [training(spectrogram_folder, settings), training(spectrogram_folder, settings.replace(max_lr=1e30))]
    trainings[0].name, trainings[1].name = "fold 2, seed 0", "fold 2, seed 1"
    with pytest.raises(TrainingError, match="max_lr") as raised:
        fit_many(trainings)
    assert raised.value.__notes__ == ["Failed training: fold 2, seed 1"]


def test_averaged_weights_are_evaluated_and_returned(spectrogram_folder: Path, settings: TrainSettings) -> None:
    raw, averaged = (training(spectrogram_folder, settings.replace(ema_horizon=share)) for share in (0, 0.4))
    fit_many([raw, averaged])
    assert [epoch.train_loss for epoch in raw.history] == [epoch.train_loss for epoch in averaged.history]
    assert not same(raw, averaged)
    last = averaged.history[-1]
    assert evaluate(averaged.network, averaged.test, settings) == (last.test_loss, last.test_accuracy)


def test_beta1_moves_against_the_learning_rate_if_it_is_cycled(settings: TrainSettings) -> None:
    cycled, fixed = (one_cycle(settings.replace(cycle_momentum=value), 100) for value in (True, False))
    assert torch.equal(cycled.lr, fixed.lr) and cycled.lr.argmax() == cycled.beta1.argmin()
    assert (cycled.beta1.min(), cycled.beta1.max()) == (pytest.approx(0.85), pytest.approx(0.95))
    assert set(fixed.beta1.tolist()) == {0.9}


def test_evaluation_uses_large_batches_on_a_gpu(settings: TrainSettings) -> None:
    assert evaluation_batch_size(settings, torch.device("cuda")) == 256
    assert evaluation_batch_size(settings, CPU) == settings.batch_size


def test_one_training_at_a_time_on_a_cpu(spectrogram_folder: Path, settings: TrainSettings) -> None:
    assert trainings_that_fit(lambda: training(spectrogram_folder, settings), CPU) == 1


@pytest.mark.parametrize(("resident_mb", "free", "expected"), [(1e6, 1000, 5), (1e6, 100, 1), (0, 1000, 1)])
def test_as_many_trainings_as_the_free_memory_holds(
    spectrogram_folder: Path,
    settings: TrainSettings,
    monkeypatch: pytest.MonkeyPatch,
    resident_mb: float,
    free: int,
    expected: int,
) -> None:
    """With 1,000 bytes free, of which 80 % are used, and a step that needs 150 bytes."""
    for name in ("empty_cache", "reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 50)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 200)
    monkeypatch.setattr(capacity, "capture_obstacle", lambda train, _: "" if hasattr(train, "select") else "streamed")
    found = trainings_that_fit(lambda: training(spectrogram_folder, settings, resident_mb), torch.device("cuda"))
    assert found == expected
