"""Confidence intervals that allow for several clips of one recording, which tend to be right or wrong together."""

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Interval = tuple[float, float]
RESAMPLES = 1000
BATCH = 100  # resamples computed at a time, which bounds memory


def wilson_interval(share: float, clips: float, confidence: float) -> Interval:
    """Return the score interval of a proportion (Wilson, JASA, 1927), within 0 and 1.

    In contrast to scipy's, `share * clips` and `clips` need not be whole numbers.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    center = (share + z**2 / (2 * clips)) / (1 + z**2 / clips)
    half_width = z / (1 + z**2 / clips) * math.sqrt(share * (1 - share) / clips + z**2 / (4 * clips**2))
    # Rounding would leave out a share of 0 or 1.
    return max(0.0, min(share, center - half_width)), min(1.0, max(share, center + half_width))


def share_interval(hits: npt.NDArray[Any], recordings: npt.NDArray[Any], confidence: float) -> Interval:
    """Return the interval of the mean of `hits`: Wilson's for the effective number of clips.

    That is p(1 - p) / v, at most the number of clips, where v is the variance of the mean under resampling of the
    recordings (Dean and Pagano, Evaluating confidence interval methods for binomial proportions in clustered surveys,
    JSSAM, 2015). In contrast to percentiles of a bootstrap, it is not of width 0 where all clips are classified
    correctly, and can be used for the eight clips of a class too.

    Args:
        hits: of shape (clips,): whether a clip is classified correctly, or the share of several models that do.
        recordings: of shape (clips,): the number of each clip's recording.
    """
    share = float(hits.mean())
    numbers = np.unique(recordings, return_inverse=True)[1]
    sums = np.bincount(numbers, weights=hits - share)
    variance = float((sums**2).sum()) / len(hits) ** 2
    effective = share * (1 - share) / variance if variance > 1e-12 else float(len(sums))
    return wilson_interval(share, min(effective, len(hits)), confidence)


def bootstrap_intervals(
    metrics: Callable[[FloatArray], Mapping[str, FloatArray]], recordings: IntArray, confidence: float
) -> dict[str, Interval]:
    """Return percentile intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    The recordings are drawn with replacement, RESAMPLES times with a fixed seed; all clips of a recording are drawn
    together. The width is 0 where all clips are classified correctly.

    Args:
        metrics: for weights of shape (resamples, clips), how often each clip was drawn, returns values of shape
            (resamples,) by name.
        recordings: of shape (clips,), from 0 to the number of recordings less 1.
    """
    generator = np.random.default_rng(0)
    number = int(recordings.max()) + 1
    parts = []
    for _ in range(0, RESAMPLES, BATCH):
        counts = generator.multinomial(number, np.full(number, 1 / number), size=BATCH)
        parts.append(metrics(counts[:, recordings].astype(np.float64)))
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    quantiles = {name: np.quantile(np.concatenate([part[name] for part in parts]), ends) for name in parts[0]}
    return {name: (float(low), float(high)) for name, (low, high) in quantiles.items()}
