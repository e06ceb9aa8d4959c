"""The command status: what it shows of the registry."""

from pathlib import Path

import pytest
from helpers import registry as artifacts
from helpers.torchserve import deploy_settings

from components.promote.step import promote
from mlops import tracking
from mlops.tracking import history
from mlops.tracking.champion import approve
from pipeline.cli.status import Status, VersionState, collect, render
from pipeline.settings import PipelineSettings


def test_an_approved_version_is_shown_with_the_reason(
    tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = artifacts.write_data(tmp_path / "data")
    made = artifacts.candidate(tmp_path / "model", "overruled", data, correct=10)
    inputs = (made.registration, made.model, made.evaluation, data.spectrograms)
    promote(*inputs, artifacts.POLICY, tmp_path / "decision")
    settings = tiny.replace(
        register=tiny.register.replace(name="overruled"), deploy=deploy_settings(tmp_path / "state")
    )

    before = render(collect(settings)).splitlines()
    assert before[1:4] == [
        "champion    none",
        "challenger  version 1: refused",
        "              accuracy is 25 %, below 60 %",
    ]
    monkeypatch.setenv("LOGNAME", "anna")
    approve("overruled", 1, because="[/done] see [ticket]")
    after = render(collect(settings)).splitlines()
    assert after[1] == "champion    version 1: refused, but approved by a person"
    unreachable, problem, change = after[-3:]
    assert "challenger  the champion is the newest version" in after
    assert "cannot be reached (Connection refused)" in unreachable
    assert problem == "problem     the champion, version 1, is not served everywhere; run `audiocnn deploy`"
    assert change.endswith("approve: champion none to 1, by anna: [/done] see [ticket]")

    tracking.tag_version("overruled", 1, {"decision": "promote"})
    history.append("overruled", "delete", version_from=None, version_to=2, by="anna")
    after = render(collect(settings)).splitlines()
    assert after[1] == "champion    version 1: refused, but approved by a person"
    assert after[-1].endswith("delete version 2, by anna")


@pytest.mark.parametrize(
    ("status", "shown"),
    [("pending", "waits for approval"), ("approved", "approved by a person"), ("rejected", "not approved")],
)
def test_a_version_waits_only_until_a_person_has_decided(status: str, shown: str) -> None:
    waited = VersionState(3, "wait", status, ["the policy requires an approval"])
    text = render(Status("sounds", None, "", waited, [], "", [], [], []))
    assert f"challenger  version 3: {shown}\n              the policy requires an approval" in text
