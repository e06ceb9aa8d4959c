"""Calibration: temperature and thresholds on drawn logits, and the answers of a classifier that has them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import small_network
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from audiocnn.calibration import (
    MAX_THRESHOLD,
    TEMPERATURE_BOUNDS,
    TRUE_POSITIVE_RATE,
    Calibration,
    accepted,
    fit_calibration,
    fit_temperature,
    fit_thresholds,
)
from audiocnn.classifier import Classifier
from audiocnn.recordings import UNKNOWN, label_of
from pipeline.settings import PipelineSettings

CLASSES = ("dog", "rain", "clock")


def drawn(clips: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and labels that follow their softmax; the logits are multiplied by `sharpness` afterwards."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (clips, len(CLASSES)))
    labels = np.array([random.choice(len(CLASSES), p=row) for row in softmax(logits, axis=1)])
    return sharpness * logits, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_factor_on_the_logits(sharpness: float) -> None:
    assert fit_temperature(*drawn(20_000, sharpness)) == pytest.approx(sharpness, rel=0.05)


@given(seed=st.integers(0, 1000), sharpness=st.floats(0.3, 3.0), clips=st.integers(1, 60))
def test_the_temperature_does_not_increase_the_loss(seed: int, sharpness: float, clips: int) -> None:
    logits, labels = drawn(clips, sharpness, seed)
    temperature = fit_temperature(logits, labels)

    def loss(scaled: np.ndarray) -> float:
        return -float(log_softmax(scaled, axis=1)[np.arange(clips), labels].mean())

    assert TEMPERATURE_BOUNDS[0] <= temperature <= TEMPERATURE_BOUNDS[1]
    assert loss(logits / temperature) <= loss(logits) + 1e-4


def test_clips_that_are_all_correct_have_the_least_temperature() -> None:
    assert fit_temperature(5 * np.eye(3), np.arange(3)) == pytest.approx(TEMPERATURE_BOUNDS[0], rel=1e-3)


@given(seed=st.integers(0, 1000), clips=st.integers(1, 300))
def test_thresholds_keep_most_correct_clips(seed: int, clips: int) -> None:
    logits, labels = drawn(clips, 1.0, seed)
    probabilities = softmax(logits, axis=1)
    thresholds = fit_thresholds(probabilities, labels)
    assert ((thresholds >= 0) & (thresholds <= MAX_THRESHOLD)).all()
    correct = probabilities.argmax(axis=1) == labels
    reached = probabilities.max(axis=1) >= thresholds[probabilities.argmax(axis=1)]
    if clips >= 100:
        assert reached[correct].mean() >= TRUE_POSITIVE_RATE - 0.05


def test_a_class_with_few_clips_gets_nearly_the_common_threshold() -> None:
    confidences = np.concatenate([np.linspace(0.5, 0.9, 200), [0.95]])
    labels = np.array([0] * 200 + [1])
    probabilities = np.full((201, 3), 0.0)
    probabilities[np.arange(201), labels] = confidences
    probabilities[:, 2] = 1 - confidences
    probabilities[:200, 2] /= 10
    first, second, third = fit_thresholds(probabilities, labels)
    common = np.quantile(confidences, 1 - TRUE_POSITIVE_RATE, method="lower")
    assert first == pytest.approx(common, abs=0.01)
    assert second == pytest.approx((0.95 + 20 * common) / 21)
    assert third == pytest.approx(common)


def test_without_a_correct_clip_nothing_is_unknown() -> None:
    assert (fit_thresholds(np.array([[0.9, 0.1]]), np.array([1])) == 0).all()


def test_a_class_below_its_threshold_is_unknown() -> None:
    thresholds = {"dog": 0.6, "rain": 0.4, "clock": 0.4}
    calibration = Calibration(temperature=1.0, thresholds=thresholds)
    rows = np.array([[0.59, 0.41, 0.0], [0.6, 0.2, 0.2], [0.3, 0.5, 0.2]], np.float32)
    assert [label_of(row, CLASSES, thresholds) for row in rows] == [UNKNOWN, "dog", "rain"]
    assert accepted(rows, CLASSES, calibration).tolist() == [False, True, True]
    assert label_of(rows[0], CLASSES, None) == "dog"


def test_a_saved_classifier_answers_with_calibrated_probabilities(tiny: PipelineSettings, tmp_path: Path) -> None:
    classifier = Classifier(small_network(3), tiny.spectrograms, CLASSES)
    waveforms = torch.randn(3, tiny.spectrograms.samples) / 10
    before, spectrograms = classifier.classify(waveforms), torch.stack([classifier.front_end(w) for w in waveforms])
    assert classifier.thresholds is None
    classifier.calibration = fit_calibration(*drawn(200, 2.0), CLASSES)
    classifier.save(tmp_path)
    loaded = Classifier.load(tmp_path)
    assert loaded.calibration == classifier.calibration and loaded.thresholds == classifier.calibration.thresholds
    expected = (classifier.logits(spectrograms) / classifier.calibration.temperature).softmax(1)
    assert torch.equal(loaded.classify(waveforms), expected)
    assert not torch.allclose(expected, before)
    assert torch.equal(expected.argmax(1), before.argmax(1))
