"""A training learns, is deterministic, resumes, and stops when it diverges."""

from pathlib import Path

import pytest
import torch
from helpers.fits import CPU, fit
from helpers.networks import replace_settings, small_network

from audiocnn.config import TrainSettings
from audiocnn.data.batches import Batches, batches
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.model import AudioCNN
from audiocnn.training.checkpoint import CheckpointError, Checkpoints
from audiocnn.training.distributed import SINGLE_PROCESS, ProcessGroup
from audiocnn.training.loop import TrainingError
from audiocnn.training.schedule import derive_seed
from pipeline.settings import PipelineSettings

ALL_FEATURES = {"mix": "power", "mask_fill": "mean", "band_norm": True, "top_db": 80.0, "roll": True, "tempo": 0.3}
ALL_FEATURES |= {"pitch_scale": 0.1, "pitch_shift": 5, "equalizer_db": 4}
ALL_FEATURES |= {"frequency_channel": True, "squeeze_excitation": True}
ALL_FEATURES |= {"dropout": 0.5, "ema_horizon": 0.3, "cycle_momentum": False}
Data = tuple[Batches, Batches]


@pytest.fixture
def settings(tiny: PipelineSettings) -> TrainSettings:
    return tiny.train.replace(epochs=3, checkpoint_minutes=0.0)


@pytest.fixture
def data(spectrogram_folder: Path, settings: TrainSettings) -> Data:
    return load(spectrogram_folder, settings.batch_size)


def load(folder: Path, batch_size: int, resident_mb: float = 1e6) -> Data:
    data = SpectrogramSet.open(folder)
    train, test = (batches(data, rows, batch_size, CPU, resident_mb) for rows in split(data.clips, 2))
    return train, test


def network(settings: TrainSettings) -> AudioCNN:
    torch.manual_seed(settings.seed)
    return AudioCNN(10, 64, settings.architecture)


def trained(data: Data, settings: TrainSettings, checkpoints: Checkpoints | None = None) -> AudioCNN:
    net = network(settings)
    fit(net, *data, settings, checkpoints=checkpoints)
    return net


def same(first: AudioCNN, second: AudioCNN) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Killed(Exception):
    """Simulates the end of the process."""


class Memory:
    """Checkpoints in memory. The write after `limit` others kills the process."""

    location = "memory"

    def __init__(self, limit: int = -1) -> None:
        self.limit, self.content, self.written = limit, None, 0

    def read(self) -> bytes | None:
        return self.content

    def write(self, content: bytes) -> None:
        if self.written == self.limit:
            raise Killed
        self.content, self.written = content, self.written + 1


@pytest.mark.parametrize("features", [{}, ALL_FEATURES], ids=["demo", "all features"])
@pytest.mark.parametrize("limit", [1, 3, 5])  # checkpoints; an epoch writes one after each step and one at its end
def test_resumed_training_gives_bit_identical_weights(
    spectrogram_folder: Path, settings: TrainSettings, data: Data, limit: int, features: dict
) -> None:
    settings = replace_settings(settings, **features)
    uninterrupted, epochs = network(settings), []
    history = fit(uninterrupted, *data, settings, epochs.append)

    memory = Memory(limit)
    with pytest.raises(Killed):
        fit(network(settings), *data, settings, checkpoints=memory)
    memory.limit, resumed, resumed_epochs = -1, network(settings), []
    streamed = load(spectrogram_folder, settings.batch_size, resident_mb=0)  # as on a machine with less memory
    assert fit(resumed, *streamed, settings, resumed_epochs.append, memory) == history
    assert resumed_epochs == epochs[len(epochs) - len(resumed_epochs) :] and resumed_epochs
    assert same(resumed, uninterrupted)


def test_completed_training_is_not_repeated(settings: TrainSettings, data: Data) -> None:
    memory = Memory()
    first, second, epochs = network(settings), network(settings), []
    history = fit(first, *data, settings, checkpoints=memory)
    assert fit(second, *data, settings, epochs.append, memory) == history
    assert not epochs and same(first, second)


def test_seed_determines_the_weights(settings: TrainSettings, data: Data) -> None:
    short = settings.replace(epochs=1)
    networks = [network(short) for _ in range(3)]
    for net, seed in zip(networks, (0, 0, 1), strict=True):
        fit(net, *data, short.replace(seed=seed))
    assert same(networks[0], networks[1]) and not same(networks[0], networks[2])


