"""Baselines: spectrograms and training as most projects implement them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import nn
from torchaudio.transforms import AmplitudeToDB, FrequencyMasking, MelSpectrogram, Resample, TimeMasking

from audiocnn.config import AugmentSettings, SpectrogramSettings

SpectrogramFunction = Callable[[Path], npt.NDArray]  # audio file -> spectrogram in dB, of shape (n_mels, frames)


def torchaudio_spectrogram(settings: SpectrogramSettings) -> SpectrogramFunction:
    """Return soundfile, then torchaudio's Resample, MelSpectrogram and AmplitudeToDB."""
    resamplers: dict[int, Resample] = {}
    mel = MelSpectrogram(
        settings.rate,
        settings.n_fft,
        hop_length=settings.hop,
        n_mels=settings.n_mels,
        f_min=settings.f_min,
        f_max=settings.f_max,
    )
    decibels = AmplitudeToDB()

    def spectrogram(file: Path) -> npt.NDArray:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        waveform = torch.from_numpy(samples.T).mean(0)
        if rate not in resamplers:
            resamplers[rate] = Resample(rate, settings.rate)
        waveform = resamplers[rate](waveform)[: settings.samples]
        waveform = torch.nn.functional.pad(waveform, (0, settings.samples - len(waveform)))
        return decibels(mel(waveform)).numpy()

    return spectrogram


def librosa_spectrogram(settings: SpectrogramSettings) -> SpectrogramFunction:
    """Return librosa's load, melspectrogram and power_to_db, on the same mel scale."""
    import librosa  # here, because only the processes that measure it should pay for its import

    def spectrogram(file: Path) -> npt.NDArray:
        waveform, _ = librosa.load(file, sr=settings.rate, mono=True)
        waveform = librosa.util.fix_length(waveform, size=settings.samples)
        power = librosa.feature.melspectrogram(
            y=waveform,
            sr=settings.rate,
            n_fft=settings.n_fft,
            hop_length=settings.hop,
            n_mels=settings.n_mels,
            fmin=settings.f_min,
            fmax=settings.f_max,
            htk=True,
            norm=None,
        )
        # float32: a Python float would make the result float64
        return librosa.power_to_db(power, ref=np.float32(1.0), top_db=None)  # type: ignore[call-overload]

    return spectrogram


def specaugment(settings: AugmentSettings) -> nn.Module:
    """Return torchaudio's frequency and time masking."""
    return nn.Sequential(FrequencyMasking(settings.freq_mask), TimeMasking(settings.time_mask))
