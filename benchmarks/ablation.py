"""`make ablation`: what each switch of the recipes is worth, by cross-validation on the folds that the data has.

Every row trains on all folds but one, for each fold and seed, and pools the hits of all of them. Nothing is chosen on
a test fold: the weights of the end are scored once. What was measured is kept beside the table, under a name that
follows from all that it depends on, so that a run that was broken off goes on.
"""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, astuple, dataclass
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
from audiocnn.data.batches import batches
from audiocnn.data.clips import digest, read_clips, split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import resolve_device
from audiocnn.model import AudioCNN
from audiocnn.training.loop import fingerprint, fit
from benchmarks.comparison import table
from components.ingest.step import ingest
from components.spectrograms.step import spectrograms
from mlops.command_line import errors_to_exit
from mlops.provenance import code_digest
from mlops.settings import parse_overrides
from mlops.spectrogram_cache import DEFAULT_CACHE
from pipeline import settings as pipeline_settings
from pipeline.settings import PipelineSettings

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
    "seed + top_db 80": ("seed", {"architecture.top_db": 80.0}, {}),
    "seed + 44.1 kHz": ("seed", {}, {"rate": 44100, "n_fft": 2048, "hop": 2.0, "f_max": 22050.0}),  # hop: a factor
    "strong - mixing of powers": (
        "strong",
        {"augment.mix": "mixup", "augment.mix_alpha": 0.2, "augment.mix_share": 0.3},
        {},
    ),
    "strong - bands normalised": ("strong", {"architecture.band_norm": False}, {}),
    "strong - masks filled with the mean": ("strong", {"augment.mask_fill": "zero"}, {}),
    "strong - time resolution": ("strong", {"architecture.time_stride": 4}, {}),
    "strong - top_db 80": ("strong", {"architecture.top_db": 0.0}, {}),
}


@dataclass(frozen=True)
class Job:
    """One training: a row, the fold that it is tested on, a seed."""

    row: str
    fold: int
    seed: int

    def place(self, folder: Path, settings: PipelineSettings, dataset_digest: str) -> Path:
        """Where its hits lie: another place once the clips, a setting, a recipe or the code are others."""
        spec = {"dataset": dataset_digest, **asdict(settings.spectrograms)}
        name = f"{self.row.replace(' ', '-')}.{self.fold}.{self.seed}"
        return folder / f"{name}.{fingerprint(settings.train, spec, code_digest('audiocnn'))}.json"


@dataclass(frozen=True)
class Budget:
    """What every row has at hand."""

    epochs: int
    width: float
    n_mels: int
    hop: int
    precision: str

    def settings(self, job: Job) -> PipelineSettings:
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
        given = parse_overrides([f"{key}={json.dumps(value)}" for key, value in changes.items()])
        return pipeline_settings.load(Path("params.yaml"), given)


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
        settings = pipeline_settings.load(Path("params.yaml"), parse_overrides([f"ingest.subset={subset}"]))
        ingest(str(data), settings.ingest, dataset)
        clips = read_clips(dataset / "clips.csv")
        folds = sorted(clips["fold"].unique().tolist())
        jobs = [Job(row, fold, seed) for seed in range(seeds) for row in wanted for fold in folds]
        (hits := output / "hits").mkdir(parents=True, exist_ok=True)
        given = {job: budget.settings(job) for job in jobs}
        places = {job: job.place(hits, given[job], digest(clips)) for job in jobs}
        _measure({places[job]: given[job] for job in jobs if not places[job].is_file()}, dataset, processes)
        measured = table(_read(places))
    measured.to_csv(output / "table.csv", index=False)
    _show(measured, f"{data}: {len(clips)} clips, {len(folds)} folds, {budget}")


def _measure(missing: dict[Path, PipelineSettings], dataset: Path, processes: int) -> None:
    context = multiprocessing.get_context("spawn")
    with Progress() as progress, ProcessPoolExecutor(processes, context) as pool:
        shown = progress.add_task("training", total=len(missing))
        waiting, pictures = [], {}
        for place, settings in missing.items():
            if (front_end := settings.spectrograms) not in pictures:
                made = dataset.parent / "-".join([dataset.name, *map(str, astuple(front_end))])
                spectrograms(dataset, front_end, made, DEFAULT_CACHE)
                pictures[front_end] = made
            waiting.append(pool.submit(_train, settings.train, pictures[front_end], place))
        for done in as_completed(waiting):
            done.result()
            progress.advance(shown)


def _train(settings: TrainSettings, pictures: Path, place: Path) -> None:
    """One training; which clips of its fold it named rightly goes to a file of their own."""
    torch.set_num_threads(1)
    data = SpectrogramSet.open(pictures)
    rows = split(data.clips, settings.fold)
    device = resolve_device(settings.device)
    train, test = (batches(data, part, settings.batch_size, device) for part in rows)
    torch.manual_seed(settings.seed)
    network = AudioCNN(len(data.classes), data.settings.n_mels, settings.architecture)
    fit(network, train, test, settings, lambda _: None)
    network.eval()
    with torch.inference_mode():
        said = torch.cat([network(x.unsqueeze(1)).argmax(1).cpu() for x, _ in test.in_order()]).numpy()
    names = data.clips["filename"].iloc[rows[1]]
    with atomic_file(place) as part:
        part.write_text(json.dumps(dict(zip(names, (said == data.labels[rows[1]]).tolist(), strict=True))), "utf-8")


def _read(places: dict[Job, Path]) -> pd.DataFrame:
    """One line a row, seed and clip."""
    return pd.DataFrame(
        [
            {"row": job.row, "seed": job.seed, "filename": filename, "hit": hit}
            for job, place in places.items()
            for filename, hit in json.loads(place.read_text(encoding="utf-8")).items()
        ]
    )


def _show(measured: pd.DataFrame, title: str) -> None:
    shown = Table(title=title)
    for name in ("row", "accuracy", "95 % of clips", "over seeds", "against the first", "p"):
        shown.add_column(name, justify="left" if name == "row" else "right", no_wrap=name == "row")
    for line in measured.itertuples():
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
    typer.run(main)
