"""Explain the classification of one window: spectrogram, feature maps and class activation map, as JSON.

A matrix is quantized to 8 bits:

    {"shape": [rows, columns], "min": -100.0, "max": 3.5, "values": "base64 of the bytes, row by row"}

The byte b stands for min + b / 255 * (max - min). The first row has the lowest frequencies, the first column the
earliest time, and all matrices of a window cover the same frequencies and times. Large matrices are averaged, so that
an explanation stays below 600 kB.
"""

import base64
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from audiocnn.classifier import Classifier, Explanation
from audiocnn.config import SpectrogramSettings
from audiocnn.features import mel_centers

MAX_CHANNELS = 16  # of each layer: those with the highest energy
MAX_MAP = (32, 56)  # rows and columns of a feature map
MAX_SPECTROGRAM = (128, 512)
ENVELOPE_COLUMNS = 1000


def explanation_json(classifier: Classifier, explained: Explanation, index: int | None = None) -> dict[str, Any]:
    """Return what the network computed from one window.

    Args:
        explained: of the window, by `classifier`.
        index: of the class whose activation is wanted; None for the most probable one.
    Returns:
        `class`, `probability` and `logit` of this class; `spectrogram`: a matrix in dB, with the lists `hz`, the
        center frequencies of its rows, and `seconds`, the times of its columns from the beginning of the window;
        `layers`: in the order of the network, each with `name` (such as stage2.0), `stage`, `block` (null for the
        stem), `channels`, `size` (rows and columns in the network) and `maps`: matrices with their `channel`, the
        highest energy first; `activation`: the matrix of `class_activation`.
    """
    index = int(explained.probabilities.argmax()) if index is None else index
    return {
        "class": classifier.classes[index],
        "probability": float(explained.probabilities[index]),
        "logit": float(explained.logits[index]),
        "spectrogram": _spectrogram(explained.spectrogram, classifier.settings),
        "layers": [_layer(name, maps) for name, maps in explained.feature_maps.items()],
        "activation": _quantize(class_activation(classifier, explained, index)),
    }


@torch.inference_mode()
def class_activation(classifier: Classifier, explained: Explanation, index: int) -> Tensor:
    """Return where the network finds a class, of shape (rows, columns) of the last layer.

    The head averages the last feature maps and applies a linear layer, so the same layer, bias included, applied at
    each position gives a map whose mean is the logit (class activation mapping, Zhou et al., Learning Deep Features for
    Discriminative Localization, CVPR 2016, equation 2).

    Args:
        index: of the class.
    """
    *_, last = explained.feature_maps.values()
    linear = cast(nn.Linear, classifier.network.head[-1])
    return torch.einsum("c,chw->hw", linear.weight[index], last) + linear.bias[index]


def envelope(waveform: npt.NDArray[np.float32]) -> dict[str, list[float]]:
    """Return the lowest and highest samples, `min` and `max`, of up to ENVELOPE_COLUMNS equal parts of a waveform."""
    parts = np.array_split(waveform, min(ENVELOPE_COLUMNS, len(waveform)))
    return {
        "min": [round(float(part.min()), 4) for part in parts],
        "max": [round(float(part.max()), 4) for part in parts],
    }


def _spectrogram(spectrogram: Tensor, settings: SpectrogramSettings) -> dict[str, Any]:
    """Return the spectrogram with its axes; frames are centered at multiples of the hop."""
    rows, columns = spectrogram.shape
    hz = _downsample(mel_centers(settings)[:, None].expand(rows, columns), MAX_SPECTROGRAM)[:, 0]
    frames = torch.arange(columns, dtype=torch.float32) * settings.hop / settings.rate
    seconds = _downsample(frames.expand(rows, columns), MAX_SPECTROGRAM)[0]
    return {
        **_quantize(_downsample(spectrogram, MAX_SPECTROGRAM)),
        "hz": [round(value, 1) for value in hz.tolist()],
        "seconds": [round(value, 4) for value in seconds.tolist()],
    }


def _layer(name: str, maps: Tensor) -> dict[str, Any]:
    stage, _, block = name.partition(".")
    channels = maps.square().mean(dim=(1, 2)).topk(min(MAX_CHANNELS, len(maps))).indices.tolist()
    return {
        "name": name,
        "stage": stage,
        "block": int(block) if block else None,
        "channels": len(maps),
        "size": list(maps.shape[1:]),
        "maps": [{"channel": channel, **_quantize(_downsample(maps[channel], MAX_MAP))} for channel in channels],
    }


def _downsample(matrix: Tensor, limit: tuple[int, int]) -> Tensor:
    """Average a matrix of shape (rows, columns) so that it is not larger than the limit."""
    rows, columns = (min(size, most) for size, most in zip(matrix.shape, limit, strict=True))
    return adaptive_avg_pool2d(matrix[None], (rows, columns))[0]


def _quantize(matrix: Tensor) -> dict[str, Any]:
    """Return the JSON object of a matrix, which the module's docstring describes."""
    values = matrix.cpu().numpy().astype(np.float64)
    low, high = float(values.min()), float(values.max())
    levels = np.zeros_like(values) if high == low else 255 * (values - low) / (high - low)
    content = base64.b64encode(levels.round().astype(np.uint8).tobytes()).decode()
    return {"shape": list(values.shape), "min": low, "max": high, "values": content}
