"""The lower bound of the difference between two models on the same clips."""

import numpy as np
import pytest
from scipy.stats import binomtest

from components.promote.paired_difference import lower_bound

TRIALS = 300


def clips(gained: int, lost: int, same: int) -> np.ndarray:
    return np.repeat([1, -1, 0], [gained, lost, same]).astype(np.int64)


def own_recordings(number: int) -> np.ndarray:
    return np.array([f"recording {index}" for index in range(number)])


@pytest.mark.parametrize("gained", range(12))
@pytest.mark.parametrize("lost", [0, 1, 3, 8])
@pytest.mark.parametrize("level", [0.1, 0.02])
def test_it_is_above_zero_only_where_the_exact_test_rejects(gained: int, lost: int, level: float) -> None:
    bound = lower_bound(clips(gained, lost, 30), own_recordings(gained + lost + 30), level)
    if gained + lost and bound > 0:
        assert binomtest(gained, gained + lost, alternative="greater").pvalue <= level
    assert bound <= (gained - lost) / (gained + lost + 30)


def test_clips_of_one_recording_are_not_independent() -> None:
    # Ten clips gained and two lost, as twelve recordings or as three with four clips each.
    differences = clips(10, 2, 68)
    each = own_recordings(80)
    grouped = np.array([f"recording {index // 4}" for index in range(80)])
    assert lower_bound(differences, each, 0.1) > 0
    assert lower_bound(differences, grouped, 0.1) < lower_bound(differences, each, 0.1)


def test_equal_models_are_above_zero_at_most_as_often_as_the_level() -> None:
    generator = np.random.default_rng(0)
    above = 0
    for _ in range(TRIALS):
        # The clips of a recording are alike: four clips, gained or lost together.
        recordings = generator.choice([1, -1, 0], size=50, p=[0.1, 0.1, 0.8])
        differences = np.repeat(recordings, 4).astype(np.int64)
        above += lower_bound(differences, np.repeat(own_recordings(50), 4), 0.1) > 0
    # Three standard errors above the level.
    assert above / TRIALS < 0.1 + 3 * np.sqrt(0.1 * 0.9 / TRIALS)


def test_two_models_without_a_difference() -> None:
    assert lower_bound(clips(0, 0, 20), own_recordings(20), 0.1) == 0.0


def test_no_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="no clips"):
        lower_bound(clips(0, 0, 0), own_recordings(0), 0.1)
