"""Two processes on CPU (gloo), started by torchrun: they learn what one learns from the same batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.distributed_training import train
from helpers.project import ROOT, read_json
from safetensors.torch import load_file

from audiocnn.device import DeviceError
from audiocnn.model import AudioCNN
from audiocnn.training.distributed import World, world
from audiocnn.training.loop import Epoch

# 40 training clips in batches of 21 and 19: the processes have shares of different sizes.
CHANGES = ["recipe=demo", "device=cpu", "fold=2", "epochs=1", "batch_size=21", "checkpoint_minutes=0"]
CHANGES += ["architecture.width=0.0625", "architecture.dropout=0", "architecture.band_norm=true"]
CHANGES += ["augment.mix=power", "precision=fp32"]


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


@pytest.fixture(scope="module")
def alone(spectrogram_folder: Path) -> tuple[AudioCNN, list[Epoch]]:
    """What one process with the whole batch makes of the network."""
    return train(spectrogram_folder, CHANGES)


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
def test_two_processes_learn_the_weights_of_one_with_the_double_batch(
    alone: tuple[AudioCNN, list[Epoch]], spectrogram_folder: Path, tmp_path: Path
) -> None:
    torchrun(2, "tests.training_together", str(spectrogram_folder), json.dumps(CHANGES), str(tmp_path))
    torch.manual_seed(0)
    before = dict(AudioCNN(10, 128, alone[0].architecture).named_parameters())
    found = load_file(tmp_path / "weights.safetensors")
    moved, difference = (
        torch.cat([(value - other[name].double()).detach().flatten() for name, value in alone[0].named_parameters()])
        for other in (before, found)
    )
    # Without the statistics of both processes they end 1.3 times as far apart as they moved.
    assert difference.norm() < 0.01 * moved.norm()
    unbroken = read_json(tmp_path / "history.json")[0]
    # From the state in the middle of the epoch, which any number of processes may take up: the figures of all clips.
    for processes in (1, 2, 3):
        torchrun(
            processes, "tests.training_together", str(spectrogram_folder), json.dumps(CHANGES), str(tmp_path), "0.pt"
        )
        resumed = read_json(tmp_path / "history.json")[0]
        assert resumed["train_loss"] == pytest.approx(unbroken["train_loss"], rel=1e-3)
        assert resumed["train_accuracy"] == pytest.approx(unbroken["train_accuracy"], abs=0.051)


@pytest.mark.slow
def test_they_see_the_same_clips_in_the_same_order(
    alone: tuple[AudioCNN, list[Epoch]], together: tuple[Path, str]
) -> None:
    history = pd.read_csv(together[0] / "model" / "history.csv")
    for epoch, line in zip(alone[1], history.itertuples(), strict=True):
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


def test_processes_that_train_together_do_not_crowd_on_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(DeviceError, match="cuda:1 is one GPU, and 2 processes"),
        world(torch.device("cuda:1")),
    ):
        pass


def test_one_process_a_node_may_name_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    done: list[object] = []
    monkeypatch.setattr("torch.cuda.set_device", done.append)
    monkeypatch.setattr("torch.distributed.init_process_group", done.append)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    with world(torch.device("cuda:1")) as together:
        assert together.size == 2 and done == [1, "nccl"]


def test_a_process_alone_needs_no_group() -> None:
    world = World()
    network = torch.nn.Linear(2, 2)
    assert world.is_main and world.wrap(network) is network and world.broadcast("x") == "x"
    assert world.sum(torch.ones(2)).tolist() == [1, 1]


@pytest.mark.slow
def test_batch_norm_over_processes_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    torchrun(2, "tests.batch_norm_together", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["largest_difference"] < 1e-9, found
    assert found["dtype_of_bf16"] == "torch.bfloat16" and found["difference_of_bf16"] < 0.05, found
