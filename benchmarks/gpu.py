"""Measure the training loop and the recipes on a GPU: one call of at most five minutes.

    python -m benchmarks.gpu pack --data path/to/ESC-50 --output spectrograms.npz
    python -m benchmarks.gpu run --data spectrograms.npz --fold 4 --output gpu.json

`run` needs the repository and torch, numpy, pandas, safetensors, pyyaml and pydantic, but neither sound files nor
services. It reads the spectrograms that `pack` wrote on another machine: in steps of 0.5 dB, and at most 80 dB below
each clip's maximum, as `strong` uses them. `seed` has half as many frames: its timings use every second one. Timings
need 1,600 training clips, as 5-fold cross-validation on ESC-50 has; fewer are repeated. Accuracy repeats none.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import yaml
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from audiocnn.config import TrainSettings
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import resolve_device
from audiocnn.model import AudioCNN
from audiocnn.strict_model import merge
from audiocnn.training.forward import uses_bf16
from audiocnn.training.loop import Training, fit_many, new_training
from audiocnn.training.state import Epoch

ROOT = Path(__file__).resolve().parents[1]
STEP_DB, DEPTH_DB = 0.5, 80.0
TIMED_CLIPS = 1600
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16, from NVIDIA's data sheets


def pack(data: Path, output: Path) -> None:
    """Compute the spectrograms of `strong` for a folder in ESC-50's layout, and write them to one file."""
    import tempfile

    from components.ingest.step import ingest
    from components.spectrograms.step import spectrograms
    from pipeline import settings as pipeline_settings

    settings = pipeline_settings.load(ROOT / "params.yaml", {"recipe": "strong"})
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        dataset, computed = Path(folder, "dataset"), Path(folder, "spectrograms")
        ingest(str(data), settings.ingest, settings.spectrograms, dataset)
        spectrograms(dataset, settings.spectrograms, computed, settings.storage.cache)
        write_packed(SpectrogramSet.open(computed), output)


def write_packed(data: SpectrogramSet, output: Path) -> None:
    """Write spectrograms in steps below each clip's maximum, with their clip table and description."""
    maxima = data.spectrograms.max((1, 2)).astype(np.float32)
    steps = np.empty(data.spectrograms.shape, np.uint8)
    for row, spectrogram in enumerate(data.spectrograms):
        depth = np.minimum(maxima[row] - spectrogram.astype(np.float32), DEPTH_DB)
        steps[row] = np.round(depth / STEP_DB)
    texts = {"clips": data.clips.to_csv(index=False), "spec": json.dumps(data.spec)}
    with output.open("wb") as file:
        np.savez_compressed(file, steps=steps, maxima=maxima, **{name: np.array(text) for name, text in texts.items()})


def read_packed(file: Path) -> SpectrogramSet:
    """Read what `write_packed` wrote."""
    with np.load(file, allow_pickle=False) as packed:
        values = packed["maxima"][:, None, None] - STEP_DB * packed["steps"].astype(np.float32)
        clips = pd.read_csv(StringIO(str(packed["clips"])), keep_default_na=False, dtype={"category": str})
        return SpectrogramSet(values.astype(np.float16), clips, json.loads(str(packed["spec"])))


def settings_of(recipe: str, **changes: Any) -> TrainSettings:
    """Return the block `train` of a recipe, with changed keys."""
    files = ROOT / "params.yaml", ROOT / "recipes" / f"{recipe}.yaml"
    base, block = (yaml.safe_load(file.read_text(encoding="utf-8"))["train"] for file in files)
    return TrainSettings.parse(merge(merge(base, block), changes), f"recipe {recipe}")


def clips_per_second(trainings: Sequence[Training], cuda_graph: bool) -> float:
    """Train, and return the training clips per second of all trainings together, without the first epoch.

    An epoch ends when the GPU has completed it, since its losses are read.
    """
    begins, ends = [], []

    def record(epoch: Epoch) -> None:
        (begins if epoch.epoch == 1 else ends).append(time.perf_counter())

    for training in trainings:
        training.on_epoch = record
    fit_many(trainings, cuda_graph=cuda_graph)
    clips = sum(training.train.clips * (training.settings.epochs - 1) for training in trainings)
    return clips / (ends[-1] - begins[0])