def test_loss_decreases_and_learning_rate_follows_one_cycle(settings: TrainSettings, data: Data) -> None:
    longer = replace_settings(
        settings, epochs=14, mix="none", freq_mask=0, time_mask=0, dropout=0.0, label_smoothing=0.0
    )
    history = fit(network(longer), *data, longer)
    assert history[-1].train_loss < 0.6 * history[0].train_loss
    assert history[0].lr == pytest.approx(longer.max_lr / 25)
    assert max(epoch.lr for epoch in history) > 0.8 * longer.max_lr > 10 * history[-1].lr


def test_bf16_training_gives_a_finite_loss(settings: TrainSettings, data: Data) -> None:
    short = settings.replace(epochs=1, precision="bf16")
    assert 0 < fit(network(short), *data, short)[0].train_loss < 10


@pytest.mark.parametrize("supported", [True, False])
def test_auto_precision_follows_the_hardware(
    settings: TrainSettings, data: Data, monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": supported})
    short = settings.replace(epochs=1)
    by_precision = {name: trained(data, short.replace(precision=name)) for name in ("auto", "bf16", "fp32")}
    assert same(by_precision["auto"], by_precision["bf16"]) == supported
    assert same(by_precision["auto"], by_precision["fp32"]) != supported


def test_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(settings: TrainSettings, data: Data) -> None:
    memory = Memory(2)
    with pytest.raises(Killed):
        trained(data, settings, memory)
    memory.limit, good = -1, memory.content
    data[0]._spectrograms[:] = float("nan")  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match=r"nan in epoch 1 \(in 1 step\).*max_lr"):
        trained(data, settings, memory)
    assert memory.content == good


def test_non_finite_test_loss_stops(settings: TrainSettings, data: Data) -> None:
    data[1]._spectrograms[:] = float("nan")  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match=r"test loss became nan in epoch 1.*max_lr"):
        trained(data, settings)


def test_non_finite_weights_are_never_written_to_a_checkpoint(settings: TrainSettings, data: Data) -> None:
    memory, net, checkpoints = Memory(), network(settings), []

    def break_third_step(gradient: torch.Tensor) -> torch.Tensor:
        checkpoints.append(memory.content)
        return gradient * float("nan") if len(checkpoints) == 3 else gradient

    net.stem[0].weight.register_hook(break_third_step)
    with pytest.raises(TrainingError, match=r"weights became infinite or NaN in epoch 1: decrease train\.max_lr"):
        fit(net, *data, settings, checkpoints=memory)
    assert memory.content == checkpoints[-1]  # of the second step
    trained(data, settings, memory)


def test_non_finite_weights_after_the_last_step_are_an_error(spectrogram_folder: Path, settings: TrainSettings) -> None:
    net, one_step = network(settings), settings.replace(epochs=1, batch_size=40)
    net.stem[0].weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingError, match="weights became infinite or NaN in epoch 1"):
        fit(net, *load(spectrogram_folder, 40), one_step)


def test_band_norm_uses_statistics_of_the_training_clips(settings: TrainSettings, data: Data) -> None:
    normed = replace_settings(settings, epochs=1, band_norm=True)
    data[1]._spectrograms += 50  # type: ignore[attr-defined]
    net = trained(data, normed)
    values = torch.cat([x for x, _ in data[0].in_order()])
    assert torch.allclose(net.normalise.mean[:, 0], values.mean((0, 2)), atol=1e-3)
    assert torch.allclose(net.normalise.deviation[:, 0], values.std((0, 2)), atol=1e-2)


def test_test_fold_is_evaluated_every_test_every_epochs_and_last(settings: TrainSettings, data: Data) -> None:
    every_two = settings.replace(epochs=5, test_every=2)
    history = fit(network(every_two), *data, every_two)
    assert [epoch.test_accuracy is not None for epoch in history] == [False, True, False, True, True]


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_constant_band_does_not_dominate_the_input(settings: TrainSettings, data: Data, fill: str) -> None:
    normed = replace_settings(settings, epochs=1, band_norm=True, mask_fill=fill)
    for part in data:
        part._spectrograms[:, 7] = -100.0  # type: ignore[attr-defined]
    net, maxima = network(normed), []
    net.normalise.register_forward_hook(lambda _layer, _inputs, output: maxima.append(float(output.abs().max())))
    fit(net, *data, normed)
    assert float(net.normalise.deviation[7, 0]) == 1.0
    means = data[0]._spectrograms.float().mean((1, 2))  # type: ignore[attr-defined]
    level = 0.0 if fill == "zero" else float(means.max())
    assert max(maxima) < level + 101.0  # a mask on -100 dB, divided by 1 dB; 100,000 without a minimum deviation


