"""fit(): it learns, it repeats itself, a killed run continues, and impossible losses stop it."""

import dataclasses
from pathlib import Path

import pytest
import torch

from audiocnn.dataset import Batches, SpectrogramSet, split
from audiocnn.model import AudioCNN
from audiocnn.params import Params
from audiocnn.settings import TrainSettings
from audiocnn.training import Epoch, TrainingError, fingerprint, fit


@pytest.fixture
def settings(tiny: Params) -> TrainSettings:
    return dataclasses.replace(tiny.train, epochs=4, checkpoint_minutes=0.0)


def batches(folder: Path, settings: TrainSettings) -> tuple[Batches, Batches]:
    data = SpectrogramSet.open(folder)
    first, second = (Batches(data, rows, settings.batch_size, torch.device("cpu")) for rows in split(data.clips, 2))
    return first, second


def network(settings: TrainSettings) -> AudioCNN:
    torch.manual_seed(settings.seed)
    return AudioCNN(10, settings.width, settings.dropout)


def same(first: AudioCNN, second: AudioCNN) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


class Killed(Exception):
    pass


@pytest.mark.parametrize("kill_after", [1, 2, 3])
def test_a_killed_run_resumes_to_bit_identical_weights(
    spectrogram_folder: Path, settings: TrainSettings, tmp_path: Path, kill_after: int
) -> None:
    data = batches(spectrogram_folder, settings)
    unbroken = network(settings)
    history = fit(unbroken, *data, settings, lambda epoch: None)

    def kill(epoch: Epoch) -> None:
        if epoch.epoch == kill_after + 1:
            raise Killed

    with pytest.raises(Killed):
        fit(network(settings), *data, settings, kill, tmp_path / "last.pt")
    resumed, seen = network(settings), []
    assert fit(resumed, *data, settings, lambda epoch: seen.append(epoch.epoch), tmp_path / "last.pt") == history
    assert seen == list(range(kill_after + 1, 5))
    assert same(resumed, unbroken)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    spectrogram_folder: Path, settings: TrainSettings
) -> None:
    short = dataclasses.replace(settings, epochs=1)
    data = batches(spectrogram_folder, short)
    networks = [network(short) for _ in range(3)]
    for net, seed in zip(networks, (0, 0, 1), strict=True):
        fit(net, *data, dataclasses.replace(short, seed=seed), lambda epoch: None)
    assert same(networks[0], networks[1]) and not same(networks[0], networks[2])


def test_training_lowers_the_loss_and_follows_the_one_cycle_schedule(
    spectrogram_folder: Path, settings: TrainSettings
) -> None:
    longer = dataclasses.replace(
        settings, epochs=14, mixup_share=0.0, freq_mask=0, time_mask=0, dropout=0.0, label_smoothing=0.0
    )
    history = fit(network(longer), *batches(spectrogram_folder, longer), longer, lambda epoch: None)
    assert history[-1].train_loss < 0.6 * history[0].train_loss
    assert history[0].lr == pytest.approx(longer.max_lr / 25)
    assert max(epoch.lr for epoch in history) > 0.8 * longer.max_lr > 10 * history[-1].lr


def test_bf16_trains_too(spectrogram_folder: Path, settings: TrainSettings) -> None:
    short = dataclasses.replace(settings, epochs=1, precision="bf16")
    history = fit(network(short), *batches(spectrogram_folder, short), short, lambda epoch: None)
    assert 0 < history[0].train_loss < 10


def test_a_loss_that_is_no_number_stops_and_says_where(spectrogram_folder: Path, settings: TrainSettings) -> None:
    train, test = batches(spectrogram_folder, settings)
    train._spectrograms[3] = float("nan")
    with pytest.raises(TrainingError, match=r"nan in epoch 1.*max_lr"):
        fit(network(settings), train, test, settings, lambda epoch: None)


def test_a_broken_checkpoint_is_named_and_not_silently_ignored(
    spectrogram_folder: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(TrainingError, match=r"last\.pt.*delete it"):
        fit(
            network(settings),
            *batches(spectrogram_folder, settings),
            settings,
            lambda epoch: None,
            tmp_path / "last.pt",
        )


def test_a_checkpoint_belongs_to_the_settings_and_data_that_made_it(settings: TrainSettings) -> None:
    name = fingerprint(settings, {"digest": "a"})
    assert name != fingerprint(dataclasses.replace(settings, max_lr=1e-3), {"digest": "a"})
    assert name != fingerprint(settings, {"digest": "b"})
    assert name == fingerprint(dataclasses.replace(settings, checkpoint_minutes=9.0), {"digest": "a"})


def test_a_last_batch_of_one_clip_is_survived(spectrogram_folder: Path, settings: TrainSettings) -> None:
    odd = dataclasses.replace(settings, epochs=1, batch_size=13)  # 40 clips: 13 + 13 + 13 + 1
    assert len(fit(network(odd), *batches(spectrogram_folder, odd), odd, lambda epoch: None)) == 1