def flop_per_clip(data: SpectrogramSet, settings: TrainSettings) -> float:
    """Return the floating-point operations of a clip's forward and backward pass; a multiply-add is two."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = AudioCNN(len(data.classes), data.spectrograms.shape[1], settings.architecture)
        logits = network(torch.empty(2, 1, *data.spectrograms.shape[1:]))
        F.cross_entropy(logits, torch.empty(2, dtype=torch.int64)).backward()
    return counter.get_total_flops() / 2


def measure_speed(data: SpectrogramSet, recipe: str, arguments: argparse.Namespace) -> dict[str, float | None]:
    """Return clips per second with direct steps, in a CUDA graph, and of several networks in one graph."""
    changes = {"device": arguments.device, "architecture": {"width": arguments.width}}
    rows = np.resize(np.arange(len(data.clips)), arguments.clips)

    def rate(count: int, epochs: int, cuda_graph: bool = True) -> float:
        settings = settings_of(recipe, **changes, epochs=1 + epochs, test_every=1 + epochs)
        each = [settings.replace(seed=seed) for seed in range(count)]
        trainings = [new_training(data, (rows, rows[:1]), one, resolve_device(one.device)) for one in each]
        return clips_per_second(trainings, cuda_graph)

    epochs = arguments.timed_epochs
    found = {"direct": rate(1, -(-epochs // 4), cuda_graph=False), "captured": rate(1, epochs)}
    found["together"] = rate(arguments.together, -(-epochs // 2))
    peak = next((flops for chip, flops in PEAK_FLOPS.items() if chip in device_name(arguments.device)), None)
    flop = flop_per_clip(data, settings_of(recipe, **changes))
    return {**found, "share of bf16 peak": max(found.values()) * flop / peak if peak else None}


def measure_training(
    data: SpectrogramSet, rows: Sequence[npt.NDArray[np.int64]], settings: TrainSettings
) -> dict[str, float | None]:
    """Train once, from the first step to the last test; return the seconds and the accuracy on the test clips."""
    training = new_training(data, rows, settings, resolve_device(settings.device))
    begin = time.perf_counter()
    fit_many([training])
    seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "epochs": settings.epochs,
        "clips": len(rows[0]),
        "accuracy": training.history[-1].test_accuracy,
    }


def run(arguments: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield the figures one by one, so that a failure leaves those before it."""
    data = read_packed(arguments.data)
    half = replace(data, spectrograms=np.ascontiguousarray(data.spectrograms[:, :, ::2]))
    device = resolve_device(arguments.device)
    changes = {"device": arguments.device, "architecture": {"width": arguments.width}, "fold": arguments.fold}
    seed, strong = (settings_of(recipe, **changes) for recipe in ("seed", "strong"))
    if arguments.epochs:
        seed, strong = (settings.replace(epochs=arguments.epochs) for settings in (seed, strong))
    rows, test = split(data.clips, arguments.fold)
    timed = np.resize(rows, arguments.clips), test
    strong = strong.replace(test_every=strong.epochs)
    yield "device", device_name(arguments.device)
    yield "torch", torch.__version__
    yield "date", datetime.now(UTC).strftime("%Y-%m-%d")
    yield "precision", "bf16" if uses_bf16(seed, device) else "fp32"
    yield "together", arguments.together
    yield "clips", {"given": len(data.clips), "in timings": arguments.clips, "fold": arguments.fold}
    yield "seed, clips/s", measure_speed(half, "seed", arguments)
    yield "seed, a training", measure_training(half, timed, seed) | {"accuracy": None}  # of halved frames
    yield "strong, clips/s", measure_speed(data, "strong", arguments)
    yield "strong, a training", measure_training(data, (rows, test), strong)


def device_name(name: str) -> str:
    device = resolve_device(name)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, without CUDA graphs"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=str(__doc__).splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write spectrograms for `run`")
    packing.add_argument("--data", type=Path, required=True, help="folder in ESC-50's layout")
    running = commands.add_parser("run", help="measure")
    running.add_argument("--data", type=Path, required=True, help="file that `pack` wrote")
    running.add_argument("--fold", type=int, default=4, help="the test fold")
    running.add_argument("--together", type=int, default=5, help="networks side by side")
    running.add_argument("--clips", type=int, default=TIMED_CLIPS, help="training clips of the timings")
    running.add_argument("--timed-epochs", type=int, default=12, help="epochs of a timing")
    running.add_argument("--epochs", type=int, help="of the whole trainings; by default those of the recipes")
    running.add_argument("--width", type=float, default=1.0, help="width of the networks")
    running.add_argument("--device", default="auto")
    for command in (packing, running):
        command.add_argument("--output", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    if chosen.command == "pack":
        pack(chosen.data, chosen.output)
        return
    figures = {}
    for name, figure in run(chosen):
        figures[name] = figure
        print(f"{name}: {json.dumps(figure)}", flush=True)
        chosen.output.write_text(f"{json.dumps(figures, indent=2)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
