"""LogMel: waveform -> log-mel spectrogram. The only place that does it: cache, training, evaluation, serving."""

import torch
from torch import Tensor, nn

from audiocnn.config import SpectrogramSettings

FRONT_END = 2  # raise it whenever the numbers change: caches are made anew, and models of another front end are refused
FLOOR = 1e-10  # power below it counts as it: -100 dB


class LogMel(nn.Module):
    """Log-mel power spectrogram in decibels.

    P = |STFT|^2 with a periodic Hann window of n_fft samples, centred and reflected at the ends; a bank of n_mels
    triangles on the HTK mel scale, m = 2595 log10(1 + f / 700) (O'Shaughnessy, Speech Communication, 1987), peak 1;
    then 10 log10(max(P, 1e-10)).
    """

    def __init__(self, settings: SpectrogramSettings) -> None:
        from torchaudio.transforms import MelSpectrogram

        super().__init__()
        self.settings = settings
        self.mel = MelSpectrogram(
            sample_rate=settings.rate,
            n_fft=settings.n_fft,
            hop_length=settings.hop,
            n_mels=settings.n_mels,
            f_min=settings.f_min,
            f_max=settings.f_max,
            power=None,  # complex: torchaudio would square the magnitude, a root for every bin that nobody needs
        )
        # Window and filterbank follow from the settings; in a model file they would be a second copy of that fact.
        for name, buffer in list(self.mel.named_buffers()):
            owner, _, leaf = name.rpartition(".")
            self.mel.get_submodule(owner).register_buffer(leaf, buffer, persistent=False)

        self.blocks = _blocks(self.mel.mel_scale.fb.T)

    @torch.no_grad()
    def forward(self, waveforms: Tensor) -> Tensor:
        """Spectrograms of waveforms.

        Args:
            waveforms: float32 of shape (..., samples), samples as in the settings.
        Returns:
            float32 of shape (..., n_mels, frames), in dB, rounded to float16: the cache stores that precision, and what
            training saw and what serving computes must be the same numbers.
        Raises:
            ValueError: another length than the settings'.
        """
        if waveforms.shape[-1] != self.settings.samples:
            raise ValueError(
                f"a waveform has {waveforms.shape[-1]} samples; the front end takes {self.settings.samples}"
            )
        parts = torch.view_as_real(self.mel.spectrogram(waveforms))
        power = parts[..., 0].square().addcmul_(parts[..., 1], parts[..., 1])
        filters = self.mel.mel_scale.fb.T
        bands = [filters[rows, bins] @ power[..., bins, :] for rows, bins in self.blocks]
        return torch.cat(bands, -2).clamp_(min=FLOOR).log10_().mul_(10).half().float()


def _blocks(filters: Tensor) -> list[tuple[slice, slice]]:
    """Where a bank of shape (n_mels, bins) is not zero: bands by sixteen, and the bins that they hear.

    A triangle hears its neighbourhood only: with all bins, seven of eight products would be with a zero.
    """
    blocks = []
    for first in range(0, len(filters), 16):
        heard = filters[first : first + 16].any(0).nonzero()
        bins = slice(int(heard.min()), int(heard.max()) + 1) if len(heard) else slice(0, 1)
        blocks.append((slice(first, first + 16), bins))
    return blocks
