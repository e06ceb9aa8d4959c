"""The difference in accuracy between two models on the same clips, with a lower confidence bound."""

import numpy as np
import numpy.typing as npt

Differences = npt.NDArray[np.int64]  # of shape (clips,): 1 only the first model is correct, -1 only the second, 0 else
RESAMPLES = 4000


def lower_bound(differences: Differences, recordings: npt.NDArray[np.str_], level: float) -> float:
    """Return the one-sided lower confidence bound of the difference in accuracy, from -1 to 1.

    It is the lower one of two bounds: the exact one is valid for any number of clips if they are independent, the
    bootstrap over recordings takes into account that clips of one recording are similar.

    Args:
        recordings: of shape (clips,), the recording that each clip was cut from.
        level: probability that the true difference is below the bound, for example 0.1.
    Raises:
        ValueError: there are no clips.
    """
    if len(differences) == 0:
        raise ValueError("no clips to compare")
    return min(_exact_bound(differences, level), _bootstrap_bound(differences, recordings, level))


def _exact_bound(differences: Differences, level: float) -> float:
    """Return the bound from the clips on which the models differ.

    The first model's share of these clips has the lower bound of Clopper and Pearson (Biometrika, 1934). The bound of
    the difference is above 0 if and only if the one-sided exact McNemar test rejects equality at this level.
    """
    from scipy.stats import beta

    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    if wins + losses == 0:
        return 0.0
    share = float(beta.ppf(level, wins, losses + 1)) if wins else 0.0
    return (2 * share - 1) * (wins + losses) / len(differences)


def _bootstrap_bound(differences: Differences, recordings: npt.NDArray[np.str_], level: float) -> float:
    """Return the percentile bound of the bootstrap (Efron and Tibshirani, 1993, chapter 13), resampling recordings."""
    _, recording = np.unique(recordings, return_inverse=True)
    sums = np.bincount(recording, weights=differences)
    sizes = np.bincount(recording)
    # Recordings with equal sums and sizes are interchangeable, so only their numbers have to be drawn.
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(len(sums), counts / len(sums), RESAMPLES) @ kinds
    return float(np.quantile(drawn[:, 0] / drawn[:, 1], level, method="lower"))
