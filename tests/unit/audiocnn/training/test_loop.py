"""fit(): it learns, it repeats itself, a killed run continues, and impossible losses stop it."""

from pathlib import Path

import pytest
import torch
from helpers.networks import replace_settings, small_network

from audiocnn.config import TrainSettings
from audiocnn.data.batches import Batches, batches
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.model import AudioCNN
from audiocnn.training import checkpoint as checkpoints
from audiocnn.training import loop as training
from audiocnn.training.checkpoint import CheckpointError
from audiocnn.training.distributed import SINGLE_PROCESS, World
from audiocnn.training.loop import TrainingError, fingerprint, fit
from pipeline.settings import PipelineSettings

CPU = torch.device("cpu")
EVERYTHING = {"mix": "power", "mask_fill": "mean", "band_norm": True, "top_db": 80.0, "time_stride": 2}


@pytest.fixture
def settings(tiny: PipelineSettings) -> TrainSettings:
    return tiny.train.replace(epochs=3, checkpoint_minutes=0.0)


def parts(folder: Path, settings: TrainSettings, resident_mb: float = 1e6) -> tuple[Batches, Batches]:
    data = SpectrogramSet.open(folder)
    first, second = (batches(data, rows, settings.batch_size, CPU, resident_mb) for rows in split(data.clips, 2))
    return first, second


def network(settings: TrainSettings) -> AudioCNN:
    torch.manual_seed(settings.seed)
    return AudioCNN(10, 128, settings.architecture)


def same(first: AudioCNN, second: AudioCNN) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


class Killed(Exception):
    pass


class Memory:
    """Checkpoints in memory; after `last` of them the process is killed."""

    def __init__(self, last: int = -1) -> None:
        self.last, self.content, self.written = last, None, 0

    def read(self) -> bytes | None:
        return self.content

    def write(self, content: bytes) -> None:
        if self.written == self.last:
            raise Killed
        self.content, self.written = content, self.written + 1


@pytest.mark.parametrize("recipe", [{}, EVERYTHING], ids=["demo", "everything"])
@pytest.mark.parametrize("kill_after", [1, 3, 5])  # steps; an epoch has three, and a fourth checkpoint at its end
def test_a_killed_run_resumes_to_bit_identical_weights(
    spectrogram_folder: Path, settings: TrainSettings, kill_after: int, recipe: dict
) -> None:
    settings = replace_settings(settings, **recipe)
    data = parts(spectrogram_folder, settings)
    unbroken, told = network(settings), []
    history = fit(unbroken, *data, settings, told.append)

    saved = Memory(kill_after)
    with pytest.raises(Killed):
        fit(network(settings), *data, settings, lambda epoch: None, saved)
    saved.last, resumed, seen = -1, network(settings), []
    streamed = parts(spectrogram_folder, settings, resident_mb=0)  # as on a machine with less memory
    assert fit(resumed, *streamed, settings, seen.append, saved) == history
    assert seen == told[len(told) - len(seen) :] and seen
    assert same(resumed, unbroken)


def test_a_run_that_ended_is_not_trained_again(spectrogram_folder: Path, settings: TrainSettings) -> None:
    data, saved = parts(spectrogram_folder, settings), Memory()
    first, second, seen = network(settings), network(settings), []
    history = fit(first, *data, settings, lambda epoch: None, saved)
    assert fit(second, *data, settings, seen.append, saved) == history
    assert not seen and same(first, second)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    spectrogram_folder: Path, settings: TrainSettings
) -> None:
    short = settings.replace(epochs=1)
    data = parts(spectrogram_folder, short)
    networks = [network(short) for _ in range(3)]
    for net, seed in zip(networks, (0, 0, 1), strict=True):
        fit(net, *data, short.replace(seed=seed), lambda epoch: None)
    assert same(networks[0], networks[1]) and not same(networks[0], networks[2])


