"""A training in double precision, alone or under torchrun: rounding is then too small for Adam to make steps of it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from audiocnn import params
from audiocnn.batches import Batches, batches
from audiocnn.dataset import SpectrogramSet, split
from audiocnn.distributed import ALONE, World, world
from audiocnn.model import AudioCNN
from audiocnn.training import Epoch, fit

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


class Double:
    """Batches of float64."""

    def __init__(self, inner: Batches) -> None:
        self.batch_size, self.device, self.clips, self._inner = inner.batch_size, inner.device, inner.clips, inner

    def in_order(self, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        for spectrograms, labels in self._inner.in_order(order):
            yield spectrograms.double(), labels


def train(spectrograms: Path, changes: list[str], together: World = ALONE) -> tuple[AudioCNN, list[Epoch]]:
    settings = params.load(PARAMS, params.override([f"train.{change}" for change in changes])).train
    data = SpectrogramSet.open(spectrograms)
    clips, tested = (
        Double(batches(data, rows, settings.batch_size, torch.device("cpu")))
        for rows in split(data.clips, settings.fold)
    )
    torch.manual_seed(settings.seed)
    network = AudioCNN(len(data.classes), data.settings.n_mels, settings.architecture).double()
    return network, fit(network, clips, tested, settings, lambda _: None, world=together)


def main(spectrograms: Path, changes: list[str], output: Path) -> None:
    """Train under torchrun; the first process writes the weights."""
    with world(torch.device("cpu")) as together:
        network, _ = train(spectrograms, changes, together)
        if together.leads:
            save_file({name: value.contiguous() for name, value in network.state_dict().items()}, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]))
