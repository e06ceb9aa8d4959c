"""Rows held against the first: what counts as one observation, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from audiocnn.evaluation import wilson
from benchmarks.comparison import ComparisonError, table


def hits(row: str, **by_seed: str) -> pd.DataFrame:
    """One line a clip and seed; `s0="110"`: with seed 0 the first two of three clips were named rightly."""
    lines = [
        (row, int(seed[1:]), f"{clip}.wav", hit == "1")
        for seed, told in by_seed.items()
        for clip, hit in enumerate(told)
    ]
    return pd.DataFrame(lines, columns=["row", "seed", "filename", "hit"])


def test_accuracy_is_pooled_and_its_interval_counts_a_clip_once() -> None:
    line = table(hits("seed", s0="1110", s1="1000")).iloc[0]
    assert (line["seeds"], line["clips"], line["accuracy"]) == (2, 4, 0.5)
    assert (line["low"], line["high"]) == wilson(0.5, 4, 0.95)
    assert line["deviation"] == pytest.approx(np.sqrt(0.125))
    assert (line["difference"], line["p_value"]) == (0.0, 1.0)


def test_a_row_is_held_against_the_first_with_the_seeds_that_both_have() -> None:
    first, other = hits("seed", s0="0000", s1="1111", s2="1111"), hits("other", s0="1110")
    line = table(pd.concat([first, other])).iloc[1]
    assert line["row"] == "other" and line["difference"] == 0.75
    assert line["p_value"] == 0.25  # three clips of three: 2 / 2^3
    assert np.isnan(line["deviation"])


def test_a_second_seed_is_no_second_clip() -> None:
    first, other = (hits(name, **{f"s{seed}": told for seed in range(5)}) for name, told in (("a", "00"), ("b", "11")))
    assert table(pd.concat([first, other])).iloc[1]["p_value"] == 0.5  # two clips of two, not ten of ten


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (hits("b", s0="11"), "was not scored on the clips"),
        (hits("b", s0="1111"), "was not scored on the clips"),
        (hits("b", s0="111", s1="11"), "was not scored on the clips"),
        (hits("b", s7="111"), "no seed that the first row has"),
    ],
)
def test_rows_on_other_clips_are_refused(other: pd.DataFrame, said: str) -> None:
    with pytest.raises(ComparisonError, match=f"b: it .*{said}"):
        table(pd.concat([hits("a", s0="000", s1="000"), other]))
