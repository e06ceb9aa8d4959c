"""Saving and loading a classifier: equal results, all readable formats, and invalid folders refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.networks import small_network
from helpers.project import ROOT, read_json
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiocnn.audio import load
from audiocnn.classifier import METADATA_FILE, WEIGHTS_FILE, Classifier, ModelError
from audiocnn.data.batches import batches
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.features import LogMel
from audiocnn.model import AudioCNN
from mlops.spectrogram_cache.entries import SpectrogramCache
from mlops.storage import open_store
from pipeline import settings as pipeline_settings
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


def test_new_models_are_saved_in_format_5(classifier: Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    metadata = read_json(tmp_path / METADATA_FILE)
    assert metadata["format"] == 5
    assert metadata["recipe"] == "seed" and "recipe" not in metadata["train"]


def old_architecture(folder: Path, time_stride: int) -> dict:
    """Return the architecture of a saved model as formats 2 and 3 have it."""
    architecture = read_json(folder / METADATA_FILE)["architecture"]
    del architecture["frequency_channel"], architecture["squeeze_excitation"]
    return architecture | {"time_stride": time_stride}


@pytest.mark.parametrize(
    ("number", "changes"),
    [(2, {"recipe": None, "train": {"recipe": "seed", **PROVENANCE["train"]}}), (3, {})],  # type: ignore[dict-item]
)
def test_older_formats_are_loaded_like_format_5(
    classifier: Classifier, waveforms: torch.Tensor, tmp_path: Path, number: int, changes: dict
) -> None:
    classifier.save(tmp_path)
    edit_metadata(tmp_path, format=number, architecture=old_architecture(tmp_path, 4), **changes)
    loaded = Classifier.load(tmp_path)
    assert loaded.provenance == PROVENANCE
    assert torch.equal(loaded.classify(waveforms), classifier.classify(waveforms))


def test_another_time_stride_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    edit_metadata(tmp_path, format=3, architecture=old_architecture(tmp_path, 2))
    with pytest.raises(ModelError, match=r"time_stride 2 is not supported any more, only 4; load it with the release"):
        Classifier.load(tmp_path)


def test_squeeze_excitation_and_frequency_channel_are_saved(
    tiny: PipelineSettings, waveforms: torch.Tensor, tmp_path: Path
) -> None:
    network = small_network(3, n_mels=64, frequency_channel=True, squeeze_excitation=True)
    classifier = Classifier(network, tiny.spectrograms, ["rain", "wind", "bee"])
    classifier.save(tmp_path)
    loaded = Classifier.load(tmp_path)
    assert loaded.network.architecture == network.architecture
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
        ({"format": 99}, "format 99 is not among the supported ones, 2, 3, 4, 5; load it with the release that"),
        ({"format": 1}, "format 1 is not among the supported ones, 2, 3, 4, 5"),
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


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.parametrize(("recipe", "rate", "frames"), [("demo", 22050, 108), ("strong", 44100, 431)])
def test_cache_training_and_serving_use_the_same_spectrograms(
    real_clips: Path, tmp_path: Path, recipe: str, rate: int, frames: int
) -> None:
    resolved = pipeline_settings.load(ROOT / "params.yaml", {"recipe": recipe})
    front_end, architecture = resolved.spectrograms, resolved.train.architecture.replace(width=0.0625)
    assert (front_end.rate, front_end.frames) == (rate, frames)
    classifier = Classifier(AudioCNN(3, front_end.n_mels, architecture), front_end, ["a", "b", "c"])
    files = sorted((real_clips / "audio").glob("*.ogg"))[:5]
    waveforms = torch.stack([torch.from_numpy(load(file, front_end)) for file in files])
    served = torch.stack([classifier.explain(waveform).spectrogram for waveform in waveforms])

    cache = SpectrogramCache(open_store(str(tmp_path)), front_end)
    for number, waveform in enumerate(waveforms):
        cache.put(f"{number:032}", LogMel(front_end)(waveform).half().numpy())
    cached = np.stack(list(cache.get_many([f"{number:032}" for number in range(5)])))
    assert np.array_equal(cached.astype(np.float32), served.numpy())

    clips = pd.DataFrame({"category": ["a"] * 5})
    data = SpectrogramSet(cached, clips, {"settings": front_end.to_dict(), "classes": ["a", "b", "c"]})
    trained = torch.cat([x for x, _ in batches(data, np.arange(5), 2, torch.device("cpu")).in_order()])
    assert torch.equal(trained, served)
    assert torch.allclose(classifier.classify_spectrograms(trained), classifier.classify(waveforms))
