"""From a version to what it was made of, and back."""

import json

import pytest
from click.testing import Result
from helpers import registry as make
from helpers.mlflow import start
from helpers.project import ROOT
from typer.testing import CliRunner

from mlops import tracking
from mlops.kubeflow_run import RUN_TAG
from mlops.tracking.lineage import find_by_lineage, lineage
from pipeline.cli import app


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of which version 1 is complete, and version 2 has no records."""
    folder, name = tmp_path_factory.mktemp("lineage"), "traced"
    make.candidate(folder / "model", name, make.write_data(folder / "data"))
    tracking.connect().client.create_model_version(name, "nowhere", start(environment={"image": "own:7"}).run_id)
    return name


def command(*arguments: str) -> Result:
    options = ["--params", str(ROOT / "params.yaml"), "--set", "register.name=traced"]
    return CliRunner().invoke(app, ["lineage", *arguments, *options])


def test_a_version_leads_to_everything_it_was_made_of(name: str) -> None:
    version = tracking.get_version(name, 1)
    tracking.resume_run(version.run_id).log_text("-a\n+b\n", "code.diff")
    facts = json.loads(command("1", "--json").stdout)
    assert facts == lineage(version)
    run = tracking.resume_run(version.run_id).tags()
    assert facts["data"]["digest"] == run["dataset_digest"] and facts["data"]["test_fold"] == 2
    assert facts["code"]["git_revision"] == "0" * 40 and facts["code"]["code_digest"] == run["code_digest"]
    assert facts["code"]["diff"] == f"runs:/{version.run_id}/code.diff"
    assert facts["settings"]["train"]["epochs"] == 1
    assert facts["settings"]["ingest"] == {"subset": "all"}
    assert facts["settings"]["spectrograms"] == make.SETTINGS.to_dict()
    lines = command("1").stdout.splitlines()
    assert [line.split() for line in lines if line.startswith("weights_sha256")] == [
        ["weights_sha256", tracking.recorded_weights(version)]
    ]


def test_data_code_image_and_runs_lead_back_to_versions(name: str) -> None:
    first, second = (tracking.get_version(name, number) for number in (1, 2))
    digest = lineage(first)["data"]["digest"]
    tracking.resume_run(first.run_id).set_tags({RUN_TAG: "5c2f", "git_revision": "abc123-dirty"})
    assert find_by_lineage(name, data=digest[:8]) == find_by_lineage(name, run="5c2f") == [first]
    assert find_by_lineage(name, git="abc123") == find_by_lineage(name, run=first.run_id) == [first]
    assert find_by_lineage(name, image="own:7") == find_by_lineage(name, run=second.run_id) == [second]
    assert find_by_lineage(name, image="own:7", data=digest) == []
    assert find_by_lineage("missing", data=digest) == []
    assert command("--data", digest[:8]).stdout.startswith(f"version 1: demo {digest[:12]}")
    assert [item["version"] for item in json.loads(command("--image", "own:7", "--json").stdout)] == [2]
    assert command("--git", "fff").stdout == "no version\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give a version, or at least one of"),
        (("1", "--data", "ab"), "give a version, or at least one of"),
        (("2",), "traced version 2 has no record of its lineage"),
        (("9",), "has no version 9"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(name: str, arguments: tuple[str, ...], words: str) -> None:
    result = command(*arguments)
    assert result.exit_code == 2 and words in result.output
