"""What most projects do, as they do it: the paths that ours is measured against."""

from collections.abc import Callable
from pathlib import Path

import numpy.typing as npt
import torch

from audiocnn.config import SpectrogramSettings

Path_ = Callable[[Path], npt.NDArray]  # a file -> its spectrogram in dB, (n_mels, frames)


def plain(settings: SpectrogramSettings) -> Path_:
    """soundfile, then torchaudio's Resample, MelSpectrogram and AmplitudeToDB, one clip at a time."""
    import soundfile
    from torchaudio.transforms import AmplitudeToDB, MelSpectrogram, Resample

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


def librosa(settings: SpectrogramSettings) -> Path_:
    """librosa.load at the wanted rate, then its melspectrogram and power_to_db, with the same mel scale."""
    import librosa as library
    import numpy as np

    def spectrogram(file: Path) -> npt.NDArray:
        waveform, _ = library.load(file, sr=settings.rate, mono=True)
        waveform = library.util.fix_length(waveform, size=settings.samples)
        power = library.feature.melspectrogram(
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
        return library.power_to_db(power, ref=np.float32(1.0), top_db=None)

    return spectrogram
