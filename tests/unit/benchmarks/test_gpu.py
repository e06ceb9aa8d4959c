"""The benchmark of a GPU, run small on a CPU."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.project import ROOT

from audiocnn.data.spectrogram_set import SpectrogramSet
from benchmarks.gpu import DEPTH_DB, STEP_DB, flop_per_clip, main, read_packed, settings_of, write_packed
from pipeline import settings as pipeline_settings

CLIPS, MELS, FRAMES = 96, 16, 70


@pytest.fixture
def data() -> SpectrogramSet:
    rng = np.random.default_rng(0)
    clips = pd.DataFrame({"filename": [f"{row}.wav" for row in range(CLIPS)], "fold": np.arange(CLIPS) % 4 + 1})
    clips["category"] = [str(row // 4 % 2) for row in range(CLIPS)]
    spec = {"settings": {}, "classes": ["0", "1"]}
    return SpectrogramSet(rng.uniform(-110, 0, (CLIPS, MELS, FRAMES)).astype(np.float16), clips, spec)


def test_packed_spectrograms_differ_by_half_a_step(data: SpectrogramSet, tmp_path: Path) -> None:
    write_packed(data, tmp_path / "packed.npz")
    found = read_packed(tmp_path / "packed.npz")
    assert found.clips.equals(data.clips) and found.spec == data.spec
    values = data.spectrograms.astype(np.float32)
    values = np.maximum(values, values.max((1, 2), keepdims=True) - DEPTH_DB)
    assert np.abs(found.spectrograms - values).max() <= STEP_DB / 2 + 0.04  # float16 has steps of 0.06 at 100 dB


def test_pack_writes_the_spectrograms_of_strong(
    demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["pack", "--data", str(demo_folder), "--output", str(tmp_path / "packed.npz")])
    front_end = pipeline_settings.load(ROOT / "params.yaml", {"recipe": "strong"}).spectrograms
    assert read_packed(tmp_path / "packed.npz").spectrograms.shape == (50, front_end.n_mels, front_end.frames)


def test_all_figures_are_measured(data: SpectrogramSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_packed(data, tmp_path / "packed.npz")
    small = ["--clips", "100", "--timed-epochs", "1", "--epochs", "1", "--width", "0.0625", "--together", "2"]
    files = ["--data", str(tmp_path / "packed.npz"), "--output", str(tmp_path / "new" / "gpu.json")]
    main(["run", *files, *small, "--device", "cpu"])
    figures = json.loads((tmp_path / "new" / "gpu.json").read_text())
    lines = [line.split(": ", 1) for line in capsys.readouterr().out.splitlines()]
    assert figures == {name: json.loads(figure) for name, figure in lines}
    assert figures["device"] == "CPU, without CUDA graphs" and figures["clips"]["given"] == CLIPS
    for recipe in ("seed", "strong"):
        rates = figures[f"{recipe}, clips/s"]
        assert all(rates[name] > 0 for name in ("direct", "captured", "together"))
        assert rates["share of bf16 peak"] is None
    assert figures["seed, a training"]["clips"] == 100 and figures["strong, a training"]["clips"] == 72
    assert 0 <= figures["strong, a training"]["accuracy"] <= 1


def test_a_failure_leaves_the_figures_before_it(
    data: SpectrogramSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("benchmarks.gpu.measure_speed", fail)
    write_packed(data, tmp_path / "packed.npz")
    with pytest.raises(torch.OutOfMemoryError):
        main(["run", "--data", str(tmp_path / "packed.npz"), "--output", str(tmp_path / "gpu.json"), "--device", "cpu"])
    assert json.loads((tmp_path / "gpu.json").read_text())["clips"]["given"] == CLIPS


def test_operations_are_those_of_the_layers(data: SpectrogramSet) -> None:
    """12 GFLOP per clip of 128 x 216: three times the forward pass, less the gradient of the input."""
    wide = SpectrogramSet(np.zeros((1, 128, 216), np.float16), data.clips, {"classes": [str(c) for c in range(50)]})
    assert flop_per_clip(wide, settings_of("seed")) == pytest.approx(12.05e9, rel=0.01)
    assert torch.get_default_device() == torch.device("cpu")
