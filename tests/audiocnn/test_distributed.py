"""Two processes on CPU (gloo), started by torchrun: they learn what one learns from the same batches."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from support import ROOT, read_json

from audiocnn import params
from audiocnn.batches import batches
from audiocnn.classifier import Classifier
from audiocnn.dataset import SpectrogramSet, split
from audiocnn.distributed import World
from audiocnn.model import AudioCNN
from audiocnn.training import Epoch, fit

# 40 training clips in batches of 21 and 19: the processes have shares of different sizes.
CHANGES = ["recipe=demo", "device=cpu", "fold=2", "epochs=1", "batch_size=21", "checkpoint_minutes=0"]
CHANGES += ["architecture.width=0.0625", "architecture.dropout=0", "architecture.band_norm=true", "ema_epochs=1"]
CHANGES += ["augment.mix=power", "augment.roll=1"]


def torchrun(processes: int, *command: str) -> str:
    """What the processes print; every one must end well."""
    options = ["--nproc-per-node", str(processes), "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, "-m", *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@dataclass(frozen=True)
class Alone:
    """What one process with the whole batch made of the network."""

    before: dict[str, torch.Tensor]
    network: AudioCNN
    history: list[Epoch]


@pytest.fixture(scope="module")
def alone(spectrogram_folder: Path) -> Alone:
    settings = params.load(ROOT / "params.yaml", params.override([f"train.{change}" for change in CHANGES])).train
    data = SpectrogramSet.open(spectrogram_folder)
    train, test = (
        batches(data, rows, settings.batch_size, torch.device("cpu")) for rows in split(data.clips, settings.fold)
    )
    torch.manual_seed(settings.seed)
    network = AudioCNN(10, 128, settings.architecture)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    return Alone(before, network, fit(network, train, test, settings, lambda _: None))


@pytest.fixture(scope="module")
def together(spectrogram_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that two processes made, and what they said."""
    folder = tmp_path_factory.mktemp("together")
    changes = [part for change in CHANGES for part in ("--set", f"train.{change}")]
    said = torchrun(
        2,
        "components.train",
        "--spectrograms",
        str(spectrogram_folder),
        "--output",
        str(folder / "model"),
        "--checkpoints",
        str(folder / "checkpoints"),
        *changes,
    )
    return folder, said


@pytest.mark.slow
def test_two_processes_learn_the_weights_of_one_with_the_double_batch(alone: Alone, together: tuple[Path, str]) -> None:
    found = dict(Classifier.load(together[0] / "model").network.named_parameters())
    moved, difference = (
        torch.cat([(value - other[name]).detach().flatten() for name, value in alone.network.named_parameters()])
        for other in (alone.before, found)
    )
    # Adam makes whole steps of gradients that rounding turned over, so the weights agree to a few per cent of how far
    # they moved; without the statistics of both processes they end 1.3 times as far apart as they moved.
    assert difference.norm() < 0.15 * moved.norm()


@pytest.mark.slow
def test_they_see_the_same_clips_in_the_same_order(alone: Alone, together: tuple[Path, str]) -> None:
    import pandas as pd

    history = pd.read_csv(together[0] / "model" / "history.csv")
    for epoch, line in zip(alone.history, history.itertuples(), strict=True):
        assert line.train_loss == pytest.approx(epoch.train_loss, rel=0.01)
        assert line.train_accuracy == pytest.approx(epoch.train_accuracy, abs=0.051)  # two of 40 clips may tip over


@pytest.mark.slow
def test_one_of_them_logs_and_writes(together: tuple[Path, str]) -> None:
    folder, said = together
    assert said.count("epoch 1/1") == 1 and "on 2 x cpu" in said
    assert not list((folder / "checkpoints").iterdir())
    assert read_json(folder / "model" / "run.json")["run_id"]


def test_shares_are_the_whole_batch_and_differ_by_one_clip_at_most() -> None:
    batch = torch.arange(11)
    shares = [World(rank, 3).share(batch) for rank in range(3)]
    assert sorted(torch.cat(shares).tolist()) == batch.tolist()
    assert {len(share) for share in shares} == {3, 4}


def test_a_process_alone_needs_no_group() -> None:
    world = World()
    network = torch.nn.Linear(2, 2)
    assert world.leads and world.wrap(network) is network and world.told("x") == "x"
    assert world.sum(torch.ones(2)).tolist() == [1, 1]


@pytest.mark.slow
def test_batch_norm_over_processes_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    torchrun(2, "tests.batch_norm_together", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["largest_difference"] < 1e-9, found