def test_training_lowers_the_loss_and_follows_the_one_cycle_schedule(
    spectrogram_folder: Path, settings: TrainSettings
) -> None:
    longer = replace_settings(settings, epochs=14, mix="none", freq_mask=0, time_mask=0, dropout=0.0, label_smoothing=0.0)
    history = fit(network(longer), *parts(spectrogram_folder, longer), longer, lambda epoch: None)
    assert history[-1].train_loss < 0.6 * history[0].train_loss
    assert history[0].lr == pytest.approx(longer.max_lr / 25)
    assert max(epoch.lr for epoch in history) > 0.8 * longer.max_lr > 10 * history[-1].lr


def test_bf16_trains_too(spectrogram_folder: Path, settings: TrainSettings) -> None:
    short = settings.replace(epochs=1, precision="bf16")
    history = fit(network(short), *parts(spectrogram_folder, short), short, lambda epoch: None)
    assert 0 < history[0].train_loss < 10


@pytest.mark.parametrize("built_for_it", [True, False])
def test_the_precision_follows_the_chip_unless_it_is_named(
    spectrogram_folder: Path, settings: TrainSettings, monkeypatch: pytest.MonkeyPatch, built_for_it: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: built_for_it)
    short = settings.replace(epochs=1)
    data, trained = parts(spectrogram_folder, short), {}
    for precision in ("auto", "bf16", "fp32"):
        trained[precision] = network(short)
        fit(trained[precision], *data, short.replace(precision=precision), lambda _: None)
    assert same(trained["auto"], trained["bf16"]) == built_for_it
    assert same(trained["auto"], trained["fp32"]) != built_for_it


def test_a_loss_that_is_no_number_stops_says_where_and_leaves_the_sound_checkpoint(
    spectrogram_folder: Path, settings: TrainSettings
) -> None:
    train, test = parts(spectrogram_folder, settings)
    saved = Memory(2)
    with pytest.raises(Killed):
        fit(network(settings), train, test, settings, lambda epoch: None, saved)
    saved.last, sound = -1, saved.content
    train._spectrograms[:] = float("nan")  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match=r"nan in epoch 1 \(1 of 3 steps\).*max_lr"):
        fit(network(settings), train, test, settings, lambda epoch: None, saved)
    assert saved.content == sound


def test_band_norm_learns_from_the_training_clips_alone(spectrogram_folder: Path, settings: TrainSettings) -> None:
    normed = replace_settings(settings, epochs=1, band_norm=True)
    train, test = parts(spectrogram_folder, normed)
    test._spectrograms += 50  # type: ignore[attr-defined]
    net = network(normed)
    fit(net, train, test, normed, lambda epoch: None)
    values = torch.cat([x for x, _ in train.in_order()])
    assert torch.allclose(net.normalise.mean[:, 0], values.mean((0, 2)), atol=1e-3)
    assert torch.allclose(net.normalise.deviation[:, 0], values.std((0, 2)), atol=1e-2)


def test_the_test_fold_is_looked_at_as_often_as_asked_and_at_the_end(
    spectrogram_folder: Path, settings: TrainSettings
) -> None:
    seldom = settings.replace(epochs=5, test_every=2)
    history = fit(network(seldom), *parts(spectrogram_folder, seldom), seldom, lambda epoch: None)
    assert [epoch.test_accuracy is not None for epoch in history] == [False, True, False, True, True]


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_a_band_that_is_silent_in_every_clip_does_not_drown_the_others(
    spectrogram_folder: Path, settings: TrainSettings, fill: str
) -> None:
    normed = replace_settings(settings, epochs=1, band_norm=True, mask_fill=fill)
    train, test = parts(spectrogram_folder, normed)
    for of in (train, test):
        of._spectrograms[:, 7] = -100.0  # type: ignore[attr-defined]
    net, largest = network(normed), []
    net.normalise.register_forward_hook(lambda _layer, _inputs, output: largest.append(float(output.abs().max())))
    fit(net, train, test, normed, lambda epoch: None)
    assert float(net.normalise.deviation[7, 0]) == 1.0
    assert max(largest) < 110.0  # a mask of about 0 dB upon -100 dB, over 1 dB; 100,000 without a least one


