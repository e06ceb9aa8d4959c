"""Distributed training on CPU (gloo, torchrun) gives the results of one process with the same batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.distributed_training import train
from helpers.project import ROOT, read_json
from safetensors.torch import load_file

from audiocnn.device import DeviceError
from audiocnn.model import AudioCNN
from audiocnn.training.distributed import SINGLE_PROCESS, ProcessGroup, process_group
from audiocnn.training.state import Epoch
from mlops.artifacts import ModelFolder

# 40 training clips in batches of 21 and 19, so that the processes have shards of different sizes.
OVERRIDES = ["recipe=demo", "train.device=cpu", "train.fold=2", "train.epochs=1", "train.batch_size=21"]
OVERRIDES += ["train.checkpoint_minutes=0", "train.architecture.width=0.0625", "train.architecture.dropout=0"]
OVERRIDES += ["train.architecture.band_norm=true", "train.augment.mix=power", "train.precision=fp32"]


def torchrun(processes: int, *command: str) -> str:
    """Run a module in several processes; return their output."""
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
def single(spectrogram_folder: Path) -> tuple[AudioCNN, list[Epoch]]:
    """Return the network and the history of one process."""
    return train(spectrogram_folder, OVERRIDES)


@pytest.fixture(scope="module")
def double(spectrogram_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the output folder of two processes and what they printed."""
    folder = tmp_path_factory.mktemp("double")
    overrides = [part for override in OVERRIDES for part in ("--set", override)]
    output = torchrun(
        2,
        "components.train",
        "--spectrograms",
        str(spectrogram_folder),
        "--output",
        str(folder / "model"),
        "--checkpoints",
        str(folder / "checkpoints"),
        *overrides,
    )
    return folder, output


@pytest.mark.slow
def test_two_processes_learn_the_same_weights_as_one(
    single: tuple[AudioCNN, list[Epoch]], spectrogram_folder: Path, tmp_path: Path
) -> None:
    command = ["tests.helpers.distributed_training", str(spectrogram_folder), json.dumps(OVERRIDES), str(tmp_path)]
    torchrun(2, *command)
    torch.manual_seed(0)
    before = dict(AudioCNN(10, 64, single[0].architecture).named_parameters())
    found = load_file(tmp_path / "weights.safetensors")
    moved, difference = (
        torch.cat([(value - other[name].double()).detach().flatten() for name, value in single[0].named_parameters()])
        for other in (before, found)
    )
    # Without synchronized batch norm, the difference is 1.3 times the movement.
    assert difference.norm() < 0.01 * moved.norm()
    uninterrupted = read_json(tmp_path / "history.json")[0]
    # Any number of processes can resume from a checkpoint within the epoch.
    for processes in (1, 2, 3):
        torchrun(
            processes,
            "tests.helpers.distributed_training",
            str(spectrogram_folder),
            json.dumps(OVERRIDES),
            str(tmp_path),
            "0.pt",
        )
        resumed = read_json(tmp_path / "history.json")[0]
        assert resumed["train_loss"] == pytest.approx(uninterrupted["train_loss"], rel=1e-3)
        assert resumed["train_accuracy"] == pytest.approx(uninterrupted["train_accuracy"], abs=0.051)


@pytest.mark.slow
def test_two_processes_see_the_same_clips_in_the_same_order(
    single: tuple[AudioCNN, list[Epoch]], double: tuple[Path, str]
) -> None:
    history = ModelFolder(double[0] / "model").history()
    for epoch, line in zip(single[1], history.itertuples(), strict=True):
        assert line.train_loss == pytest.approx(epoch.train_loss, rel=0.01)
        assert line.train_accuracy == pytest.approx(
            epoch.train_accuracy, abs=0.051
        )  # two of 40 clips may be classified differently


@pytest.mark.slow
def test_main_process_logs_and_writes(double: tuple[Path, str]) -> None:
    folder, output = double
    assert output.count("epoch 1/1") == 1 and "on 2 x cpu" in output
    assert not list((folder / "checkpoints").iterdir())
    assert ModelFolder(folder / "model").run().run_id


def test_shards_partition_the_batch_evenly() -> None:
    batch = torch.arange(11)
    shards = [ProcessGroup(rank, 3).shard(batch) for rank in range(3)]
    assert sorted(torch.cat(shards).tolist()) == batch.tolist()
    assert {len(shard) for shard in shards} == {3, 4}


def test_several_processes_on_one_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(DeviceError, match="cuda:1 is a single GPU and 2 processes"),
        process_group(torch.device("cuda:1")),
    ):
        pass


def test_single_process_of_a_node_may_choose_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    calls: list[object] = []
    monkeypatch.setattr("torch.cuda.set_device", calls.append)
    monkeypatch.setattr("torch.distributed.init_process_group", calls.append)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    with process_group(torch.device("cuda:1")) as group:
        assert group.size == 2 and calls == [1, "nccl"]


def test_single_process_changes_nothing() -> None:
    network = torch.nn.Linear(2, 2)
    assert SINGLE_PROCESS.is_main and SINGLE_PROCESS.wrap(network) is network
    assert SINGLE_PROCESS.broadcast("x") == "x" and SINGLE_PROCESS.sum(torch.ones(2)).tolist() == [1, 1]


@pytest.mark.slow
def test_cpu_sync_batch_norm_equals_batch_norm_of_the_whole_batch(tmp_path: Path) -> None:
    torchrun(2, "tests.helpers.distributed_batch_norm", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["largest_difference"] < 1e-9, found
    assert found["dtype_of_bf16"] == "torch.bfloat16" and found["difference_of_bf16"] < 0.05, found
