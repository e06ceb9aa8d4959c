"""Classifier: front end, network and class names, saved in one folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from audiocnn.atomic import atomic_file
from audiocnn.calibration import Calibration
from audiocnn.config import Architecture, SpectrogramSettings
from audiocnn.device import full_float32
from audiocnn.errors import AudioCNNError
from audiocnn.features import FRONT_END_VERSION, LogMel
from audiocnn.model import AudioCNN, count_parameters, feature_maps
from audiocnn.strict_model import SettingsError, StrictModel

FORMAT = 5
READABLE_FORMATS = (2, 3, 4, 5)
WEIGHTS_FILE = "model.safetensors"
METADATA_FILE = "model.json"
COPY_AGAIN = "download or copy the model folder again"
USE_TRAINED = "use a folder written by the step train"


class ModelError(AudioCNNError):
    """A model folder that cannot be loaded."""


class _Metadata(StrictModel):
    """Content of model.json; additional keys are the provenance."""

    model_config = ConfigDict(extra="allow")

    format: int
    front_end: int
    weights_sha256: str
    classes: tuple[str, ...]
    spectrograms: SpectrogramSettings
    architecture: Architecture
    parameters: int
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Explanation:
    """The classification of one clip.

    Attributes:
        probabilities: of shape (n_classes,), as `classify` returns them.
        logits: of shape (n_classes,), of the network.
        spectrogram: of shape (n_mels, frames), in dB.
        feature_maps: by layer, of shape (channels, height, width).
    """

    probabilities: Tensor
    logits: Tensor
    spectrogram: Tensor
    feature_maps: dict[str, Tensor]


class Classifier(nn.Module):
    """LogMel, AudioCNN, calibration and class names: waveforms in, class probabilities out.

    Evaluation, promotion, the MLflow model and serving all classify with full float32, so that the probabilities that
    promote a model are those that it serves. The temperature of the calibration is applied here only.

    Args:
        network: the network.
        settings: of the front end.
        classes: names in the order of the network's outputs.
        provenance: data, settings and code of the training; JSON values, saved in model.json.
        calibration: of the probabilities, and the thresholds of the classes; without one, None.

    Attributes:
        weights_sha256: digest of the weights file; empty for a classifier that was neither saved nor loaded.
    """

    def __init__(
        self,
        network: AudioCNN,
        settings: SpectrogramSettings,
        classes: Sequence[str],
        provenance: Mapping[str, Any] | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__()
        self.front_end = LogMel(settings)
        self.network = network
        self.settings = settings
        self.classes = tuple(classes)
        self.provenance = dict(provenance or {})
        self.calibration = calibration
        self.weights_sha256 = ""

    @property
    def thresholds(self) -> dict[str, float] | None:
        """The least probability of each class, below which the answer is "unknown"; None without calibration."""
        return None if self.calibration is None else dict(self.calibration.thresholds)

    @torch.inference_mode()
    @full_float32()
    def classify(self, waveforms: Tensor) -> Tensor:
        """Classify waveforms.

        Args:
            waveforms: float32 of shape (batch, samples).
        Returns:
            probabilities of shape (batch, n_classes).
        """
        # Spectrograms are computed one by one: that is faster on a CPU, and a clip's values do not depend on its batch.
        return self.classify_spectrograms(torch.stack([self.front_end(waveform) for waveform in waveforms]))

    @torch.inference_mode()
    @full_float32()
    def classify_spectrograms(self, spectrograms: Tensor) -> Tensor:
        """Classify spectrograms.

        Args:
            spectrograms: of shape (batch, n_mels, frames), in dB.
        Returns:
            probabilities of shape (batch, n_classes).
        """
        logits = self.logits(spectrograms)
        return (logits if self.calibration is None else logits / self.calibration.temperature).softmax(dim=1)

    def logits(self, spectrograms: Tensor) -> Tensor:
        """Run the network. A subclass may run it in another runtime.

        Args:
            spectrograms: of shape (batch, n_mels, frames), in dB.
        Returns:
            logits of shape (batch, n_classes).
        """
        self.network.eval()
        logits: Tensor = self.network(spectrograms.float().unsqueeze(1))
        return logits

    @torch.inference_mode()
    @full_float32()
    def explain(self, waveform: Tensor) -> Explanation:
        """Classify one waveform of shape (samples,) and return intermediate results too."""
        self.network.eval()
        spectrogram = self.front_end(waveform)
        logits, maps = feature_maps(self.network, spectrogram[None, None])
        probabilities = self.classify_spectrograms(spectrogram[None])[0]
        return Explanation(probabilities, logits[0], spectrogram, {name: value[0] for name, value in maps.items()})

    def save(self, folder: Path) -> None:
        """Write the weights, then model.json, which contains their SHA-256 digest, and set `weights_sha256`."""
        weights = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        with atomic_file(folder / WEIGHTS_FILE) as part:
            save_file(weights, part)
        self.weights_sha256 = _sha256(folder / WEIGHTS_FILE)
        metadata = _Metadata(
            format=FORMAT,
            front_end=FRONT_END_VERSION,
            weights_sha256=self.weights_sha256,
            classes=self.classes,
            spectrograms=self.settings,
            architecture=self.network.architecture,
            parameters=count_parameters(self.network),
            calibration=self.calibration,
            **self.provenance,
        )
        with atomic_file(folder / METADATA_FILE) as part:
            part.write_text(json.dumps(metadata.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu") -> Self:
        """Load a model folder, without executing code from it.

        Raises:
            ModelError: a file is missing or invalid, the format or the front end is another version's, or the weights
                differ from the digest in model.json.
        """
        metadata = _read_metadata(folder)
        if _sha256(folder / WEIGHTS_FILE) != metadata.weights_sha256:
            raise ModelError(
                f"{folder / WEIGHTS_FILE}: the SHA-256 digest differs from the one in {METADATA_FILE}; {COPY_AGAIN}"
            )
        network = AudioCNN(len(metadata.classes), metadata.spectrograms.n_mels, metadata.architecture)
        try:
            network.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except RuntimeError as error:
            raise ModelError(
                f"{folder / WEIGHTS_FILE}: the weights do not match the architecture in {METADATA_FILE}; {COPY_AGAIN}"
            ) from error
        classifier = cls(network, metadata.spectrograms, metadata.classes, metadata.model_extra, metadata.calibration)
        classifier.weights_sha256 = metadata.weights_sha256
        return classifier.to(device).eval()


def _read_metadata(folder: Path) -> _Metadata:
    path = folder / METADATA_FILE
    for name in (METADATA_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: not a model folder: {name} is missing; {USE_TRAINED}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: invalid JSON: {error}; {USE_TRAINED}") from error
    if (version := values.get("format")) not in READABLE_FORMATS:
        raise ModelError(
            f"{path}: format {version} is not among the supported ones, {', '.join(map(str, READABLE_FORMATS))}; "
            "load it with the release that wrote it, or train again"
        )
    if (version := values.get("front_end")) != FRONT_END_VERSION:
        raise ModelError(
            f"{path}: front end {version} is not the supported one, {FRONT_END_VERSION}; load it with the release that "
            "wrote it, or train again"
        )
    _upgrade(values, path)
    try:
        return _Metadata.parse(values, str(path))
    except SettingsError as error:
        raise ModelError(str(error)) from error


def _upgrade(values: dict[str, Any], path: Path) -> None:
    """Bring metadata of an older format to the current one.

    Format 2 has the recipe's name in `train`, format 3 beside it. Both have the stem's stride in time, 4 in the recipes
    `seed` and `demo`, and neither a frequency channel nor squeeze-excitation. Format 5 has a calibration or null.
    """
    if "recipe" in values.get("train", {}):
        values["recipe"] = values["train"].pop("recipe")
    if values["format"] < 4 and "architecture" in values:
        if (stride := values["architecture"].pop("time_stride", 4)) != 4:
            raise ModelError(
                f"{path}: architecture.time_stride {stride} is not supported any more, only 4; load it with the "
                "release that wrote it, or train again"
            )
        values["architecture"] |= {"frequency_channel": False, "squeeze_excitation": False}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
