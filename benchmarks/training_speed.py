"""`make bench-train`: training, compared with a plain PyTorch loop in the same run.

Both train the network of the recipe `seed` on the same clips, decoded to 16-bit WAV, and take turns. The plain loop has
a Dataset that decodes a clip and computes its spectrogram, a DataLoader, float32, and reads the loss after every step.
The library trains on cached spectrograms, in bfloat16 on hardware that supports it. On a GPU, `make bench-gpu` measures
more.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from audiocnn.config import SpectrogramSettings, TrainSettings
from audiocnn.data.batches import batches
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import resolve_device
from audiocnn.model import AudioCNN
from audiocnn.training.forward import uses_bf16
from audiocnn.training.loop import Training, fit_many
from benchmarks.baselines import SpectrogramFunction, specaugment, torchaudio_spectrogram
from benchmarks.wav import SCRATCH, write_wav
from components.ingest.step import ingest
from components.spectrograms.step import spectrograms
from mlops.command_line import run
from mlops.spectrogram_cache import DEFAULT_CACHE
from pipeline import settings as pipeline_settings
from pipeline.settings import PipelineSettings


@dataclass(frozen=True)
class Data:
    """The clips of the benchmark: files and labels, and the same clips as cached spectrograms."""

    files: list[Path]
    labels: list[int]
    cached: SpectrogramSet


def main(
    data: Annotated[Path, typer.Option(help="Folder in ESC-50's layout.")],
    runs: Annotated[int, typer.Option(min=1, help="Number of runs.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each loop in every run.")] = 4,
    width: Annotated[float, typer.Option(help="Width of the network.")] = 1.0,
    workers: Annotated[int, typer.Option(min=0, help="Workers of the plain loop's DataLoader.")] = 2,
    precision: Annotated[str, typer.Option(help="Of the library: auto, fp32 or bf16.")] = "auto",
    output: Annotated[Path, typer.Option(help="File for the figures.")] = Path("var/bench/training.json"),
) -> None:
    """Measure, print the figures and write them as JSON."""
    console = Console()
    overrides = {
        "recipe": "seed",
        "train": {"precision": precision, "architecture": {"width": width}},
        "ingest": {"min_clips_per_class": 1},  # the benchmark uses a part of the data set
    }
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        settings = pipeline_settings.load(overrides=overrides)
        clips = _prepare(data, settings, Path(folder), steps * settings.train.batch_size)
        wideband = settings.spectrograms.replace(rate=44100, f_max=22050.0)
        loops: dict[str, Callable[[], float]] = {
            "library": lambda: train_with_library(clips, settings.train),
            "plain": lambda: train_plainly(clips, settings.spectrograms, settings.train, workers),
            "plain, 431 frames": lambda: train_plainly(clips, wideband, settings.train, workers),
        }
        rates: dict[str, list[float]] = {name: [] for name in loops}
        for run in track(range(-1, runs), "measuring", console=console):
            for name, train in loops.items():
                rate = len(clips.files) / train()
                if run >= 0:  # the first run compiles kernels and fills caches
                    rates[name].append(rate)
    figures = _figures(rates, clips, settings.train)
    _print(console, figures)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {output}")


def _prepare(data: Path, settings: PipelineSettings, folder: Path, clips: int) -> Data:
    ingest(str(write_wav(data, folder / "wav", clips)), settings.ingest, settings.spectrograms, folder / "dataset")
    spectrograms(folder / "dataset", settings.spectrograms, folder / "spectrograms", DEFAULT_CACHE)
    cached = SpectrogramSet.open(folder / "spectrograms")
    files = [folder / "dataset" / "audio" / name for name in cached.clips["filename"]]
    return Data(files, cached.labels.tolist(), cached)


def train_with_library(clips: Data, settings: TrainSettings) -> float:
    """Return the seconds of the second of two epochs; the evaluation at its end is on a single clip."""
    device = resolve_device(settings.device)
    rows = torch.arange(len(clips.files)).numpy()
    train, test = (batches(clips.cached, part, settings.batch_size, device) for part in (rows, rows[:1]))
    network = AudioCNN(len(clips.cached.classes), clips.cached.settings.n_mels, settings.architecture)
    ends: list[float] = []
    changed = settings.replace(epochs=2, test_every=2)
    fit_many([Training(network, train, test, changed, lambda _: ends.append(time.perf_counter()))])
    return ends[1] - ends[0]


class ClipDataset(Dataset[tuple[Tensor, int]]):
    """A dataset that decodes, resamples and computes the spectrogram whenever a clip is requested."""

    def __init__(self, clips: Data, settings: SpectrogramSettings) -> None:
        self.clips, self.settings = clips, settings
        self.spectrogram: SpectrogramFunction | None = None

    def __len__(self) -> int:
        return len(self.clips.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.spectrogram is None:  # created in the worker, because it cannot be pickled
            self.spectrogram = torchaudio_spectrogram(self.settings)
        return torch.from_numpy(self.spectrogram(self.clips.files[index])), self.clips.labels[index]


def train_plainly(clips: Data, front_end: SpectrogramSettings, settings: TrainSettings, workers: int) -> float:
    """Return the seconds of the second of two epochs, in which the workers are already running."""
    device = resolve_device(settings.device)
    network = AudioCNN(len(clips.cached.classes), front_end.n_mels, settings.architecture).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    cross_entropy = torch.nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    masks = specaugment(settings.augment)
    beta = torch.distributions.Beta(settings.augment.mix_alpha, settings.augment.mix_alpha)
    dataset = ClipDataset(clips, front_end)
    loader = DataLoader(dataset, settings.batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    seconds = 0.0
    for _ in range(2):
        begin, total = time.perf_counter(), 0.0
        for x, y in loader:
            x, y = masks(x.unsqueeze(1)).to(device), y.to(device)
            if torch.rand(()) < settings.augment.mix_share:
                weight, order = float(beta.sample()), torch.randperm(len(x), device=device)
                logits = network(weight * x + (1 - weight) * x[order])
                loss = weight * cross_entropy(logits, y) + (1 - weight) * cross_entropy(logits, y[order])
            else:
                loss = cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        seconds = time.perf_counter() - begin
    return seconds


def _figures(rates: dict[str, list[float]], clips: Data, settings: TrainSettings) -> dict[str, Any]:
    device = resolve_device(settings.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "clips": len(clips.files),
        "precision": "bf16" if uses_bf16(settings, device) else "fp32",
        "width": settings.architecture.width,
        "runs": len(rates["library"]),
        "clips per second": {loop: median(values) for loop, values in rates.items()},
        "speedup": {
            loop: median(map(lambda a, b: a / b, rates["library"], values))
            for loop, values in rates.items()
            if loop != "library"
        },
    }


def _print(console: Console, figures: dict[str, Any]) -> None:
    title = f"training on {figures['device']}, width {figures['width']:g}, median of {figures['runs']} runs"
    table = Table(title=title)
    for name in ("loop", "clips/s", "library is", "goal"):
        table.add_column(name, justify="left" if name == "loop" else "right")
    goals = {"plain": "2.2 times", "plain, 431 frames": "4 times"}
    for loop, rate in figures["clips per second"].items():
        speedup = figures["speedup"].get(loop)
        shown = f"{loop}, {figures['precision']}" if loop == "library" else loop
        table.add_row(shown, f"{rate:.1f}", f"{speedup:.2f} times" if speedup else "", goals.get(loop, ""))
    console.print(table)


if __name__ == "__main__":
    run(main)
