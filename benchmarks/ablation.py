"""`make ablation`: what each switch of the recipes is worth, by cross-validation on the folds that the data has.

Every row trains on all folds but one, for each fold and seed, and pools the hits of all of them. Nothing is chosen on
a test fold: the last, or averaged, weights are scored once. What was measured is kept beside the table, so that a run
that was broken off goes on.
"""

import json
import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
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
from audiocnn.batches import batches
from audiocnn.dataset import SpectrogramSet, split
from audiocnn.evaluation import compare
from audiocnn.model import AudioCNN, resolve_device
from audiocnn.settings import TrainSettings
from audiocnn.training import fit
from components.command import errors_to_exit

# A row: the recipe that it starts from, and what it changes there.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "seed": ("seed", {}),
    "seed + bands normalised": ("seed", {"architecture.band_norm": True}),
    "seed + masks filled with the mean": ("seed", {"augment.mask_fill": "mean"}),
    "seed + mixing of powers": ("seed", {"augment.mix": "power", "augment.mix_alpha": 1.0, "augment.mix_share": 0.5}),
    "seed + roll": ("seed", {"augment.roll": 1.0}),
    "seed + gain": ("seed", {"augment.gain_db": 6.0}),
    "seed + tempo and pitch": ("seed", {"augment.stretch": 0.15, "augment.shift": 3.0}),
    "seed + crops": ("seed", {"augment.crop": 0.8}),
    "seed + top_db 80": ("seed", {"architecture.top_db": 80.0}),
    "seed + time resolution": ("seed", {"architecture.time_stride": 2}),
    "seed + restricted receptive field": ("seed", {"architecture.wide_stages": 2}),
    "seed + frequency channel": ("seed", {"architecture.frequency_channel": True}),
    "seed + squeeze-excitation": ("seed", {"architecture.squeeze_excitation": True}),
    "seed + averaged weights": ("seed", {"ema_epochs": 2.0}),
    "seed + decay on weights only": ("seed", {"decay_all": False}),
    "seed + three times the epochs": ("seed", {"epochs": 3.0}),  # a factor
}


def main(
    spectrograms: Annotated[Path, typer.Option(help="A folder of the step spectrograms.")] = Path("spectrograms"),
    rows: Annotated[str, typer.Option(help="Names of rows, separated by commas; all without it.")] = "",
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    epochs: Annotated[int, typer.Option(min=1)] = 30,
    width: Annotated[float, typer.Option()] = 0.125,
    processes: Annotated[int, typer.Option(min=1, help="Trainings side by side, of one thread each.")] = 2,
    output: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("var/bench/ablation"),
) -> None:
    """Train what is not measured yet, then print the table."""
    with errors_to_exit():
        data = SpectrogramSet.open(spectrograms)
        jobs = list(_jobs(rows.split(",") if rows else list(ROWS), sorted(data.clips["fold"].unique()), seeds))
        budget = {"epochs": epochs, "width": width}
        folder = output / f"{data.spec['dataset']['digest'][:8]}-{epochs}-{width:g}"
        folder.mkdir(parents=True, exist_ok=True)
        _measure(jobs, spectrograms, folder, budget, processes)
        table = _table(jobs, folder)
    table.to_csv(folder / "table.csv", index=False)
    _show(table, f"{data.spec['dataset']['source']}, {len(data.clips)} clips, {epochs} epochs, width {width:g}")


def _jobs(rows: list[str], folds: list[int], seeds: int) -> Iterator[tuple[str, int, int]]:
    for row in rows:
        if row not in ROWS:
            raise typer.BadParameter(f"there is no row {row!r}; there are: {', '.join(ROWS)}")
        yield from ((row, fold, seed) for seed in range(seeds) for fold in folds)


def _measure(
    jobs: list[tuple[str, int, int]], spectrograms: Path, folder: Path, budget: Mapping[str, Any], processes: int
) -> None:
    missing = [job for job in jobs if not _place(folder, *job).is_file()]
    context = multiprocessing.get_context("spawn")
    with Progress() as progress, ProcessPoolExecutor(processes, context) as pool:
        shown = progress.add_task("training", total=len(missing))
        waiting = [pool.submit(_train, job, spectrograms, folder, dict(budget)) for job in missing]
        for done in as_completed(waiting):
            done.result()
            progress.advance(shown)


def _train(job: tuple[str, int, int], spectrograms: Path, folder: Path, budget: dict[str, Any]) -> None:
    """One training; its hits, clip by clip, go to a file of their own."""
    row, fold, seed = job
    torch.set_num_threads(1)
    settings = _settings(row, fold, seed, budget)
    data = SpectrogramSet.open(spectrograms)
    rows = split(data.clips, fold)
    device = resolve_device(settings.device)
    train, test = (batches(data, part, settings.batch_size, device) for part in rows)
    torch.manual_seed(seed)
    network = AudioCNN(len(data.classes), data.settings.n_mels, settings.architecture)
    fit(network, train, test, settings, lambda _: None)
    network.eval()
    with torch.inference_mode():
        said = torch.cat([network(x.unsqueeze(1)).argmax(1).cpu() for x, _ in test.in_order()]).numpy()
    hits = dict(zip(data.clips["filename"].iloc[rows[1]], (said == data.labels[rows[1]]).tolist(), strict=True))
    _place(folder, *job).write_text(json.dumps(hits), encoding="utf-8")


def _settings(row: str, fold: int, seed: int, budget: dict[str, Any]) -> TrainSettings:
    recipe, changes = ROWS[row]
    override = params.override([f"train.{key}={json.dumps(value)}" for key, value in changes.items()])
    train = override.setdefault("train", {})
    epochs = round(budget["epochs"] * train.pop("epochs", 1))
    train |= {"recipe": recipe, "fold": int(fold), "seed": seed, "epochs": epochs, "test_every": epochs}
    train.setdefault("architecture", {})["width"] = budget["width"]
    return params.load(Path("params.yaml"), override).train


def _place(folder: Path, row: str, fold: int, seed: int) -> Path:
    return folder / f"{row.replace(' ', '-')}.{fold}.{seed}.json"


def _table(jobs: list[tuple[str, int, int]], folder: Path) -> pd.DataFrame:
    """A line a row: accuracy pooled over folds, mean and deviation over seeds, paired comparison with the first."""
    hits: dict[str, dict[int, dict[str, bool]]] = {}
    for row, fold, seed in jobs:
        found = json.loads(_place(folder, row, fold, seed).read_text(encoding="utf-8"))
        hits.setdefault(row, {}).setdefault(seed, {}).update(found)
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
