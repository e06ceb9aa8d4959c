"""Classifier: front end, network and class names in one folder on disk; classify(), explain()."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from audiocnn.atomic import atomic_file
from audiocnn.config import Architecture, SpectrogramSettings
from audiocnn.errors import AudioCNNError
from audiocnn.features import FRONT_END, LogMel
from audiocnn.model import AudioCNN, count_parameters, feature_maps
from audiocnn.strict_model import SettingsError

FORMAT = 3
READABLE_FORMATS = (2, 3)  # 2 has the recipe's name among the training settings
WEIGHTS = "model.safetensors"
CARD = "model.json"


class ModelError(AudioCNNError):
    """A model folder that cannot be used; the message says why."""


@dataclass(frozen=True)
class Explanation:
    """What the network made of one clip.

    Shapes: probabilities (n_classes,), spectrogram (n_mels, frames) in dB, feature_maps (channels, height, width) a
    layer.
    """

    probabilities: Tensor
    spectrogram: Tensor
    feature_maps: dict[str, Tensor]


class Classifier(nn.Module):
    """Sound in, class probabilities out: LogMel + AudioCNN + class names, with the settings that made them."""

    def __init__(
        self,
        network: AudioCNN,
        settings: SpectrogramSettings,
        classes: Sequence[str],
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.front_end = LogMel(settings)
        self.network = network
        self.settings = settings
        self.classes = tuple(classes)
        self.provenance = dict(provenance or {})
        self.weights_sha256 = ""  # of the file, once saved or loaded

    @torch.inference_mode()
    def classify(self, waveforms: Tensor) -> Tensor:
        """Probabilities of shape (batch, n_classes) for float32 waveforms of shape (batch, samples)."""
        # One clip at a time: batching the mel is slower on a CPU, and a clip's numbers must not depend on its company.
        return self.classify_spectrograms(torch.stack([self.front_end(waveform) for waveform in waveforms]))

    @torch.inference_mode()
    def classify_spectrograms(self, spectrograms: Tensor) -> Tensor:
        """Probabilities of shape (batch, n_classes) for dB spectrograms of shape (batch, n_mels, frames)."""
        self.network.eval()
        logits: Tensor = self.network(spectrograms.float().unsqueeze(1))
        return logits.softmax(dim=1)

    @torch.inference_mode()
    def explain(self, waveform: Tensor) -> Explanation:
        """Probabilities, spectrogram and feature maps of one waveform of shape (samples,)."""
        self.network.eval()
        spectrogram = self.front_end(waveform)
        logits, maps = feature_maps(self.network, spectrogram[None, None])
        return Explanation(logits[0].softmax(dim=0), spectrogram, {name: value[0] for name, value in maps.items()})

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `model.json`; the JSON, written last, carries the weights' SHA-256."""
        from safetensors.torch import save_file

        weights = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        with atomic_file(folder / WEIGHTS) as part:
            save_file(weights, part)
        self.weights_sha256 = _sha256(folder / WEIGHTS)
        card = {
            "format": FORMAT,
            "front_end": FRONT_END,
            "weights_sha256": self.weights_sha256,
            "classes": list(self.classes),
            "spectrograms": self.settings.to_dict(),
            "architecture": self.network.architecture.to_dict(),
            "parameters": count_parameters(self.network),
            **self.provenance,
        }
        with atomic_file(folder / CARD) as part:
            part.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu") -> Self:
        """Read a model folder; nothing in it is executed.

        Raises:
            ModelError: a file is missing, of another format or front end, or not the weights that the JSON names.
        """
        from safetensors.torch import load_file

        card = _read_card(folder)
        if _sha256(folder / WEIGHTS) != card["weights_sha256"]:
            raise ModelError(f"{folder / WEIGHTS}: the weights are not those that {CARD} names: the SHA-256 differs")
        try:
            settings = SpectrogramSettings.parse(card["spectrograms"], f"{folder / CARD}: spectrograms")
            architecture = Architecture.parse(card["architecture"], f"{folder / CARD}: architecture")
        except SettingsError as error:
            raise ModelError(str(error)) from error
        network = AudioCNN(len(card["classes"]), settings.n_mels, architecture)
        try:
            network.load_state_dict(load_file(folder / WEIGHTS))
        except RuntimeError as error:
            raise ModelError(f"{folder / WEIGHTS}: the weights do not fit the architecture in {CARD}") from error
        own = ("format", "front_end", "weights_sha256", "classes", "spectrograms", "architecture", "parameters")
        provenance = {key: value for key, value in card.items() if key not in own}
        classifier = cls(network, settings, card["classes"], provenance)
        classifier.weights_sha256 = card["weights_sha256"]
        return classifier.to(device).eval()


def _read_card(folder: Path) -> dict[str, Any]:
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: is no model folder: {name} is missing")
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / CARD}: is no JSON: {error}") from error
    if card.get("format") not in READABLE_FORMATS:
        known = " and ".join(map(str, READABLE_FORMATS))
        raise ModelError(f"{folder / CARD}: format {card.get('format')}; this library reads formats {known}")
    if card.get("front_end") != FRONT_END:
        raise ModelError(
            f"{folder / CARD}: made with front end {card.get('front_end')}; this library computes {FRONT_END}: "
            "train anew, or serve it with the release that made it"
        )
    missing = {"weights_sha256", "classes", "spectrograms", "architecture"} - set(card)
    if missing:
        raise ModelError(f"{folder / CARD}: {', '.join(sorted(missing))} missing")
    if "recipe" in card.get("train", {}):
        card["recipe"] = card["train"].pop("recipe")
    return card


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
