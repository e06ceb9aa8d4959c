"""The runtimes of the network, and the refusal of those that give other answers."""

import json

import pytest
import torch
from helpers.torchserve import encode, noise, small_model

from audiocnn.model import AudioCNN
from serving.torchserve import backends, conversion
from serving.torchserve.backends import Backend, BackendError

CPU = torch.device("cpu")
CLIPS = [encode(noise(seed=seed)) for seed in range(2)]


def converted(folder, recipe, name, bf16=False):
    """Return a model, and the model as the worker loads it with a backend."""
    classifier = small_model(folder, seed=1, recipe=recipe)
    with torch.no_grad():
        for module in classifier.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # statistics, as after a training
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    classifier.save(folder)
    backend = conversion.choose_backend(folder, name, bf16, CLIPS, folder)
    (folder / "backend.json").write_text(backend.model_dump_json())
    return classifier, backends.load(folder, CPU)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "torch"])
@pytest.mark.parametrize("recipe", ["seed", "strong", "demo"])
def test_answers_equal_the_models_for_batches_of_any_size(tmp_path, recipe, name):
    classifier, served = converted(tmp_path, recipe, name)
    for size in (1, 3, 8, 2):
        waveforms = 0.1 * torch.randn(size, classifier.settings.samples)
        assert served.classify(waveforms) == pytest.approx(classifier.classify(waveforms), abs=1e-5)
    explained = served.explain(waveforms[0])
    assert explained.probabilities == pytest.approx(classifier.classify(waveforms)[0], abs=1e-5)
    assert len(explained.feature_maps) == 17


def test_auto_is_the_first_backend_that_gives_the_models_answers(tmp_path, monkeypatch, capsys):
    small_model(tmp_path, seed=1)
    assert conversion.choose_backend(tmp_path, "auto", False, CLIPS, tmp_path).name == "openvino"
    load = backends._openvino
    monkeypatch.setattr(backends, "_openvino", lambda *args: lambda x: 1.01 * load(*args)(x))
    assert conversion.choose_backend(tmp_path, "auto", False, CLIPS, tmp_path).name == "onnxruntime"
    assert "deploy.backend: openvino gives other answers than the model" in capsys.readouterr().out
    with pytest.raises(BackendError, match=r"openvino gives other answers .*set deploy\.backend to another one"):
        conversion.choose_backend(tmp_path, "openvino", False, CLIPS, tmp_path)


def test_a_runtime_that_is_missing_or_fails_is_skipped(tmp_path, monkeypatch):
    def broken(*args):
        raise ImportError("no such library")

    small_model(tmp_path, seed=1)
    for name in ("_openvino", "_onnxruntime"):
        monkeypatch.setattr(backends, name, broken)
    assert conversion.choose_backend(tmp_path, "auto", False, CLIPS, tmp_path).name == "torch"
    with pytest.raises(BackendError, match=r"onnxruntime cannot load network\.onnx: no such library"):
        conversion.choose_backend(tmp_path, "onnxruntime", False, CLIPS, tmp_path)


def test_a_network_that_cannot_be_exported_is_served_by_pytorch(tmp_path, monkeypatch):
    small_model(tmp_path, seed=1)
    forward = AudioCNN.forward
    # An operation that ONNX does not have.
    monkeypatch.setattr(AudioCNN, "forward", lambda self, x: forward(self, x + torch.linalg.svdvals(x).max()))
    assert conversion.choose_backend(tmp_path, "auto", False, CLIPS, tmp_path).name == "torch"


@pytest.mark.parametrize(("change", "reason"), [(2e-4, "2e-04|0.0002"), (float("nan"), "nan")])
def test_a_difference_above_the_tolerance_is_refused(change, reason):
    expected = torch.tensor([[0.7, 0.3]])
    with pytest.raises(BackendError, match=rf"largest difference of a probability is ({reason})"):
        conversion.check_answers("openvino", expected, expected + torch.tensor([change, -change]), 1e-4)


def test_another_most_probable_class_is_refused_at_any_difference():
    expected = torch.tensor([[0.50001, 0.49999], [0.9, 0.1]])
    with pytest.raises(BackendError, match="differs for 1 of 2 clips"):
        conversion.check_answers("openvino", expected, expected.flip(1).where(expected < 0.6, expected), 1e-4)


def test_bfloat16_is_only_for_openvino(tmp_path):
    classifier, served = converted(tmp_path, "demo", "openvino", bf16=True)
    waveforms = 0.1 * torch.randn(4, classifier.settings.samples)
    assert served.classify(waveforms) == pytest.approx(classifier.classify(waveforms), abs=conversion.BF16_TOLERANCE)
    assert json.loads((tmp_path / "backend.json").read_text())["bf16"]


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_damaged_network_is_refused(tmp_path, damage):
    converted(tmp_path, "demo", "openvino")
    network = tmp_path / "network.onnx"
    network.write_bytes(network.read_bytes()[:-1]) if damage == "change" else network.unlink()
    with pytest.raises(BackendError, match=r"network\.onnx: the SHA-256 digest differs"):
        backends.load(tmp_path, CPU)


def test_a_folder_without_a_backend_is_loaded_with_pytorch(tmp_path):
    small_model(tmp_path, seed=1)
    assert not hasattr(backends.load(tmp_path, CPU), "run")
    assert str(Backend(name="openvino", bf16=True)) == "openvino in bfloat16"
