"""`make ablation`: the effect of each switch of the recipes, by cross-validation over the folds of the data.

Each row of the table is trained for every fold and seed, tested on the fold, and scored over the clips of all folds.
The weights are those of the last epoch, or their average; nothing is selected on a test fold. Results are kept next to
the table, in files whose names contain a digest of data, settings and code, so an interrupted run continues.
"""

import json
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from audiocnn.atomic import atomic_file
from audiocnn.config import TrainSettings
from audiocnn.data.clips import digest, folds, split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import resolve_device
from audiocnn.strict_model import merge
from audiocnn.training.checkpoint import fingerprint
from audiocnn.training.loop import fit_many, new_training
from benchmarks.comparison import compare_rows
from components.ingest.step import ingest
from components.spectrograms.step import spectrograms
from mlops.artifacts import DatasetFolder
from mlops.command_line import run
from mlops.provenance import code_digest
from mlops.settings import PARAMS, parse_overrides
from mlops.spectrogram_cache import DEFAULT_CACHE
from pipeline import settings as pipeline_settings
from pipeline.settings import PipelineSettings

HALF_BAND = {"rate": 22050, "n_fft": 1024, "f_max": 11025.0}
WARPS_OFF = {"roll": False, "tempo": 0.0, "pitch_scale": 0.0, "pitch_shift": 0.0, "equalizer_db": 0.0}
ROWS: dict[str, dict[str, Any]] = {  # changes to the recipe `strong`
    "seed": {"recipe": "seed"},
    "strong": {},
    "strong - full band": {"spectrograms": HALF_BAND, "train": {"augment": {"time_mask": 80}}},
    "strong - top_db": {"train": {"architecture": {"top_db": 0.0}}},
    "strong - band norm": {"train": {"architecture": {"band_norm": False}}},
    "strong - frequency channel": {"train": {"architecture": {"frequency_channel": False}}},
    "strong - squeeze-excitation": {"train": {"architecture": {"squeeze_excitation": False}}},
    "strong - roll": {"train": {"augment": {"roll": False}}},
    "strong - tempo": {"train": {"augment": {"tempo": 0.0}}},
    "strong - pitch": {"train": {"augment": {"pitch_scale": 0.0, "pitch_shift": 0.0}}},
    "strong - equalizer": {"train": {"augment": {"equalizer_db": 0.0}}},
    "strong - all warps": {"train": {"augment": WARPS_OFF}},
    "strong - power mixing": {"train": {"augment": {"mix": "mixup", "mix_alpha": 0.2, "mix_share": 0.3}}},
    "strong - masks filled with the mean": {"train": {"augment": {"mask_fill": "zero"}}},
    "strong - averaged weights": {"train": {"ema_horizon": 0.0}},
}


@dataclass(frozen=True)
class Job:
    """One training: the name of a row, a test fold and a seed."""

    row: str
    fold: int
    seed: int

    def result_file(self, folder: Path, settings: PipelineSettings, dataset_digest: str) -> Path:
        """Return the file for the result; its name changes with the clips, the settings and the code."""
        spec = {"dataset": dataset_digest, **settings.spectrograms.to_dict()}
        name = f"{self.row.replace(' ', '-')}.{self.fold}.{self.seed}"
        return folder / f"{name}.{fingerprint(settings.train, spec, code_digest('audiocnn'))}.json"

    def settings(self, overrides: Mapping[str, Any]) -> PipelineSettings:
        """Return the settings of this training; `overrides` apply to all rows, and the test fold is evaluated once."""
        row = {"recipe": "strong", **ROWS[self.row]}
        changes = {"recipe": row["recipe"], "train": {"fold": self.fold, "seed": self.seed}}
        settings = pipeline_settings.load(PARAMS, merge(merge(row, overrides), changes))
        return settings.replace(train=settings.train.replace(test_every=settings.train.epochs))


