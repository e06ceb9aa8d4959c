"""Recordings made of clips, and what is measured on them."""

from pathlib import Path

import numpy as np
import pytest
from helpers.torchserve import small_model

from audiocnn.errors import AudioCNNError
from audiocnn.recordings import Analysis
from benchmarks.recordings import Recording, event_scores, make_recordings, read_clips, summary_scores

STARTS = (0.0, 2.5, 5.0)


def recording(kind: str, parts: tuple[int, ...], *rows: list[float]) -> Recording:
    return Recording(kind, parts, Analysis(STARTS, np.array(rows, np.float32)))


def test_scores_tell_right_from_wrong() -> None:
    right = recording("one class", (0, 0), [0.9, 0.1], [0.9, 0.1], [0.9, 0.1])
    wrong = recording("one class", (1, 1), [0.9, 0.1], [0.9, 0.1], [0.9, 0.1])
    assert summary_scores([right])["mean (used)"] == {"one class": 1.0}
    assert summary_scores([right, wrong])["mean (used)"] == {"one class": 0.5}
    assert event_scores([right], ["dog", "rain"], 5.0)["0.5, 0.5"] == 1.0
    assert event_scores([wrong], ["dog", "rain"], 5.0)["0.5, 0.5"] == 0.0


def test_recordings_contain_the_clips_of_their_classes(tmp_path: Path) -> None:
    classifier = small_model(tmp_path / "model", seed=1)
    random = np.random.default_rng(0)
    clips = [(0.1 * random.standard_normal(classifier.settings.samples, np.float32), label) for label in range(6)]
    made = list(make_recordings(classifier, clips, 2, seed=0))
    assert [one.kind for one in made] == ["one class", "several classes", "short sound"] * 2
    short = made[2]
    assert sorted(short.parts)[:3] == [-1, -1, -1] and short.analysis.silent.any() and not short.analysis.silent.all()
    assert len(set(made[1].parts)) == 4 and set(made[0].parts) == {0}


def test_a_fold_that_is_no_validation_fold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioCNNError, match=r"fold 2 is no validation fold of this model; train with train\.fold=2"):
        read_clips(small_model(tmp_path / "model", seed=1), tmp_path, 2)
