"""Compare the rows of an ablation with the first one, clip by clip, over all folds and seeds."""

import statistics

import numpy as np
import numpy.typing as npt
import pandas as pd

from audiocnn.evaluation import mcnemar_p_value
from audiocnn.intervals import wilson_interval


class ComparisonError(Exception):
    """Rows that were not scored on the same clips."""


def compare_rows(hits: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return one line per row, in their order.

    Args:
        hits: one line for each row, seed and clip, with the columns row, seed, filename and hit (bool).
        confidence: of the intervals.
    Returns:
        row; seeds and clips: their numbers; accuracy: mean over the seeds; low, high: its Wilson interval, in which a
        clip counts once; deviation: standard deviation over the seeds, NaN for one seed; difference: of the accuracy to
        the first row's, on the seeds of both; p_value: of the sign test over the clips, each with the share of its
        seeds that classify it correctly. With one seed that is McNemar's test.
    Raises:
        ComparisonError: a row was not scored on the clips of the first one, or has no seed in common with it.
    """
    by_row = {str(name): group for name, group in hits.groupby("row", sort=False)}
    first = next(iter(by_row.values()))
    return pd.DataFrame([{"row": name, **_compare(name, row, first, confidence)} for name, row in by_row.items()])


def _compare(name: str, row: pd.DataFrame, first: pd.DataFrame, confidence: float) -> dict[str, float]:
    by_seed = row.groupby("seed")["hit"].mean()
    accuracy, clips = float(by_seed.mean()), row["filename"].nunique()
    low, high = wilson_interval(accuracy, clips, confidence)
    seeds = sorted(set(row["seed"]) & set(first["seed"]))
    shares, baseline = (_correct_share(name, each, seeds, set(first["filename"])) for each in (row, first))
    return {
        "seeds": len(by_seed),
        "clips": clips,
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "deviation": statistics.stdev(by_seed) if len(by_seed) > 1 else float("nan"),
        "difference": float((shares - baseline).mean()),
        "p_value": mcnemar_p_value(shares > baseline, baseline > shares),
    }


def _correct_share(name: str, hits: pd.DataFrame, seeds: list[int], clips: set[str]) -> npt.NDArray[np.float64]:
    """Return for each clip, sorted by name, the share of `seeds` that classify it correctly."""
    if not seeds:
        raise ComparisonError(f"{name}: no seed in common with the first row")
    wide = hits[hits["seed"].isin(seeds)].pivot(index="filename", columns="seed", values="hit")
    if set(wide.index) != clips or wide.isna().any(axis=None):
        raise ComparisonError(f"{name}: not scored on the clips of the first row with every seed")
    shares: npt.NDArray[np.float64] = wide.sort_index().astype(float).mean(axis=1).to_numpy()
    return shares
