"""What is read out of a compiled pipeline."""

from pathlib import Path

import pytest

from pipeline import graph
from pipeline.run import TRAINING


def test_tasks_come_in_the_order_in_which_they_run() -> None:
    found = graph.read(TRAINING)
    assert found.name == "training"
    names = [task.name for task in found.tasks]
    steps = ["ingest", "spectrograms", "train", "evaluate", "register", "promote", "deploy"]
    assert names == ["ingest", "spectrogram-shard", *steps[1:]]
    assert set(steps) < set(found.parameters) and {"source", "shards"} < set(found.parameters)


def test_only_the_shares_of_the_spectrograms_are_computed_side_by_side() -> None:
    assert [task.name for task in graph.read(TRAINING).tasks if task.repeated] == ["spectrogram-shard"]


def test_only_deploy_stands_behind_a_gate() -> None:
    gates = {task.name: task.gate for task in graph.read(TRAINING).tasks}
    assert gates.pop("deploy") == graph.Gate("promote", "promote")
    assert set(gates.values()) == {None}


def test_a_condition_that_kfp_would_skip_silently_is_refused(toys: dict[str, Path], tmp_path: Path) -> None:
    # The local runner finds no output of that name, calls the condition false, and reports success.
    text = toys["gated"].read_text()
    (tmp_path / "named.yaml").write_text(text.replace("judge-Output'] ==", "judge-verdict'] =="))
    with pytest.raises(ValueError, match="unnamed output"):
        graph.read(tmp_path / "named.yaml")
