"""The compiled training pipeline under KFP's own local runner, compared with ours."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.project import ROOT, read_json

from audiocnn.classifier import Classifier
from mlops import tracking
from mlops.artifacts import DatasetFolder
from pipeline.compile import TRAINING
from pipeline.local import run_training
from pipeline.settings import PipelineSettings

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
    train = settings.train.to_dict().items()  # kfp.local accepts no null in a parameter
    overrides = {
        "train": {key: value for key, value in train if key not in ("fold", "seed") and value is not None},
        "evaluate.device": "cpu",
        "promote.min_accuracy": 1.0,
    }
    parameters = {"recipe": "demo", "overrides": overrides, "fold": 2, "seed": 3, "shards": 2, "gpus_per_node": 0}
    folder = run_kfp({"source": str(demo_folder), "model_name": "kfp-local", **parameters})
    check_that_parameters_were_used(folder, settings)
    outputs = read_json(folder / "promote" / "executor_output.json")
    assert outputs["parameterValues"]["Output"] == "refuse"
    executed = {path.parent.name.replace("-", "_") for path in folder.rglob("executor_output.json")}
    only_here = {"check_parameters", "spectrogram_shard", "notify"}
    assert only_here < executed
    assert executed - only_here == set(run_training(settings, str(demo_folder)).executed)


def check_that_parameters_were_used(folder: Path, settings: PipelineSettings) -> None:
    (dataset,) = folder.glob("ingest/dataset")
    assert DatasetFolder(dataset).record().clips == 50, "source"
    provenance = Classifier.load(folder / "train" / "model").provenance
    assert provenance["recipe"] == "demo"
    assert provenance["train"] == settings.train.replace(fold=2, seed=3).to_dict(), "overrides, fold and seed"
    assert len(list(folder.rglob("spectrogram-shard*/executor_output.json"))) == 2, "shards"
    gpus = read_json(folder / "check-parameters" / "executor_output.json")["parameterValues"]["Output"]
    assert gpus == "0", "gpus_per_node"
    version = tracking.version_by_alias("kfp-local", "challenger")
    assert version is not None, "model_name"
    # The id of the run that kfp.local puts in place of the placeholder.
    run = tracking.connect().client.get_run(version.run_id)
    assert version.tags["kfp_run"] == run.data.tags["kfp.pipeline_run_id"] != ""
    assert "pipeline_job_uuid" not in version.tags["kfp_run"]
