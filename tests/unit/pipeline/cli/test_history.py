"""The commands history, adopt and gc."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from helpers import registry as make
from helpers.mlflow import start
from helpers.project import ROOT
from helpers.signing_keys import write_keys
from typer.testing import CliRunner

from mlops import tracking
from mlops.tracking import champion, history
from mlops.tracking.signature import SIGNING_KEY
from pipeline.cli import app

PARAMS = ("--params", str(ROOT / "params.yaml"), "--set", "register.name=shown")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, *PARAMS], catch_exceptions=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.write_model(
        tmp_path_factory.mktemp("model") / "model", make.write_data(tmp_path_factory.mktemp("data"))
    )


def test_changes_are_listed_verified_and_cleaned_up(model: Path) -> None:
    assert call("history").stdout == "The model 'shown' has no history.\n"
    tracking.connect().client.create_registered_model("shown")
    run_id = start().run_id
    for with_manifest in (True, False, True):
        make.bare_version("shown", model, run_id, with_manifest)
    champion.move("shown", 1, kind="promote", by="policy")
    champion.move("shown", 3, kind="approve", by="anna", because="it knows [sirens]")

    refused = call("adopt", "2")
    assert (refused.exit_code, refused.stderr) == (
        2,
        'error: say why the files of shown version 2 can be trusted: --because "..."\n',
    )
    assert call("adopt", "2", "--because", "trained in spring").stdout == "shown version 2 has a manifest now.\n"
    planned, removed = call("gc", "--keep", "1", "--dry-run"), call("gc", "--keep", "1")
    size = planned.stdout.splitlines()[0].removeprefix("would remove shown version 2, ")
    assert planned.stdout == f"would remove shown version 2, {size}\nwould remove {size} in all\n"
    assert removed.stdout == planned.stdout.replace("would remove", "removed")
    assert call("gc", "--keep", "1").stdout == "shown has no version to remove\n"
    nothing = json.loads(call("gc", "--json", "--keep", "1").stdout)
    assert nothing == {"name": "shown", "dry_run": False, "versions": [], "bytes": 0}

    result = call("history")
    assert result.exit_code == 0
    lines = [line[29:] for line in result.stdout.splitlines()]
    assert lines[:2] == [
        "promote: champion none to 1, by policy",
        "approve: champion 1 to 3, by anna: it knows [sirens]",
    ]
    assert lines[2].startswith("adopt version 2, by ") and lines[2].endswith(": trained in spring")
    assert lines[3].startswith("delete version 2, by ") and lines[3].endswith(": audiocnn gc")
    assert "The history is intact; its last entry has the digest " in result.stdout

    run = history.HistoryRun.find("shown")
    assert run is not None
    uri = tracking.connect().client.get_run(run.run_id).info.artifact_uri
    entry = sorted(Path(uri.removeprefix("file://"), "entries").iterdir())[1]
    entry.write_text(entry.read_text().replace("anna", "berta"))
    damaged = call("history")
    assert damaged.exit_code == 1 and damaged.stderr == "not intact: entry 2 was changed\n"
    as_json = call("history", "--json")
    facts = json.loads(as_json.stdout)
    assert as_json.exit_code == 1 and facts["findings"] == ["entry 2 was changed"]
    assert [entry["number"] for entry in facts["entries"]] == [1, 3, 4] and facts["entries"][0]["by"] == "policy"


def test_adopt_signs_with_a_key(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking.connect().client.create_registered_model("signed-later")
    make.bare_version("signed-later", model, start().run_id)
    arguments = ("adopt", "1", "--set", "register.name=signed-later", "--because", "versions are signed now")
    unsigned = CliRunner().invoke(app, [*arguments])
    assert unsigned.exit_code == 2 and f"has a manifest; to sign it, set {SIGNING_KEY}" in unsigned.stderr
    private, public = write_keys(tmp_path / "keys")
    monkeypatch.setenv(SIGNING_KEY, str(public))
    wrong = CliRunner().invoke(app, [*arguments])
    assert wrong.exit_code == 2 and wrong.stderr.startswith(f"error: {SIGNING_KEY} has to be a private key")
    monkeypatch.setenv(SIGNING_KEY, str(private))
    assert (
        CliRunner().invoke(app, [*arguments]).stdout == "signed-later version 1 has a manifest and a signature now.\n"
    )
