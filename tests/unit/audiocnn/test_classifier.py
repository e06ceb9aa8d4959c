"""A model folder: what is saved is what is loaded, and nothing else is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import small_network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiocnn.classifier import CARD, WEIGHTS, Classifier, ModelError
from pipeline.settings import PipelineSettings


@pytest.fixture
def classifier(tiny: PipelineSettings) -> Classifier:
    torch.manual_seed(0)
    return Classifier(small_network(3), tiny.spectrograms, ["rain", "wind", "bee"], {"dataset": {"digest": "d"}})


@pytest.fixture
def waveforms(tiny: PipelineSettings) -> torch.Tensor:
    return torch.randn(2, tiny.spectrograms.samples, generator=torch.Generator().manual_seed(1)) / 10


def test_a_saved_classifier_answers_the_same_when_loaded(
    classifier: Classifier, waveforms: torch.Tensor, tmp_path: Path
) -> None:
    classifier.save(tmp_path)
    loaded = Classifier.load(tmp_path)
    assert torch.equal(loaded.classify(waveforms), classifier.classify(waveforms))
    assert (loaded.classes, loaded.settings) == (("rain", "wind", "bee"), classifier.settings)
    assert loaded.provenance == {"dataset": {"digest": "d"}}
    assert loaded.weights_sha256 == classifier.weights_sha256 != ""


def test_probabilities_sum_to_one_and_a_clip_s_do_not_depend_on_its_company(
    classifier: Classifier, waveforms: torch.Tensor
) -> None:
    both = classifier.classify(waveforms)
    assert torch.allclose(both.sum(dim=1), torch.ones(2))
    assert torch.allclose(both[1], classifier.classify(waveforms[1:])[0], atol=1e-6)


def test_an_explanation_holds_the_answer_the_spectrogram_and_every_layer(
    classifier: Classifier, waveforms: torch.Tensor
) -> None:
    explained = classifier.explain(waveforms[0])
    assert torch.allclose(explained.probabilities, classifier.classify(waveforms[:1])[0], atol=1e-6)
    assert explained.spectrogram.shape == (128, 216)
    assert len(explained.feature_maps) == 17 and explained.feature_maps["stem"].shape[1:] == (32, 54)


def change_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / CARD).read_text()) | changes
    (folder / CARD).write_text(json.dumps({key: value for key, value in card.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format": 99}, "format 99"),
        ({"front_end": 0}, "front end 0"),
        ({"weights_sha256": "0" * 64}, "SHA-256"),
        ({"classes": None}, "classes"),
        ({"classes": ["rain", "wind"]}, "do not fit"),
        ({"spectrograms": {"rate": 1}}, "spectrograms"),
    ],
)
def test_a_model_file_that_does_not_fit_is_refused(
    classifier: Classifier, tmp_path: Path, changes: dict, word: str
) -> None:
    classifier.save(tmp_path)
    change_card(tmp_path, **changes)
    with pytest.raises(ModelError, match=word):
        Classifier.load(tmp_path)


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_missing_file_is_named(classifier: Classifier, tmp_path: Path, name: str) -> None:
    classifier.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=name):
        Classifier.load(tmp_path)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_flipped_bit_anywhere_in_the_weights_is_found(classifier: Classifier, tmp_path: Path, place: float) -> None:
    classifier.save(tmp_path)
    content = bytearray((tmp_path / WEIGHTS).read_bytes())
    content[int(place * len(content))] ^= 1
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256"):
        Classifier.load(tmp_path)


def test_nothing_in_a_model_folder_is_a_pickle(model_folder: Path) -> None:
    assert {path.suffix for path in model_folder.rglob("*") if path.is_file()} == {
        ".safetensors",
        ".json",
        ".csv",
        ".png",
    }


def test_training_serving_and_the_cache_see_the_same_numbers(
    real_clips: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    """The skew test: cached float16, the training batch and the served spectrogram are equal, bit for bit."""
    from audiocnn.audio import load
    from mlops.spectrogram_cache.entries import SpectrogramCache
    from mlops.stores import FolderStore

    classifier = Classifier(small_network(3), tiny.spectrograms, ["a", "b", "c"])
    cache = SpectrogramCache(FolderStore(tmp_path), tiny.spectrograms)
    for file in sorted((real_clips / "audio").glob("*.ogg"))[:5]:
        waveform = torch.from_numpy(load(file, tiny.spectrograms))
        served = classifier.explain(waveform).spectrogram
        cache.put("0" * 32, served.half().numpy())
        cached = cache.get("0" * 32)
        assert cached is not None
        assert np.array_equal(cached.astype(np.float32), served.numpy())
        assert torch.allclose(
            classifier.classify_spectrograms(torch.from_numpy(cached.copy())[None]), classifier.classify(waveform[None])
        )
