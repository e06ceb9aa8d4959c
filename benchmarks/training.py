"""`make bench-train`: training against the loop that most people write, side by side in one run.

Both train the same network with the recipe `seed` on the same clips, decoded to 16-bit WAV, and take turns. The plain
loop has a Dataset that decodes a clip and computes its spectrogram, a DataLoader, float32, and reads the loss after
every step. Ours is `fit` on cached spectrograms, in bfloat16 where the chip is built for it.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from audiocnn.config import SpectrogramSettings, TrainSettings
from audiocnn.data.batches import Batches, batches
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import resolve_device
from audiocnn.model import AudioCNN
from audiocnn.training.loop import Epoch, fit, in_bf16
from benchmarks import baselines
from benchmarks.clips import as_wav, scratch
from components.ingest.step import ingest
from components.spectrograms.step import spectrograms
from mlops.command_line import errors_to_exit
from mlops.settings import parse_overrides
from mlops.spectrogram_cache import DEFAULT_CACHE
from pipeline import settings as pipeline_settings

FLOP = 12.05e9  # of a 128 x 216 clip through the network of width 1, forward and backward
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16 FLOP/s, from NVIDIA's data sheets


@dataclass(frozen=True)
class Data:
    """The clips of one run: their files and labels, and the same as cached spectrograms."""

    files: list[Path]
    labels: list[int]
    cached: SpectrogramSet


def main(
    data: Annotated[Path, typer.Option(help="A folder in ESC-50's layout.")] = Path("../shared/esc50"),
    runs: Annotated[int, typer.Option(min=1)] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Of each way in every run.")] = 4,
    width: Annotated[float, typer.Option(help="Of the network.")] = 1.0,
    workers: Annotated[int, typer.Option(min=0, help="Of the plain loop's DataLoader.")] = 2,
    precision: Annotated[str, typer.Option(help="Of ours: auto, fp32 or bf16.")] = "auto",
    output: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("var/bench/training.json"),
) -> None:
    """Measure, print, and write down."""
    console = Console()
    with errors_to_exit(), tempfile.TemporaryDirectory(dir=scratch()) as folder:
        changes = ["train.recipe=seed", f"train.precision={precision}", f"train.architecture.width={width}"]
        given = parse_overrides([*changes, "ingest.min_clips_per_class=1"])  # so few clips are no data set
        settings = pipeline_settings.load(Path("params.yaml"), given)
        clips = _data(data, settings, Path(folder), steps * settings.train.batch_size)
        wide = settings.spectrograms.replace(rate=44100, f_max=22050.0)  # that of the mark to beat
        ways: dict[str, Callable[[], float]] = {
            "ours": lambda: ours(clips, settings.train),
            "plain": lambda: plain(clips, settings.spectrograms, settings.train, workers),
            "plain, 431 frames": lambda: plain(clips, wide, settings.train, workers),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for run in track(range(-1, runs), "measuring", console=console):
            for name, way in ways.items():
                rate = len(clips.files) / way()
                if run >= 0:  # the first time compiles kernels and fills caches
                    rates[name].append(rate)
    figures = _figures(rates, clips, settings.train)
    _show(console, figures)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {output}")


def _data(folder: Path, settings: pipeline_settings.PipelineSettings, at: Path, count: int) -> Data:
    ingest(str(as_wav(folder, at / "wav", count)), settings.ingest, at / "dataset")
    spectrograms(at / "dataset", settings.spectrograms, at / "spectrograms", DEFAULT_CACHE)
    cached = SpectrogramSet.open(at / "spectrograms")
    files = [at / "dataset" / "audio" / name for name in cached.clips["filename"]]
    return Data(files, cached.labels.tolist(), cached)


def ours(clips: Data, settings: TrainSettings) -> float:
    """Seconds of one epoch; looking at the test fold is left out, as in the plain loop."""
    device = resolve_device(settings.device)
    rows = torch.arange(len(clips.files)).numpy()
    train, test = (batches(clips.cached, part, settings.batch_size, device) for part in (rows, rows[:1]))
    network = AudioCNN(len(clips.cached.classes), clips.cached.settings.n_mels, settings.architecture)
    ends: list[float] = []
    # Two epochs, of which the second counts: the first pays for what a training pays once.
    fit(network, _Timed(train, ends), test, settings.replace(epochs=2, test_every=2), _nothing)
    _wait(device)
    return time.perf_counter() - ends[-1]


class _Timed:
    """Batches that note when each pass begins."""

    def __init__(self, inner: Batches, begins: list[float]) -> None:
        self.batch_size, self.device, self.clips = inner.batch_size, inner.device, inner.clips
        self._inner, self._begins = inner, begins

    def in_order(self, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """See Batches."""
        _wait(self.device)
        self._begins.append(time.perf_counter())
        return self._inner.in_order(order)


def _nothing(_: Epoch) -> None:
    """Nobody looks at the curves here."""


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clips(Dataset[tuple[Tensor, int]]):
    """What most people write: decode, resample, spectrogram, clip by clip, every time."""

    def __init__(self, clips: Data, settings: SpectrogramSettings) -> None:
        self.clips, self.settings = clips, settings
        self.spectrogram: Any = None

    def __len__(self) -> int:
        return len(self.clips.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.spectrogram is None:  # in the worker: it does not travel
            self.spectrogram = baselines.plain(self.settings)
        return torch.from_numpy(self.spectrogram(self.clips.files[index])), self.clips.labels[index]


def plain(clips: Data, front_end: SpectrogramSettings, settings: TrainSettings, workers: int) -> float:
    """Seconds of one epoch of the plain loop, its workers running already."""
    from torchaudio.transforms import FrequencyMasking, TimeMasking

    device = resolve_device(settings.device)
    network = AudioCNN(len(clips.cached.classes), front_end.n_mels, settings.architecture).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    masks = torch.nn.Sequential(FrequencyMasking(settings.augment.freq_mask), TimeMasking(settings.augment.time_mask))
    beta = torch.distributions.Beta(settings.augment.mix_alpha, settings.augment.mix_alpha)
    loader = DataLoader(
        Clips(clips, front_end), settings.batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    seconds = 0.0
    for _ in range(2):  # the second epoch counts
        begun, total = time.perf_counter(), 0.0
        for x, y in loader:
            x, y = masks(x.unsqueeze(1)).to(device), y.to(device)
            if torch.rand(()) < settings.augment.mix_share:
                weight, order = float(beta.sample()), torch.randperm(len(x), device=device)
                said = network(weight * x + (1 - weight) * x[order])
                loss = weight * loss_of(said, y) + (1 - weight) * loss_of(said, y[order])
            else:
                loss = loss_of(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        seconds = time.perf_counter() - begun
    return seconds


def _figures(rates: dict[str, list[float]], clips: Data, settings: TrainSettings) -> dict[str, Any]:
    device = resolve_device(settings.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    rate = statistics.median(rates["ours"])
    peak = next((value for key, value in PEAK.items() if key in name), None)
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "clips": len(clips.files),
        "precision": "bf16" if in_bf16(settings, device) else "fp32",
        "width": settings.architecture.width,
        "runs": len(rates["ours"]),
        "clips per second": {name: statistics.median(of) for name, of in rates.items()},
        "times": {
            name: statistics.median(map(lambda a, b: a / b, rates["ours"], of))
            for name, of in rates.items()
            if name != "ours"
        },
        "share of bf16 peak": rate * FLOP / peak if peak and settings.architecture.width == 1 else None,
        "100 epochs of 1,600 clips, s": 160_000 / rate,
    }


def _show(console: Console, figures: dict[str, Any]) -> None:
    table = Table(
        title=f"training on {figures['device']}, width {figures['width']:g}, median of {figures['runs']} runs"
    )
    for name in ("way", "clips/s", "ours is", "goal"):
        table.add_column(name, justify="left" if name == "way" else "right")
    goals = {"plain": "2.2 times", "plain, 431 frames": "4 times"}
    for way, rate in figures["clips per second"].items():
        times = figures["times"].get(way)
        shown = f"{way}, {figures['precision']}" if way == "ours" else way
        table.add_row(shown, f"{rate:.1f}", f"{times:.2f} times" if times else "", goals.get(way, ""))
    console.print(table)
    if share := figures["share of bf16 peak"]:
        seconds = figures["100 epochs of 1,600 clips, s"]
        console.print(f"{share:.1%} of the chip's bf16 peak; 100 epochs of 1,600 clips: {seconds:.1f} s")


if __name__ == "__main__":
    typer.run(main)