def main(
    data: Annotated[Path, typer.Option(help="Folder in ESC-50's layout.")],
    rows: Annotated[str, typer.Option(help="Names of rows, separated by commas; default: all.")] = "",
    subset: Annotated[str, typer.Option(help="all, or esc10: ten classes.")] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE in all rows; may be repeated.", metavar="KEY=VALUE")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Number of parallel trainings, with one thread each.")] = 2,
    output: Annotated[Path, typer.Option(help="Folder for results and table.")] = Path("var/bench/ablation"),
) -> None:
    """Train all rows that have no result yet, and print the table."""
    overrides = parse_overrides(assignments or [])
    names = rows.split(",") if rows else list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        raise typer.BadParameter(f"unknown row {unknown[0]!r}; known rows: {', '.join(ROWS)}")
    dataset = output / f"dataset-{subset}"
    defaults = pipeline_settings.load(PARAMS, {"ingest": {"subset": subset}})
    ingest(str(data), defaults.ingest, defaults.spectrograms, dataset)
    clips = DatasetFolder(dataset).clips()
    jobs = [Job(name, fold, seed) for seed in range(seeds) for name in names for fold in folds(clips)]
    (results := output / "hits").mkdir(parents=True, exist_ok=True)
    settings = {job: job.settings(overrides) for job in jobs}
    files = {job: job.result_file(results, settings[job], digest(clips)) for job in jobs}
    _train_all({files[job]: settings[job] for job in jobs if not files[job].is_file()}, dataset, processes)
    table = compare_rows(_read_results(files))
    table.to_csv(output / "table.csv", index=False)
    _print(table, f"{data}: {len(clips)} clips, {len(folds(clips))} folds {' '.join(assignments or [])}")


def _train_all(missing: dict[Path, PipelineSettings], dataset: Path, processes: int) -> None:
    context = multiprocessing.get_context("spawn")
    with Progress() as progress, ProcessPoolExecutor(processes, context) as pool:
        task = progress.add_task("training", total=len(missing))
        futures, folders = [], {}
        for file, settings in missing.items():
            if (front_end := settings.spectrograms) not in folders:
                values = map(str, front_end.to_dict().values())
                folders[front_end] = dataset.parent / "-".join([dataset.name, *values])
                spectrograms(dataset, front_end, folders[front_end], DEFAULT_CACHE)
            futures.append(pool.submit(_train, settings.train, folders[front_end], file))
        for future in as_completed(futures):
            future.result()
            progress.advance(task)


def _train(settings: TrainSettings, folder: Path, file: Path) -> None:
    """Train on the spectrograms in `folder`, and write which test clips are classified correctly."""
    torch.set_num_threads(1)
    data = SpectrogramSet.open(folder)
    rows = split(data.clips, settings.fold)
    training = new_training(data, rows, settings, resolve_device(settings.device))
    fit_many([training])
    network = training.network.eval()
    with torch.inference_mode():
        predicted = torch.cat([network(x.unsqueeze(1)).argmax(1).cpu() for x, _ in training.test.in_order()]).numpy()
    hits = (predicted == data.labels[rows[1]]).tolist()
    with atomic_file(file) as part:
        part.write_text(json.dumps(dict(zip(data.clips["filename"].iloc[rows[1]], hits, strict=True))), "utf-8")


def _read_results(files: dict[Job, Path]) -> pd.DataFrame:
    """Return one line for each job and clip: row, seed, filename, hit."""
    return pd.DataFrame(
        [
            {"row": job.row, "seed": job.seed, "filename": filename, "hit": hit}
            for job, file in files.items()
            for filename, hit in json.loads(file.read_text(encoding="utf-8")).items()
        ]
    )


def _print(table: pd.DataFrame, title: str) -> None:
    shown = Table(title=title)
    for name in ("row", "accuracy", "95 % of clips", "over seeds", "against the first", "p"):
        shown.add_column(name, justify="left" if name == "row" else "right", no_wrap=name == "row")
    for line in table.itertuples():
        shown.add_row(
            line.row,
            f"{line.accuracy:.1%}",
            f"{line.low:.1%} to {line.high:.1%}",
            f"+- {line.deviation:.1%} ({line.seeds})" if line.seeds > 1 else "(1)",
            f"{100 * line.difference:+.1f}",
            f"{line.p_value:.3f}",
        )
    Console().print(shown)


if __name__ == "__main__":
    run(main)
