"""A training in double precision, alone or under torchrun: rounding is then too small for Adam to make steps of it."""

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
from audiocnn.training.distributed import SINGLE_PROCESS, World, world
from audiocnn.training.loop import Epoch, fit
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


class EveryState:
    """Keeps all checkpoints of a training side by side, as 0.pt and on; one that resumes begins with `begin`."""

    def __init__(self, folder: Path, begin: str) -> None:
        self.folder, self.begin, self.written = folder, begin, 0

    def read(self) -> bytes | None:
        return (self.folder / self.begin).read_bytes() if self.begin else None

    def write(self, content: bytes) -> None:
        if not self.begin:
            (self.folder / f"{self.written}.pt").write_bytes(content)
        self.written += 1


def train(
    spectrograms: Path, changes: list[str], together: World = SINGLE_PROCESS, saved: EveryState | None = None
) -> tuple[AudioCNN, list[Epoch]]:
    settings = pipeline_settings.load(PARAMS, parse_overrides([f"train.{change}" for change in changes])).train
    data = SpectrogramSet.open(spectrograms)
    clips, tested = (
        Double(batches(data, rows, settings.batch_size, torch.device("cpu")))
        for rows in split(data.clips, settings.fold)
    )
    torch.manual_seed(settings.seed)
    network = AudioCNN(len(data.classes), data.settings.n_mels, settings.architecture).double()
    return network, fit(network, clips, tested, settings, lambda _: None, saved, together)


def main(spectrograms: Path, changes: list[str], output: Path, begin: str = "") -> None:
    """Train under torchrun; the first process writes weights.safetensors, history.json and its checkpoints."""
    with world(torch.device("cpu")) as together:
        network, history = train(spectrograms, changes, together, EveryState(output, begin))
        if together.is_main:
            weights = {name: value.contiguous() for name, value in network.state_dict().items()}
            save_file(weights, output / "weights.safetensors")
            (output / "history.json").write_text(json.dumps([asdict(epoch) for epoch in history]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
