"""The compiled training pipeline under KFP's own local runner, compared with ours."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.project import ROOT, read_json

from pipeline.compile import TRAINING
from pipeline.local import run_training
from pipeline.settings import PipelineSettings
from pipeline.steps import GRAPH_TASKS

PROGRAM = """
import json, sys, warnings
warnings.filterwarnings("ignore", module="kfp")
from kfp import local
from kfp.components import load_component_from_file

sys.executable = "venv/bin/python"  # KFP splits its command at spaces, which the real path may contain
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root="runs", raise_on_error=True)
load_component_from_file(sys.argv[1])(**json.loads(sys.argv[2]))
"""


def run_kfp(arguments: dict[str, Any]) -> Path:
    """Run the compiled pipeline in another process; return the folder with one subfolder for each task."""
    Path("venv").symlink_to(sys.prefix)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(TRAINING), json.dumps(arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    (folder,) = Path("runs").iterdir()
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kfp_and_the_local_runner_execute_the_same_steps(
    demo_folder: Path, tiny: PipelineSettings, workplace: Path
) -> None:
    # Refused, so that no TorchServe is needed.
    settings = tiny.replace(
        promote=tiny.promote.replace(min_accuracy=1.0), register=tiny.register.replace(name="kfp-local")
    )
    overrides = {
        "train": {key: value for key, value in settings.train.to_dict().items() if key not in ("fold", "seed")},
        "evaluate.device": "cpu",
        "promote.min_accuracy": 1.0,
    }
    parameters = {"recipe": "demo", "overrides": overrides, "fold": 2, "seed": 0, "shards": 2, "gpus_per_node": 0}
    folder = run_kfp({"source": str(demo_folder), "model_name": "kfp-local", **parameters})
    outputs = read_json(folder / "promote" / "executor_output.json")
    assert outputs["parameterValues"]["Output"] == "refuse"
    executed = {path.parent.name.replace("-", "_") for path in folder.rglob("executor_output.json")}
    assert set(GRAPH_TASKS) < executed
    assert executed - set(GRAPH_TASKS) == set(run_training(settings, str(demo_folder)).executed)
