"""LogMel against an independent reference, and the promise that every place sees the same numbers."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from audiocnn.audio import load
from audiocnn.features import FLOOR, LogMel
from pipeline.settings import PipelineSettings


def reference(waveform: np.ndarray, tiny: PipelineSettings) -> np.ndarray:
    s = tiny.spectrograms
    power = librosa.feature.melspectrogram(
        y=waveform, sr=s.rate, n_fft=s.n_fft, hop_length=s.hop, n_mels=s.n_mels, fmin=s.f_min, fmax=s.f_max,
        htk=True, norm=None, pad_mode="reflect",
    )  # fmt: skip
    return 10 * np.log10(np.maximum(power, FLOOR))


@pytest.mark.parametrize("name", ["1-100032-A-0.ogg", "1-110389-A-0.ogg", "4-164064-A-1.ogg"])
def test_real_clips_have_librosa_s_numbers(real_clips: Path, tiny: PipelineSettings, name: str) -> None:
    waveform = load(real_clips / "audio" / name, tiny.spectrograms)
    ours = LogMel(tiny.spectrograms)(torch.from_numpy(waveform)).numpy()
    theirs = reference(waveform, tiny)
    assert ours.shape == theirs.shape == (128, 216)
    loud = theirs > theirs.max() - 80  # further down float32 FFTs differ in their last bits
    assert np.abs(ours - theirs)[loud].max() < 0.1


def test_a_tone_s_energy_lies_in_its_band_and_level_is_in_decibels(tiny: PipelineSettings) -> None:
    s = tiny.spectrograms
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(s.samples) / s.rate)
    loud, soft = LogMel(s)(tone), LogMel(s)(tone / 10)
    band = int(loud.mean(dim=1).argmax())
    mel = 2595 * np.log10(1 + 1000 / 700) / (2595 * np.log10(1 + s.f_max / 700))
    assert abs(band - (mel * (s.n_mels + 1) - 1)) <= 1
    assert float((loud - soft)[band].mean()) == pytest.approx(20, abs=0.05)


def test_silence_is_the_floor_and_the_values_lie_on_the_float16_grid(tiny: PipelineSettings) -> None:
    front_end = LogMel(tiny.spectrograms)
    assert torch.all(front_end(torch.zeros(tiny.spectrograms.samples)) == -100)
    noise = front_end(torch.randn(tiny.spectrograms.samples, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(noise, noise.half().float())


def test_another_length_is_refused(tiny: PipelineSettings) -> None:
    with pytest.raises(ValueError, match="takes 110250"):
        LogMel(tiny.spectrograms)(torch.zeros(1000))


def test_the_front_end_adds_nothing_to_a_model_file(tiny: PipelineSettings) -> None:
    assert LogMel(tiny.spectrograms).state_dict() == {}
