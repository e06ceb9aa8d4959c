"""`make ablation`: what each switch of the recipes is worth, by cross-validation on the folds that the data has.

Every row trains on all folds but one, for each fold and seed, and pools the hits of all of them. Nothing is chosen on
a test fold: the last, or averaged, weights are scored once. What was measured is kept beside the table, so that a run
that was broken off goes on.
"""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from audiocnn import params
from audiocnn.atomic import atomic_file
from audiocnn.batches import batches
from audiocnn.dataset import SpectrogramSet, digest, read_clips, split
from audiocnn.evaluation import compare
from audiocnn.model import AudioCNN, resolve_device
from audiocnn.params import Params
from audiocnn.settings import TrainSettings
from audiocnn.training import fit
from components.command import errors_to_exit
from components.ingest.step import ingest
from components.spectrograms import CACHE
from components.spectrograms.step import spectrograms

# What a row changes: of the recipe that it starts from, and of the front end.
Changes = dict[str, Any]
ROWS: dict[str, tuple[str, Changes, Changes]] = {
    "seed": ("seed", {}, {}),
    "strong": ("strong", {}, {}),
    "seed + mixing of powers": (
        "seed",
        {"augment.mix": "power", "augment.mix_alpha": 1.0, "augment.mix_share": 0.5},
        {},
    ),
    "seed + three times the epochs": ("seed", {"epochs": 3.0}, {}),  # a factor
    "seed + bands normalised": ("seed", {"architecture.band_norm": True}, {}),
    "seed + masks filled with the mean": ("seed", {"augment.mask_fill": "mean"}, {}),
    "seed + time resolution": ("seed", {"architecture.time_stride": 2}, {}),
    "seed + squeeze-excitation": ("seed", {"architecture.squeeze_excitation": True}, {}),
    "seed + frequency channel": ("seed", {"architecture.frequency_channel": True}, {}),
    "seed + restricted receptive field": ("seed", {"architecture.wide_stages": 2}, {}),
    "seed + averaged weights": ("seed", {"ema_epochs": 2.0}, {}),
    "seed + roll": ("seed", {"augment.roll": 1.0}, {}),
    "seed + tempo and pitch": ("seed", {"augment.stretch": 0.15, "augment.shift": 3.0}, {}),
    "seed + gain": ("seed", {"augment.gain_db": 6.0}, {}),
    "seed + noise": ("seed", {"augment.noise_db": -10.0}, {}),
    "seed + crops": ("seed", {"augment.crop": 0.8}, {}),
    "seed + top_db 80": ("seed", {"architecture.top_db": 80.0}, {}),
    "seed + decay on weights only": ("seed", {"decay_all": False}, {}),
    "seed + 44.1 kHz": ("seed", {}, {"rate": 44100, "n_fft": 2048, "hop": 2.0, "f_max": 22050.0}),  # hop: a factor
}
CROPS = 5  # of the clip, evenly spaced, whose probabilities are averaged


@dataclass(frozen=True)
class Job:
    """One training: a row, the fold that it is tested on, a seed."""

    row: str
    fold: int
    seed: int

    def place(self, folder: Path) -> Path:
        """Where its hits lie."""
        return folder / f"{self.row.replace(' ', '-')}.{self.fold}.{self.seed}.json"


@dataclass(frozen=True)
class Budget:
    """What every row has at hand."""

    epochs: int
    width: float
    n_mels: int
    hop: int
    precision: str

    def settings(self, job: Job) -> Params:
        """All settings of a job: the recipe's, the row's changes, and what the budget allows."""
        recipe, training, front_end = ROWS[job.row]
        changes = {f"train.{key}": value for key, value in training.items() if key != "epochs"}
        changes |= {f"spectrograms.{key}": value for key, value in front_end.items() if key != "hop"}
        epochs = round(self.epochs * training.get("epochs", 1))
        changes |= {
            "spectrograms.n_mels": self.n_mels,
            "spectrograms.hop": round(self.hop * front_end.get("hop", 1)),
            "train.recipe": recipe,
            "train.fold": job.fold,
            "train.seed": job.seed,
            "train.epochs": epochs,
            "train.test_every": epochs,
            "train.precision": self.precision,
            "train.architecture.width": self.width,
        }
        given = params.override([f"{key}={json.dumps(value)}" for key, value in changes.items()])
        return params.load(Path("params.yaml"), given)


def main(
    data: Annotated[Path, typer.Option(help="A folder in ESC-50's layout.")] = Path("../shared/esc50"),
    rows: Annotated[str, typer.Option(help="Names of rows, separated by commas; all without it.")] = "",
    subset: Annotated[str, typer.Option(help="all, or esc10: ten classes.")] = "esc10",
    seeds: Annotated[int, typer.Option(min=1)] = 2,
    epochs: Annotated[int, typer.Option(min=1)] = 100,
    width: Annotated[float, typer.Option()] = 0.25,
    n_mels: Annotated[int, typer.Option(min=1)] = 64,
    hop: Annotated[int, typer.Option(min=1, help="Samples at 22,050 Hz.")] = 1024,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "bf16",
    processes: Annotated[int, typer.Option(min=1, help="Trainings side by side, of one thread each.")] = 2,
    output: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("var/bench/ablation"),
) -> None:
    """Train what is not measured yet, then print the table."""
    with errors_to_exit():
        budget = Budget(epochs, width, n_mels, hop, precision)
        wanted = rows.split(",") if rows else list(ROWS)
        if unknown := [row for row in wanted if row not in ROWS]:
            raise typer.BadParameter(f"there is no row {unknown[0]!r}; there are: {', '.join(ROWS)}")
        dataset = output / f"dataset-{subset}"
        settings = params.load(Path("params.yaml"), params.override([f"ingest.subset={subset}"]))
        ingest(str(data), settings.ingest, dataset)
        clips = read_clips(dataset / "clips.csv")
        folds = sorted(clips["fold"].unique().tolist())
        jobs = [Job(row, fold, seed) for seed in range(seeds) for row in wanted for fold in folds]
        folder = output / "-".join([digest(clips)[:8], *map(str, astuple(budget))])
        folder.mkdir(parents=True, exist_ok=True)
        _measure(jobs, budget, dataset, folder, processes)
        table = _table(jobs, folder)
    table.to_csv(folder / "table.csv", index=False)
    _show(table, f"{data}: {len(clips)} clips, {len(folds)} folds, {budget}")


