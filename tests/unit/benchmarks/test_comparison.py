"""Rows compared with the first: a clip is one observation, and rows on other clips are refused."""

import numpy as np
import pandas as pd
import pytest

from audiocnn.intervals import wilson_interval
from benchmarks.comparison import ComparisonError, compare_rows


def hits(row: str, **by_seed: str) -> pd.DataFrame:
    """Return one line for each clip and seed; `s0="110"` is hits on the first two of three clips with seed 0."""
    lines = [
        (row, int(seed[1:]), f"{clip}.wav", hit == "1")
        for seed, digits in by_seed.items()
        for clip, hit in enumerate(digits)
    ]
    return pd.DataFrame(lines, columns=["row", "seed", "filename", "hit"])


def test_the_interval_of_the_accuracy_counts_a_clip_once() -> None:
    line = compare_rows(hits("seed", s0="1110", s1="1000")).iloc[0]
    assert (line["seeds"], line["clips"], line["accuracy"]) == (2, 4, 0.5)
    assert (line["low"], line["high"]) == wilson_interval(0.5, 4, 0.95)
    assert line["deviation"] == pytest.approx(np.sqrt(0.125))
    assert (line["difference"], line["p_value"]) == (0.0, 1.0)


def test_a_row_is_compared_with_the_first_on_common_seeds() -> None:
    first, other = hits("seed", s0="0000", s1="1111", s2="1111"), hits("other", s0="1110")
    line = compare_rows(pd.concat([first, other])).iloc[1]
    assert line["row"] == "other" and line["difference"] == 0.75
    assert line["p_value"] == 0.25  # three clips of three: 2 / 2^3
    assert np.isnan(line["deviation"])


def test_more_seeds_are_not_more_observations() -> None:
    first, other = (
        hits(name, **{f"s{seed}": digits for seed in range(5)}) for name, digits in (("a", "00"), ("b", "11"))
    )
    assert compare_rows(pd.concat([first, other])).iloc[1]["p_value"] == 0.5  # two clips of two, not ten of ten


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (hits("b", s0="11"), "not scored on the clips"),
        (hits("b", s0="1111"), "not scored on the clips"),
        (hits("b", s0="111", s1="11"), "not scored on the clips"),
        (hits("b", s7="111"), "no seed in common"),
    ],
)
def test_rows_on_other_clips_are_refused(other: pd.DataFrame, message: str) -> None:
    with pytest.raises(ComparisonError, match=f"b: {message}"):
        compare_rows(pd.concat([hits("a", s0="000", s1="000"), other]))