def test_top_db_is_applied_before_clips_are_masked(settings: TrainSettings, data: Data) -> None:
    clamped = replace_settings(settings, epochs=1, top_db=40.0, mask_fill="zero", mix="none", band_norm=False)
    train = data[0]
    train._spectrograms[:] = -95.0  # type: ignore[attr-defined]
    train._spectrograms[:, 0, 0] = -60.0  # type: ignore[attr-defined]
    net, inputs = network(clamped), []
    net.normalise.register_forward_hook(lambda layer, _inputs, output: inputs.append((layer.training, output)))
    fit(net, *data, clamped)
    values = torch.cat([output.flatten() for training, output in inputs if training]).unique()
    assert values.tolist() == [-95.0, -60.0, 0.0]  # a mask of 0 dB would raise the minimum of its clip to -40 dB


def test_metrics_cover_the_clips_that_were_learned_from(spectrogram_folder: Path, settings: TrainSettings) -> None:
    # 40 clips in batches of 13 leave one over, whose loss must not count. The learning rate is too small to learn.
    still = replace_settings(
        settings, epochs=1, batch_size=13, lr=1e-12, max_lr=1e-12, mix="none", freq_mask=0, time_mask=0
    )
    still = replace_settings(still, dropout=0.0, label_smoothing=0.0, precision="fp32", band_norm=False)
    train, test = load(spectrogram_folder, 13)
    history = fit(network(still), train, test, still)
    net, losses = network(still), []
    net.train()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(derive_seed(still.seed, 1)))
    for x, labels in list(train.in_order(order))[:3]:
        losses.append(torch.nn.functional.cross_entropy(net(x.unsqueeze(1)), labels).item())
    assert history[0].train_loss == pytest.approx(sum(losses) / 3, rel=1e-4)


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 no checkpoint", b"", b"\x80\x02K\x01."], ids=["zip", "empty", "other"]
)
def test_damaged_checkpoint_is_refused(settings: TrainSettings, data: Data, content: bytes) -> None:
    memory = Memory()
    memory.content = content
    with pytest.raises(CheckpointError, match=r"^memory: cannot resume .*; delete it to start over$"):
        trained(data, settings, memory)


def test_checkpoint_of_another_network_is_refused(settings: TrainSettings, data: Data) -> None:
    memory = Memory()
    trained(data, settings, memory)
    with pytest.raises(CheckpointError, match="cannot resume"):
        fit(small_network(10, width=0.125), *data, settings, checkpoints=memory)


@pytest.mark.parametrize("batch_size", [40, 16, 4])
@pytest.mark.parametrize("pct_start", [0.0, 0.1, 1.0])
def test_schedule_accepts_any_number_of_steps(
    spectrogram_folder: Path, settings: TrainSettings, batch_size: int, pct_start: float
) -> None:
    short = settings.replace(epochs=1, batch_size=batch_size, pct_start=pct_start)
    assert len(fit(network(short), *load(spectrogram_folder, batch_size), short)) == 1


def test_last_batch_of_one_clip_is_skipped(spectrogram_folder: Path, settings: TrainSettings) -> None:
    short = settings.replace(epochs=1, batch_size=13)  # 40 clips: 13 + 13 + 13 + 1
    assert len(fit(network(short), *load(spectrogram_folder, 13), short)) == 1


@pytest.mark.parametrize(
    ("batch_size", "group", "message"),
    [
        (
            41,
            SINGLE_PROCESS,
            r"41 clips are more than the training folds have \(40\); decrease it or add",
        ),
        (5, ProcessGroup(0, 3), "3 processes need at least 6 clips in a batch, found 5; increase it"),
    ],
    ids=["fewer clips than a batch", "too many processes"],
)
def test_training_without_a_large_enough_batch_is_refused(
    spectrogram_folder: Path, settings: TrainSettings, batch_size: int, group: ProcessGroup, message: str
) -> None:
    with pytest.raises(TrainingError, match=r"train\.batch_size: " + message):
        fit(network(settings), *load(spectrogram_folder, batch_size), settings, group=group)
