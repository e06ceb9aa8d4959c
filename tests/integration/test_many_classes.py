"""Six hundred classes are evaluated within a gigabyte, and the report stays readable."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.project import ROOT

from mlops.artifacts import EvaluationFolder

STEPS = """
import json, sys
from pathlib import Path
from helpers import registry as make
from helpers.memory import peak_megabytes
from components.evaluate.step import evaluate
from pipeline import settings

folder, classes = Path(sys.argv[1]), [f"sound_of_kind_{number:03}" for number in range(600)]
data = make.write_data(folder, classes=classes, train_clips=600, test_clips=600)
model = make.write_model(folder / "model", data, classes=classes)
evaluate_settings = settings.load(Path(sys.argv[2]), {"evaluate": {"device": "cpu"}}).evaluate
before = peak_megabytes()
evaluate(model, data.spectrograms, data.dataset, evaluate_settings, folder / "evaluation")
print(json.dumps({"before": before, "after": peak_megabytes()}))
"""


@pytest.mark.slow
def test_six_hundred_classes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STEPS, str(tmp_path), str(ROOT / "params.yaml")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    memory = json.loads(done.stdout.splitlines()[-1])
    assert memory["after"] - memory["before"] < 1024
    evaluation = EvaluationFolder(tmp_path / "evaluation")
    assert len(evaluation.classes()) == 600
    page = evaluation.report.read_text()
    assert "550 further classes" in page and "20 most frequent confusions among 600 classes" in page
