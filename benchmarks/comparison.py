"""The rows of an ablation, each held against the first: which clips each named rightly, over all folds and seeds."""

import statistics

import numpy as np
import numpy.typing as npt
import pandas as pd

from audiocnn.evaluation import compare, wilson


class ComparisonError(Exception):
    """Rows that cannot be held against each other."""


def table(hits: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """One line a row, in the order in which they come.

    Args:
        hits: one line a row, seed and clip, with the columns row, seed, filename and hit (bool).
        confidence: of the intervals.
    Returns:
        row; seeds; clips; accuracy, pooled, and its Wilson interval (low, high), which counts each clip once; deviation
        of the seeds' accuracies, NaN of one; and against the first row, on the seeds that both have: difference, and
        p_value of the sign test of the clips, which with one seed is McNemar's. A second seed is no second clip, so the
        share of its seeds that name a clip rightly is one observation.
    Raises:
        ComparisonError: a row lacks clips that the first one has, or shares no seed with it.
    """
    by_row = {str(name): own for name, own in hits.groupby("row", sort=False)}
    first = next(iter(by_row.values()))
    return pd.DataFrame([{"row": name, **_figures(name, own, first, confidence)} for name, own in by_row.items()])


def _figures(name: str, own: pd.DataFrame, first: pd.DataFrame, confidence: float) -> dict[str, float]:
    by_seed = own.groupby("seed")["hit"].mean()
    accuracy, clips = float(by_seed.mean()), own["filename"].nunique()
    low, high = wilson(accuracy, clips, confidence)
    seeds = sorted(set(own["seed"]) & set(first["seed"]))
    ours, theirs = (_shares(name, each, seeds, set(first["filename"])) for each in (own, first))
    return {
        "seeds": len(by_seed),
        "clips": clips,
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "deviation": statistics.stdev(by_seed) if len(by_seed) > 1 else float("nan"),
        "difference": float((ours - theirs).mean()),
        "p_value": compare(ours > theirs, theirs > ours).p_value,
    }


def _shares(name: str, hits: pd.DataFrame, seeds: list[int], clips: set[str]) -> npt.NDArray[np.float64]:
    """The share of `seeds` that named each clip rightly, in the order of the clips' names."""
    if not seeds:
        raise ComparisonError(f"{name}: it has no seed that the first row has")
    wide = hits[hits["seed"].isin(seeds)].pivot(index="filename", columns="seed", values="hit")
    if set(wide.index) != clips or wide.isna().any(axis=None):
        raise ComparisonError(f"{name}: it was not scored on the clips that the first row was, with every seed")
    shares: npt.NDArray[np.float64] = wide.sort_index().astype(float).mean(axis=1).to_numpy()
    return shares
