"""Training in double precision, with or without torchrun.

In single precision, Adam would turn rounding differences into steps.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from audiocnn.data.batches import Batches, batches
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.model import AudioCNN
from audiocnn.training.distributed import SINGLE_PROCESS, ProcessGroup, process_group
from audiocnn.training.loop import Training, fit_many
from audiocnn.training.state import Epoch
from mlops.settings import parse_overrides
from pipeline import settings as pipeline_settings

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"


class Double:
    """Batches of float64."""

    def __init__(self, inner: Batches) -> None:
        self.batch_size, self.device, self.clips, self._inner = inner.batch_size, inner.device, inner.clips, inner

    def in_order(self, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        for spectrograms, labels in self._inner.in_order(order):
            yield spectrograms.double(), labels


class AllCheckpoints:
    """Keeps every checkpoint of a training (0.pt, 1.pt, ...). With `resume_from`, reads that one and writes none."""

    def __init__(self, folder: Path, resume_from: str) -> None:
        self.folder, self.resume_from, self.written = folder, resume_from, 0

    @property
    def location(self) -> str:
        return str(self.folder / self.resume_from)

    def read(self) -> bytes | None:
        return (self.folder / self.resume_from).read_bytes() if self.resume_from else None

    def write(self, content: bytes) -> None:
        if not self.resume_from:
            (self.folder / f"{self.written}.pt").write_bytes(content)
        self.written += 1


def train(
    spectrograms: Path,
    overrides: list[str],
    group: ProcessGroup = SINGLE_PROCESS,
    checkpoints: AllCheckpoints | None = None,
) -> tuple[AudioCNN, list[Epoch]]:
    settings = pipeline_settings.load(PARAMS, parse_overrides(overrides)).train
    data = SpectrogramSet.open(spectrograms)
    clips, test_clips = (
        Double(batches(data, rows, settings.batch_size, torch.device("cpu")))
        for rows in split(data.clips, settings.fold)
    )
    torch.manual_seed(settings.seed)
    network = AudioCNN(len(data.classes), data.settings.n_mels, settings.architecture).double()
    training = Training(network, clips, test_clips, settings, lambda _: None, checkpoints)
    fit_many([training], group)
    return network, training.history


def main(spectrograms: Path, overrides: list[str], output: Path, resume_from: str = "") -> None:
    """Train under torchrun. The main process writes weights.safetensors, history.json and its checkpoints."""
    with process_group(torch.device("cpu")) as group:
        network, history = train(spectrograms, overrides, group, AllCheckpoints(output, resume_from))
        if group.is_main:
            weights = {name: value.contiguous() for name, value in network.state_dict().items()}
            save_file(weights, output / "weights.safetensors")
            (output / "history.json").write_text(json.dumps([asdict(epoch) for epoch in history]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