def test_what_lies_far_below_the_maximum_is_raised_before_clips_are_masked(
    spectrogram_folder: Path, settings: TrainSettings
) -> None:
    clamped = replace_settings(settings, epochs=1, top_db=40.0, mask_fill="zero", mix="none", band_norm=False)
    train, test = parts(spectrogram_folder, clamped)
    train._spectrograms[:] = -95.0  # type: ignore[attr-defined]
    train._spectrograms[:, 0, 0] = -60.0  # type: ignore[attr-defined]
    net, seen = network(clamped), []
    net.normalise.register_forward_hook(lambda layer, _inputs, output: seen.append((layer.training, output)))
    fit(net, train, test, clamped, lambda epoch: None)
    values = torch.cat([output.flatten() for training, output in seen if training]).unique()
    assert values.tolist() == [-95.0, -60.0, 0.0]  # a mask of 0 dB raises nothing: a clip without one has no -40 dB


def test_the_figures_of_an_epoch_are_of_the_clips_that_were_learnt_from(
    spectrogram_folder: Path, settings: TrainSettings
) -> None:
    # 40 clips in batches of 13 leave one over. With a loss that cannot move, it would pull the mean down.
    still = replace_settings(settings, epochs=1, batch_size=13, lr=1e-12, max_lr=1e-12, mix="none", freq_mask=0, time_mask=0)
    still = replace_settings(still, dropout=0.0, label_smoothing=0.0, precision="fp32", band_norm=False)
    history = fit(network(still), *parts(spectrogram_folder, still), still, lambda epoch: None)
    net, losses = network(still), []
    net.train()
    generator = torch.Generator().manual_seed(training._seed(still.seed, 1))
    order = torch.randperm(40, generator=generator)
    for x, labels in list(parts(spectrogram_folder, still)[0].in_order(order))[:3]:
        losses.append(torch.nn.functional.cross_entropy(net(x.unsqueeze(1)), labels).item())
    assert history[0].train_loss == pytest.approx(sum(losses) / 3, rel=1e-4)


def test_weights_that_are_no_numbers_never_take_the_place_of_a_sound_checkpoint(
    spectrogram_folder: Path, settings: TrainSettings
) -> None:
    saved, net, steps = Memory(), network(settings), []

    def broken(gradient: torch.Tensor) -> torch.Tensor:
        steps.append(saved.content)
        return gradient * float("nan") if len(steps) == 3 else gradient

    net.stem[0].weight.register_hook(broken)
    with pytest.raises(TrainingError, match=r"weights became infinite or no numbers in epoch 1: lower train\.max_lr"):
        fit(net, *parts(spectrogram_folder, settings), settings, lambda epoch: None, saved)
    assert saved.content == steps[-1]  # that of the second step
    last = network(settings)
    last.stem[0].weight.register_hook(lambda gradient: gradient * float("nan"))
    one_step = settings.replace(epochs=1, batch_size=64)
    with pytest.raises(TrainingError, match="weights became infinite or no numbers in epoch 1"):  # kept or not
        fit(last, *parts(spectrogram_folder, one_step), one_step, lambda epoch: None)
    fit(network(settings), *parts(spectrogram_folder, settings), settings, lambda epoch: None, saved)


