"""Intervals against scipy's, and their coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from audiocnn.intervals import bootstrap_intervals, share_interval, wilson_interval


@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_equals_the_wilson_interval_of_scipy(clips: int, share: float, confidence: float) -> None:
    hits = round(share * clips)
    expected = binomtest(hits, clips).proportion_ci(confidence, method="wilson")
    interval = pytest.approx((expected.low, expected.high), abs=1e-9)
    assert wilson_interval(hits / clips, clips, confidence) == interval
    assert share_interval(np.arange(clips) < hits, np.arange(clips), confidence) == interval


def test_clips_of_one_recording_count_once_if_they_agree() -> None:
    hits = np.arange(40) < 30
    expected = wilson_interval(0.75, 40, 0.95)
    assert share_interval(np.repeat(hits, 5), np.repeat(np.arange(40), 5), 0.95) == pytest.approx(expected)
    perfect = share_interval(np.ones(200), np.repeat(np.arange(40), 5), 0.95)
    assert perfect == pytest.approx(wilson_interval(1.0, 40, 0.95))


def test_the_interval_covers_the_true_share_of_clustered_clips() -> None:
    random = np.random.default_rng(1)
    recordings, covered = np.repeat(np.arange(60), 6), 0
    for _ in range(400):
        hits = random.random(360) < np.repeat(random.beta(1.6, 0.4, 60), 6)  # 0.8 on average
        low, high = share_interval(hits, recordings, 0.95)
        covered += low <= 0.8 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_equals_the_percentile_bootstrap_of_scipy() -> None:
    values = np.random.default_rng(2).exponential(size=150)
    means = bootstrap_intervals(lambda weights: {"mean": weights @ values / weights.sum(axis=1)}, np.arange(150), 0.9)
    expected = bootstrap(
        (values,), np.mean, confidence_level=0.9, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert means["mean"] == pytest.approx((expected.low, expected.high), abs=0.015)