def _measure(jobs: list[Job], budget: Budget, dataset: Path, folder: Path, processes: int) -> None:
    missing = [job for job in jobs if not job.place(folder).is_file()]
    context = multiprocessing.get_context("spawn")
    with Progress() as progress, ProcessPoolExecutor(processes, context) as pool:
        shown = progress.add_task("training", total=len(missing))
        waiting = []
        for job in missing:
            settings = budget.settings(job)
            pictures = folder.parent / "-".join([dataset.name, *map(str, astuple(settings.spectrograms))])
            if not pictures.is_dir():
                spectrograms(dataset, settings.spectrograms, pictures, CACHE)
            waiting.append(pool.submit(_train, settings.train, pictures, job.place(folder)))
        for done in as_completed(waiting):
            done.result()
            progress.advance(shown)


def _train(settings: TrainSettings, pictures: Path, place: Path) -> None:
    """One training; its hits, clip by clip, on whole clips and on crops, go to a file of their own."""
    torch.set_num_threads(1)
    data = SpectrogramSet.open(pictures)
    rows = split(data.clips, settings.fold)
    device = resolve_device(settings.device)
    train, test = (batches(data, part, settings.batch_size, device) for part in rows)
    torch.manual_seed(settings.seed)
    network = AudioCNN(len(data.classes), data.settings.n_mels, settings.architecture)
    fit(network, train, test, settings, lambda _: None)
    network.eval()
    names = data.clips["filename"].iloc[rows[1]]
    frames = round(settings.augment.crop * data.settings.frames)
    hits = {}
    for kind, count in (("whole", 1), ("crops", CROPS if settings.augment.crop < 1 else 1)):
        said = torch.cat([_probabilities(network, x, frames, count).argmax(1).cpu() for x, _ in test.in_order()])
        hits[kind] = dict(zip(names, (said.numpy() == data.labels[rows[1]]).tolist(), strict=True))
    with atomic_file(place) as part:
        part.write_text(json.dumps(hits), encoding="utf-8")


@torch.inference_mode()
def _probabilities(network: AudioCNN, spectrograms_: torch.Tensor, frames: int, crops: int) -> torch.Tensor:
    """Shape (batch, n_classes): of whole clips for one crop, else the mean over evenly spaced ones of `frames`."""
    if crops == 1:
        return network(spectrograms_.unsqueeze(1)).softmax(1)
    last = spectrograms_.shape[-1] - frames
    starts = [round(last * number / (crops - 1)) for number in range(crops)]
    parts = [network(spectrograms_[:, None, :, start : start + frames]).softmax(1) for start in starts]
    return torch.stack(parts).mean(0)


def _table(jobs: list[Job], folder: Path) -> pd.DataFrame:
    """A line a row: accuracy pooled over folds, mean and deviation over seeds, paired comparison with the first."""
    hits: dict[str, dict[int, dict[str, bool]]] = {}
    for job in jobs:
        found = json.loads(job.place(folder).read_text(encoding="utf-8"))
        hits.setdefault(job.row, {}).setdefault(job.seed, {}).update(found["whole"])
        if found["crops"] != found["whole"]:
            hits.setdefault(f"{job.row}, {CROPS} at test time", {}).setdefault(job.seed, {}).update(found["crops"])
    base = next(iter(hits.values()))
    return pd.DataFrame([{"row": row, **_figures(of_row, base)} for row, of_row in hits.items()])


def _figures(of_row: dict[int, dict[str, bool]], base: dict[int, dict[str, bool]]) -> dict[str, float]:
    accuracies = [np.mean(list(of_seed.values())) for of_seed in of_row.values()]
    # One row of hits a clip and seed, in the same order for both.
    keys = [(seed, clip) for seed in of_row for clip in sorted(of_row[seed])]
    ours, theirs = (np.array([of[seed][clip] for seed, clip in keys]) for of in (of_row, base))
    paired = compare(ours, theirs)
    clips = len(next(iter(of_row.values())))
    mean = float(np.mean(accuracies))
    margin = 1.96 * float(np.sqrt(mean * (1 - mean) / clips))
    return {
        "seeds": len(of_row),
        "accuracy": mean,
        "deviation": float(np.std(accuracies)),
        "low": mean - margin,
        "high": mean + margin,
        "difference": paired.difference,
        "p_value": paired.p_value,
    }


def _show(table: pd.DataFrame, title: str) -> None:
    shown = Table(title=title)
    for name in ("row", "accuracy", "95 % of clips", "over seeds", "against the first", "p"):
        shown.add_column(name, justify="left" if name == "row" else "right")
    for line in table.itertuples():
        shown.add_row(
            line.row,
            f"{line.accuracy:.1%}",
            f"{line.low:.1%} to {line.high:.1%}",
            f"+- {line.deviation:.1%} ({line.seeds})",
            f"{100 * line.difference:+.1f}",
            f"{line.p_value:.3f}",
        )
    Console().print(shown)


if __name__ == "__main__":
    typer.run(main)
