"""LogMel: waveform -> log-mel spectrogram. Cache, training, evaluation and serving all use this implementation."""

import math

import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from audiocnn.config import SpectrogramSettings

# Increase it with every change of the values: caches are then recomputed, and models of another version refused.
FRONT_END_VERSION = 2
MIN_POWER = 1e-10  # -100 dB
BANDS_PER_BLOCK = 16


class LogMel(nn.Module):
    """Log-mel power spectrogram in dB.

    P = |STFT|^2 with a periodic Hann window of n_fft samples, centered and reflected at the ends; n_mels triangular
    filters of peak 1 on the HTK mel scale, m = 2595 log10(1 + f / 700) (O'Shaughnessy, Speech Communication, 1987);
    then 10 log10(max(P, 1e-10)).
    """

    def __init__(self, settings: SpectrogramSettings) -> None:
        super().__init__()
        self.settings = settings
        self.mel = MelSpectrogram(
            sample_rate=settings.rate,
            n_fft=settings.n_fft,
            hop_length=settings.hop,
            n_mels=settings.n_mels,
            f_min=settings.f_min,
            f_max=settings.f_max,
            power=None,  # complex output: squaring the magnitude would cost a square root for every bin
        )
        # Window and filters follow from the settings, so they are not saved in the model.
        for name, buffer in list(self.mel.named_buffers()):
            owner, _, leaf = name.rpartition(".")
            self.mel.get_submodule(owner).register_buffer(leaf, buffer, persistent=False)
        self.blocks = _nonzero_blocks(self.mel.mel_scale.fb.T)

    @torch.no_grad()
    def forward(self, waveforms: Tensor) -> Tensor:
        """Compute spectrograms.

        Args:
            waveforms: float32 of shape (..., samples), with the number of samples in the settings.
        Returns:
            float32 of shape (..., n_mels, frames) in dB, rounded to float16, so that the cache stores exactly the
            values that serving computes.
        Raises:
            ValueError: another number of samples.
        """
        if waveforms.shape[-1] != self.settings.samples:
            raise ValueError(f"a waveform has {waveforms.shape[-1]} samples, expected {self.settings.samples}")
        parts = torch.view_as_real(self.mel.spectrogram(waveforms))
        power = parts[..., 0].square().addcmul_(parts[..., 1], parts[..., 1])
        filters = self.mel.mel_scale.fb.T
        bands = [filters[rows, bins] @ power[..., bins, :] for rows, bins in self.blocks]
        return torch.cat(bands, -2).clamp_(min=MIN_POWER).log10_().mul_(10).half().float()


def mel_centers(settings: SpectrogramSettings) -> Tensor:
    """Return the frequencies in Hz at which the filters have their peaks, of shape (n_mels,)."""
    lowest, highest = (2595 * math.log10(1 + edge / 700) for edge in (settings.f_min, settings.f_max))
    mels = torch.linspace(lowest, highest, settings.n_mels + 2)[1:-1]
    return 700 * (10 ** (mels / 2595) - 1)


def _nonzero_blocks(filters: Tensor) -> list[tuple[slice, slice]]:
    """Return the blocks of a filter bank that contain all of its nonzero weights.

    Each filter covers few bins: the full matrix product would be seven eighths multiplications by zero.

    Args:
        filters: of shape (n_mels, bins).
    Returns:
        for every BANDS_PER_BLOCK bands, their slice of the bands and of the bins.
    """
    blocks = []
    for first in range(0, len(filters), BANDS_PER_BLOCK):
        bands = slice(first, first + BANDS_PER_BLOCK)
        nonzero = filters[bands].any(0).nonzero()
        bins = slice(int(nonzero.min()), int(nonzero.max()) + 1) if len(nonzero) else slice(0, 1)
        blocks.append((bands, bins))
    return blocks
