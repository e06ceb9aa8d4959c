"""What an explanation of one window contains, and that its numbers are those of the network."""

import base64
import json

import numpy as np
import pytest
import torch
from helpers.networks import small_network
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocnn.classifier import Classifier
from audiocnn.explanation import MAX_CHANNELS, class_activation, envelope, explanation_json
from audiocnn.features import LogMel, mel_centers
from audiocnn.model import STAGES, AudioCNN
from pipeline.settings import PipelineSettings

CLASSES = ("rain", "wind", "bee")


@pytest.fixture(scope="module")
def classifier(tiny: PipelineSettings) -> Classifier:
    torch.manual_seed(0)
    return Classifier(small_network(3, n_mels=tiny.spectrograms.n_mels), tiny.spectrograms, CLASSES)


@pytest.fixture(scope="module")
def waveform(classifier: Classifier) -> torch.Tensor:
    return 0.1 * torch.randn(classifier.settings.samples, generator=torch.Generator().manual_seed(1))


def values_of(matrix: dict) -> np.ndarray:
    levels = np.frombuffer(base64.b64decode(matrix["values"]), np.uint8).reshape(matrix["shape"])
    return matrix["min"] + levels / 255 * (matrix["max"] - matrix["min"])


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_mean_of_the_class_activation_is_the_logit(classifier: Classifier, seed: int) -> None:
    waveform = torch.randn(classifier.settings.samples, generator=torch.Generator().manual_seed(seed))
    explained = classifier.explain(waveform)
    for index in range(len(CLASSES)):
        activation = class_activation(classifier, explained, index)
        assert activation.shape == explained.feature_maps["stage4.2"].shape[1:]
        assert float(activation.mean()) == pytest.approx(float(explained.logits[index]), abs=1e-5)


def test_the_class_is_the_most_probable_one_unless_one_is_chosen(
    classifier: Classifier, waveform: torch.Tensor
) -> None:
    probabilities = classifier.classify(waveform[None])[0]
    best = int(probabilities.argmax())
    found = explanation_json(classifier, classifier.explain(waveform))
    assert found["class"] == CLASSES[best] and found["probability"] == pytest.approx(float(probabilities[best]))
    other = (best + 1) % 3
    chosen = explanation_json(classifier, classifier.explain(waveform), other)
    assert chosen["class"] == CLASSES[other] and chosen["probability"] == pytest.approx(float(probabilities[other]))
    assert chosen["layers"] == found["layers"] and chosen["activation"] != found["activation"]


def test_matrices_have_the_values_of_the_network(classifier: Classifier, waveform: torch.Tensor) -> None:
    explained = classifier.explain(waveform)
    found = explanation_json(classifier, explained)
    spectrogram = found["spectrogram"]
    step = (spectrogram["max"] - spectrogram["min"]) / 255
    assert np.abs(values_of(spectrogram) - explained.spectrogram.numpy()).max() <= 0.51 * step
    assert (len(spectrogram["hz"]), len(spectrogram["seconds"])) == tuple(explained.spectrogram.shape)
    assert spectrogram["seconds"][:2] == [0.0, round(classifier.settings.hop / classifier.settings.rate, 4)]
    assert [layer["name"] for layer in found["layers"]] == list(explained.feature_maps)
    assert len(found["layers"]) == 1 + sum(blocks for _, blocks in STAGES)
    for layer in found["layers"]:
        maps = explained.feature_maps[layer["name"]]
        assert (layer["channels"], layer["size"]) == (len(maps), list(maps.shape[1:]))
        energy = maps.square().mean(dim=(1, 2)).numpy()
        chosen = [each["channel"] for each in layer["maps"]]
        assert len(chosen) == min(MAX_CHANNELS, len(maps)) == len(set(chosen))
        assert energy[chosen].tolist() == sorted(energy, reverse=True)[: len(chosen)]
        for each in layer["maps"]:
            difference = np.abs(values_of(each) - maps[each["channel"]].numpy()).max()
            assert difference <= 0.51 * (each["max"] - each["min"]) / 255 + 1e-6
    assert [found["layers"][4][key] for key in ("name", "stage", "block")] == ["stage2.0", "stage2", 0]


def test_frequencies_are_those_of_the_filters(classifier: Classifier) -> None:
    """A tone at the center of a band has its highest power in this band."""
    front_end, rate = LogMel(classifier.settings), classifier.settings.rate
    centers = mel_centers(classifier.settings)
    for band in (20, 40, 60):
        times = torch.arange(classifier.settings.samples) / rate
        spectrogram = front_end(torch.sin(2 * torch.pi * centers[band] * times))
        assert abs(int(spectrogram.mean(dim=1).argmax()) - band) <= 1


def test_a_large_front_end_stays_below_600_kb(tiny: PipelineSettings) -> None:
    front_end = tiny.spectrograms.replace(seconds=60.0, rate=22050, n_fft=4096, hop=256, n_mels=256, f_max=11025.0)
    architecture = tiny.train.architecture.replace(width=0.25)
    classifier = Classifier(AudioCNN(3, 256, architecture), front_end, CLASSES)
    found = explanation_json(classifier, classifier.explain(torch.randn(front_end.samples)))
    found["waveform"] = envelope(np.random.default_rng(0).uniform(-1, 1, 60 * 22050).astype(np.float32))
    assert len(json.dumps(found)) < 600_000
    for matrix in (found["spectrogram"], *(each for layer in found["layers"] for each in layer["maps"])):
        assert len(base64.b64decode(matrix["values"])) == np.prod(matrix["shape"])


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=3000))
@settings(max_examples=20)
def test_the_envelope_contains_every_sample(samples: list[float]) -> None:
    found = envelope(np.array(samples, np.float32))
    assert len(found["min"]) == len(found["max"]) == min(1000, len(samples))
    assert min(found["min"]) == pytest.approx(min(samples), abs=1e-4)
    assert max(found["max"]) == pytest.approx(max(samples), abs=1e-4)
    assert all(low <= high for low, high in zip(found["min"], found["max"], strict=True))
