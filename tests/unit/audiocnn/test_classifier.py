"""Saving and loading a classifier: equal results, all readable formats, and invalid folders refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import small_network
from helpers.project import read_json
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiocnn.audio import load
from audiocnn.classifier import METADATA_FILE, WEIGHTS_FILE, Classifier, ModelError
from mlops.spectrogram_cache.entries import SpectrogramCache
from mlops.storage import open_store
from pipeline.settings import PipelineSettings

PROVENANCE = {"recipe": "seed", "train": {"fold": 5, "lr": 0.0005}, "dataset": {"digest": "d"}}


@pytest.fixture
def classifier(tiny: PipelineSettings) -> Classifier:
    torch.manual_seed(0)
    return Classifier(small_network(3), tiny.spectrograms, ["rain", "wind", "bee"], PROVENANCE)


@pytest.fixture
def waveforms(tiny: PipelineSettings) -> torch.Tensor:
    return torch.randn(2, tiny.spectrograms.samples, generator=torch.Generator().manual_seed(1)) / 10


def edit_metadata(folder: Path, **changes: object) -> None:
    """Change keys of model.json; None deletes a key."""
    metadata = read_json(folder / METADATA_FILE) | changes
    text = json.dumps({key: value for key, value in metadata.items() if value is not None})
    (folder / METADATA_FILE).write_text(text)


def test_a_loaded_classifier_equals_the_saved_one(
    classifier: Classifier, waveforms: torch.Tensor, tmp_path: Path
) -> None:
    classifier.save(tmp_path)
    loaded = Classifier.load(tmp_path)
    assert torch.equal(loaded.classify(waveforms), classifier.classify(waveforms))
    assert (loaded.classes, loaded.settings) == (("rain", "wind", "bee"), classifier.settings)
    assert loaded.provenance == PROVENANCE
    assert loaded.weights_sha256 == classifier.weights_sha256 != ""


def test_new_models_are_saved_in_format_3(classifier: Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    metadata = read_json(tmp_path / METADATA_FILE)
    assert metadata["format"] == 3
    assert metadata["recipe"] == "seed" and "recipe" not in metadata["train"]


def test_format_2_is_loaded_like_format_3(classifier: Classifier, waveforms: torch.Tensor, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    edit_metadata(tmp_path, format=2, recipe=None, train={"recipe": "seed", **PROVENANCE["train"]})
    loaded = Classifier.load(tmp_path)
    assert loaded.provenance == PROVENANCE
    assert torch.equal(loaded.classify(waveforms), classifier.classify(waveforms))


def test_probabilities_sum_to_1_and_do_not_depend_on_the_batch(classifier: Classifier, waveforms: torch.Tensor) -> None:
    both = classifier.classify(waveforms)
    assert torch.allclose(both.sum(dim=1), torch.ones(2))
    assert torch.allclose(both[1], classifier.classify(waveforms[1:])[0], atol=1e-6)


def test_explain_returns_probabilities_spectrogram_and_feature_maps(
    classifier: Classifier, waveforms: torch.Tensor
) -> None:
    explained = classifier.explain(waveforms[0])
    assert torch.allclose(explained.probabilities, classifier.classify(waveforms[:1])[0], atol=1e-6)
    assert explained.spectrogram.shape == (64, 108)
    assert len(explained.feature_maps) == 17 and explained.feature_maps["stem"].shape[1:] == (16, 27)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format 99 is not among the supported ones, 2, 3; load it with the release that wrote it"),
        ({"format": 1}, "format 1 is not among the supported ones, 2, 3"),
        ({"front_end": 0}, "front end 0 is not the supported one, 2; load it with the release"),
        ({"weights_sha256": "0" * 64}, "SHA-256 digest differs"),
        ({"classes": None}, "classes: is missing"),
        ({"classes": ["rain", "wind"]}, "do not match the architecture"),
        ({"spectrograms": {"rate": 1}}, r"spectrograms\.seconds: is missing"),
    ],
)
def test_invalid_metadata_is_refused(classifier: Classifier, tmp_path: Path, changes: dict, message: str) -> None:
    classifier.save(tmp_path)
    edit_metadata(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        Classifier.load(tmp_path)


@pytest.mark.parametrize("name", [METADATA_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(classifier: Classifier, tmp_path: Path, name: str) -> None:
    classifier.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        Classifier.load(tmp_path)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(position=st.floats(0, 1, exclude_max=True))
def test_a_flipped_bit_in_the_weights_is_detected(classifier: Classifier, tmp_path: Path, position: float) -> None:
    classifier.save(tmp_path)
    content = bytearray((tmp_path / WEIGHTS_FILE).read_bytes())
    content[int(position * len(content))] ^= 1
    (tmp_path / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256 digest differs"):
        Classifier.load(tmp_path)


def test_a_model_folder_contains_no_pickle(model_folder: Path) -> None:
    suffixes = {path.suffix for path in model_folder.rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json", ".csv", ".png"}


def test_cached_and_served_spectrograms_are_bit_identical(
    real_clips: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    classifier = Classifier(small_network(3), tiny.spectrograms, ["a", "b", "c"])
    cache = SpectrogramCache(open_store(str(tmp_path)), tiny.spectrograms)
    for file in sorted((real_clips / "audio").glob("*.ogg"))[:5]:
        waveform = torch.from_numpy(load(file, tiny.spectrograms))
        served = classifier.explain(waveform).spectrogram
        cache.put("0" * 32, served.half().numpy())
        cached = cache.get("0" * 32)
        assert cached is not None
        assert np.array_equal(cached.astype(np.float32), served.numpy())
        of_cached = classifier.classify_spectrograms(torch.from_numpy(cached.copy())[None])
        assert torch.allclose(of_cached, classifier.classify(waveform[None]))
