"""Simulate the promotion gate and a naive one on models of known accuracy.

The report says how often each gate promotes, and by how much the champion's measured accuracy exceeds its true one.

python -m benchmarks.gate_report
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import NormalDist
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from components.promote.policy import Challenger, Champion, ClipResult, decide
from components.promote.settings import PromoteSettings
from mlops.command_line import run
from mlops.settings import PARAMS
from pipeline.settings import load

POINTS = (-5, -3, -2, -1, 0, 1, 2, 3, 5)  # true accuracy of the challenger minus that of the champion
RETRAININGS = 20

Hits = npt.NDArray[np.bool_]  # of shape (clips,): whether a model classifies each clip correctly
Gate = Callable[[Hits, Hits, int], bool]  # (challenger, champion, prior comparisons) -> whether it is promoted


@dataclass(frozen=True)
class Fold:
    """A test fold, and the models that are tested on it.

    Attributes:
        clips: equally many for each class; each is a recording of its own.
        accuracy: true accuracy of the champion, and mean of the trainings of a recipe.
        shared_difficulty: correlation of two models' latent scores of a clip.
        spread: standard deviation of the true accuracy over the trainings of a recipe.
    """

    clips: int
    classes: int
    accuracy: float = 0.9
    shared_difficulty: float = 0.5
    spread: float = 0.02

    def difficulty(self, generator: np.random.Generator) -> npt.NDArray[np.float64]:
        """Return what the clips' latent scores have in common for all models, of shape (clips,)."""
        return generator.normal(size=self.clips)

    def hits(self, generator: np.random.Generator, difficulty: npt.NDArray[np.float64], accuracy: float) -> Hits:
        """Return which clips a model with this true accuracy classifies correctly."""
        own = generator.normal(size=self.clips)
        latent = np.sqrt(self.shared_difficulty) * difficulty + np.sqrt(1 - self.shared_difficulty) * own
        return np.asarray(latent < NormalDist().inv_cdf(accuracy))


SIZES = ((80, 10), (400, 50), (2000, 50))  # clips and classes


@cache
def _clip_results(clips: int, classes: int) -> list[tuple[str, tuple[ClipResult, ClipResult]]]:
    """Return for each clip its name, and its result if it is classified wrongly or correctly."""
    return [
        (
            f"{clip:04}",
            (ClipResult(f"{clip % classes}", f"{clip}", False), ClipResult(f"{clip % classes}", f"{clip}", True)),
        )
        for clip in range(clips)
    ]


def promotes(policy: PromoteSettings, classes: int, challenger: Hits, champion: Hits, prior: int) -> bool:
    """Return whether `decide` promotes a challenger that is within all limits of the policy."""
    results = _clip_results(len(challenger), classes)
    first = {name: both[hit] for (name, both), hit in zip(results, challenger.tolist(), strict=True)}
    second = {name: hit for (name, _), hit in zip(results, champion.tolist(), strict=True)}
    measured = Challenger(2, "b", 1.0, 1.0, "", 0.0, 1.0, 1.0, first)
    return decide(measured, Champion(1, "a", second), policy, prior).outcome == "promote"


def promotes_naively(challenger: Hits, champion: Hits, _: int) -> bool:
    """Return whether the challenger is at least as accurate as the champion: the gate of many templates."""
    return bool(challenger.mean() >= champion.mean())


def promotion_rate(gate: Gate, fold: Fold, points: float, repetitions: int, seed: int) -> float:
    """Return the share of challengers that are promoted, if they are truly `points` better than the champion."""
    generator = np.random.default_rng([seed, fold.clips, int(points + 100)])
    promoted = 0
    for _ in range(repetitions):
        difficulty = fold.difficulty(generator)
        champion = fold.hits(generator, difficulty, fold.accuracy)
        promoted += gate(fold.hits(generator, difficulty, fold.accuracy + points / 100), champion, 0)
    return promoted / repetitions


def inflation(gate: Gate, fold: Fold, repetitions: int, seed: int) -> float:
    """Return how much higher than its true accuracy the last champion's figure is, in points, on average.

    A recipe is trained RETRAININGS times, and all models are evaluated on the same clips. The mean excess of all these
    models is subtracted: it is 0 on average, and removes what the draw of the clips adds to all figures alike.
    """
    generator = np.random.default_rng([seed, fold.clips])
    excess = []
    for _ in range(repetitions):
        difficulty = fold.difficulty(generator)
        accuracies = np.clip(generator.normal(fold.accuracy, fold.spread, RETRAININGS), 0.5, 0.999)
        models = [fold.hits(generator, difficulty, accuracy) for accuracy in accuracies]
        excesses = np.array([hits.mean() for hits in models]) - accuracies
        champion = 0
        for number in range(1, RETRAININGS):
            if gate(models[number], models[champion], number - 1):
                champion = number
        excess.append(100 * (excesses[champion] - excesses.mean()))
    return float(np.mean(excess))


def report_lines(folds: Sequence[Fold], repetitions: int, chains: int, seed: int, params: Path) -> list[str]:
    """Return the table in Markdown: a row for each gate and number of clips."""
    policy = load(params).promote
    rows = [
        (fold, name, gate)
        for fold in folds
        for name, gate in (("naive", promotes_naively), ("this gate", partial(promotes, policy, fold.classes)))
    ]
    with ProcessPoolExecutor() as pool:
        rates = [
            [pool.submit(promotion_rate, gate, fold, points, repetitions, seed) for points in POINTS]
            for fold, _, gate in rows
        ]
        excesses = [pool.submit(inflation, gate, fold, chains, seed) for fold, _, gate in rows]
        lines = [
            f"| clips | gate | {' | '.join(f'{points:+d}' if points else 'equal' for points in POINTS)} | inflation |",
            "| --- " * (len(POINTS) + 3) + "|",
        ]
        for (fold, name, _), rate, excess in zip(rows, rates, excesses, strict=True):
            shares = " | ".join(f"{100 * each.result():.1f} %" for each in rate)
            lines.append(f"| {fold.clips:,} | {name} | {shares} | {excess.result():+.1f} points |")
    return lines


def main(
    repetitions: Annotated[int, typer.Option(help="Simulated comparisons for each share.")] = 300,
    chains: Annotated[int, typer.Option(help=f"Simulated series of {RETRAININGS} retrainings.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
    accuracy: Annotated[float, typer.Option(min=0.5, max=0.94, help="True accuracy of the champion.")] = 0.9,
    shared_difficulty: Annotated[
        float, typer.Option(min=0, max=1, help="How much the same clips are difficult for all models.")
    ] = 0.5,
    spread: Annotated[float, typer.Option(min=0, help="Deviation of the accuracy between trainings.")] = 0.02,
    params: Annotated[Path, typer.Option(help="File with the policy.")] = PARAMS,
) -> None:
    """Print how often a challenger is promoted that is truly worse, equal or better, in points of accuracy."""
    folds = [Fold(clips, classes, accuracy, shared_difficulty, spread) for clips, classes in SIZES]
    print("\n".join(report_lines(folds, repetitions, chains, seed, params)))


if __name__ == "__main__":
    run(main)
