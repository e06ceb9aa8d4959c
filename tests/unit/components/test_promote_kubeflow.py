"""The step promote as a component in a pipeline, under kfp.local."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import registry as make
from helpers.project import ROOT

from mlops import tracking

NAME = "conditional"


@pytest.mark.slow
def test_a_condition_in_a_pipeline_follows_the_decision(tmp_path: Path) -> None:
    """kfp.local silently skips conditions on named outputs, so the component's return value must be unnamed."""
    data = make.write_data(tmp_path / "data")
    good = make.candidate(tmp_path / "a", NAME, data)
    bad = make.candidate(tmp_path / "bb", NAME, data, correct=5, answer=1)
    script = tmp_path / "pipeline.py"
    script.write_text(PIPELINE)
    cases = [
        {
            "registration": str(made.registration),
            "model": str(made.model),
            "evaluation": str(made.evaluation),
            "spectrograms": str(data.spectrograms),
            "overrides": {"promote": make.POLICY.to_dict()},
            "marks": str(marks),
            "root": str(tmp_path / "root"),
        }
        for made, marks in ((good, tmp_path / "good"), (bad, tmp_path / "bad"))
    ]
    # In another process: kfp.local has one global configuration per process.
    (tmp_path / "venv").symlink_to(sys.prefix)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), json.dumps(cases)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert [path.name for path in (tmp_path / "good").iterdir()] == ["promoted"]
    assert [path.name for path in (tmp_path / "bad").iterdir()] == ["kept"]
    version = tracking.version_by_alias(NAME, tracking.CHAMPION)
    assert version is not None and version.number == 1
    pages = list((tmp_path / "root").glob("*/promote/decision"))
    assert len(pages) == 2 and all("| min_accuracy | 0.6 |" in page.read_text() for page in pages)


PIPELINE = """
import json, sys
from kfp import dsl, local
from components.promote.component import promote

KINDS = {"registration": dsl.Artifact, "model": dsl.Model, "evaluation": dsl.Artifact, "spectrograms": dsl.Dataset}

@dsl.component(base_image="unused", install_kfp_package=False)
def mark(folder: str, name: str):
    from pathlib import Path
    Path(folder).mkdir()
    Path(folder, name).write_text("ran")

def judge(case):
    @dsl.pipeline
    def judged(overrides: dict, marks: str):
        given = {
            key: dsl.importer(artifact_uri=case[key], artifact_class=kind, reimport=False).output
            for key, kind in KINDS.items()
        }
        task = promote(**given, recipe="demo", overrides=overrides)
        with dsl.If(task.outputs["Output"] == "promote"):
            mark(folder=marks, name="promoted")
        with dsl.Else():
            mark(folder=marks, name="kept")

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=case["root"])
    judged(overrides=case["overrides"], marks=case["marks"])

if __name__ == "__main__":
    sys.executable = "venv/bin/python"  # KFP splits its command at spaces, which the real path may contain
    for case in json.loads(sys.argv[1]):
        judge(case)
"""
