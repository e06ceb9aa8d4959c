"""LogMel against librosa, an independent implementation."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from audiocnn.audio import load
from audiocnn.features import MIN_POWER, LogMel
from pipeline.settings import PipelineSettings


def librosa_spectrogram(waveform: np.ndarray, tiny: PipelineSettings) -> np.ndarray:
    s = tiny.spectrograms
    power = librosa.feature.melspectrogram(
        y=waveform, sr=s.rate, n_fft=s.n_fft, hop_length=s.hop, n_mels=s.n_mels, fmin=s.f_min, fmax=s.f_max,
        htk=True, norm=None, pad_mode="reflect",
    )  # fmt: skip
    return 10 * np.log10(np.maximum(power, MIN_POWER))


@pytest.mark.parametrize("name", ["1-100032-A-0.ogg", "1-110389-A-0.ogg", "4-164064-A-1.ogg"])
def test_spectrograms_of_real_clips_match_librosa(real_clips: Path, tiny: PipelineSettings, name: str) -> None:
    waveform = load(real_clips / "audio" / name, tiny.spectrograms)
    computed = LogMel(tiny.spectrograms)(torch.from_numpy(waveform)).numpy()
    expected = librosa_spectrogram(waveform, tiny)
    assert computed.shape == expected.shape == (64, 108)
    loud = expected > expected.max() - 80  # below, rounding errors of the float32 FFTs dominate
    assert np.abs(computed - expected)[loud].max() < 0.1


def test_a_tone_is_in_its_mel_band_at_its_level_in_db(tiny: PipelineSettings) -> None:
    s = tiny.spectrograms
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(s.samples) / s.rate)
    loud, soft = LogMel(s)(tone), LogMel(s)(tone / 10)
    band = int(loud.mean(dim=1).argmax())
    mel = 2595 * np.log10(1 + 1000 / 700) / (2595 * np.log10(1 + s.f_max / 700))
    assert abs(band - (mel * (s.n_mels + 1) - 1)) <= 1
    assert float((loud - soft)[band].mean()) == pytest.approx(20, abs=0.05)


def test_silence_is_minus_100_db_and_values_are_rounded_to_float16(tiny: PipelineSettings) -> None:
    front_end = LogMel(tiny.spectrograms)
    assert torch.all(front_end(torch.zeros(tiny.spectrograms.samples)) == -100)
    noise = front_end(torch.randn(tiny.spectrograms.samples, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(noise, noise.half().float())


def test_a_waveform_of_another_length_is_refused(tiny: PipelineSettings) -> None:
    with pytest.raises(ValueError, match="has 1000 samples, expected 110250"):
        LogMel(tiny.spectrograms)(torch.zeros(1000))


def test_the_front_end_has_no_state_to_save(tiny: PipelineSettings) -> None:
    assert LogMel(tiny.spectrograms).state_dict() == {}