def test_moments_of_another_memory_format_are_laid_out_like_their_weights(
    spectrogram_folder: Path, settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a GPU to a CPU: the fused AdamW would pair each weight with another's moments."""
    wide = replace_settings(settings, width=0.125, epochs=1)
    data, saved = parts(spectrogram_folder, wide), Memory()
    fit(network(wide), *data, wide, lambda epoch: None, saved)
    before = checkpoints.decode(saved.content or b"")
    monkeypatch.setattr(training, "memory_format", lambda *_: torch.contiguous_format)
    trainer = training._Trainer(network(wide), *data, wide, SINGLE_PROCESS)
    trainer.restore(checkpoints.decode(saved.content or b""))
    number = [name for name, _ in trainer.network.named_parameters()].index("stage1.0.conv1.weight")
    weight, written = trainer.network.stage1[0].conv1.weight, before["optimizer"]["state"][number]
    for name in ("exp_avg", "exp_avg_sq"):
        found = trainer.optimizer.state[weight][name]
        assert found.stride() == weight.stride() != written[name].stride()
        assert torch.equal(found, written[name])


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 no checkpoint", b"", b"\x80\x02K\x01."], ids=["zip", "empty", "other"]
)
def test_a_broken_checkpoint_is_refused_and_not_silently_ignored(
    spectrogram_folder: Path, settings: TrainSettings, content: bytes
) -> None:
    saved = Memory()
    saved.content = content
    with pytest.raises(CheckpointError, match="cannot resume"):
        fit(network(settings), *parts(spectrogram_folder, settings), settings, lambda epoch: None, saved)


def test_a_checkpoint_of_another_network_is_refused(spectrogram_folder: Path, settings: TrainSettings) -> None:
    saved = Memory()
    data = parts(spectrogram_folder, settings)
    fit(network(settings), *data, settings, lambda epoch: None, saved)
    with pytest.raises(CheckpointError, match="cannot resume"):
        fit(small_network(10, width=0.125), *data, settings, lambda epoch: None, saved)


def test_a_checkpoint_belongs_to_the_settings_and_data_that_made_it(settings: TrainSettings) -> None:
    name = fingerprint(settings, {"digest": "a"}, "1.0")
    assert name != fingerprint(settings.replace(max_lr=1e-3), {"digest": "a"}, "1.0")
    assert name != fingerprint(replace_settings(settings, mask_fill="mean"), {"digest": "a"}, "1.0")
    assert name != fingerprint(settings, {"digest": "b"}, "1.0")
    assert name != fingerprint(settings, {"digest": "a"}, "1.1")
    indifferent = settings.replace(checkpoint_minutes=9.0, test_every=7)
    assert name == fingerprint(indifferent, {"digest": "a"}, "1.0")


@pytest.mark.parametrize("size", [40, 16, 4])
@pytest.mark.parametrize("pct_start", [0.0, 0.1, 1.0])
def test_the_schedule_fits_any_number_of_steps(
    spectrogram_folder: Path, settings: TrainSettings, size: int, pct_start: float
) -> None:
    short = settings.replace(epochs=1, batch_size=size, pct_start=pct_start)
    assert len(fit(network(short), *parts(spectrogram_folder, short), short, lambda epoch: None)) == 1


def test_a_last_batch_of_one_clip_is_survived(spectrogram_folder: Path, settings: TrainSettings) -> None:
    odd = settings.replace(epochs=1, batch_size=13)  # 40 clips: 13 + 13 + 13 + 1
    assert len(fit(network(odd), *parts(spectrogram_folder, odd), odd, lambda epoch: None)) == 1


@pytest.mark.parametrize(
    ("rows", "batch_size", "world", "words"),
    [
        (40, 1, SINGLE_PROCESS, r"1 of 40 training clips, and a step needs two; raise train\.batch_size \(it is 1\)"),
        (1, 16, SINGLE_PROCESS, "1 of 1 training clips"),
        (40, 5, World(0, 3), "5 of 40 training clips, and a step needs two for each of 3 processes"),
    ],
    ids=["batches of one", "one clip", "too many processes"],
)
def test_a_training_in_which_every_step_would_be_skipped_is_refused(
    spectrogram_folder: Path, settings: TrainSettings, rows: int, batch_size: int, world: World, words: str
) -> None:
    data = SpectrogramSet.open(spectrogram_folder)
    train, test = split(data.clips, 2)
    few = batches(data, train[:rows], batch_size, CPU)
    with pytest.raises(TrainingError, match=words):
        fit(network(settings), few, batches(data, test, 16, CPU), settings, lambda epoch: None, world=world)
