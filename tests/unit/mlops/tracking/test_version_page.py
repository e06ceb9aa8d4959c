"""The description of a version in MLflow: the verdict, the next step, links and the model card."""

import re
from pathlib import Path

import pytest
from helpers import registry as make
from helpers.mlflow import start
from helpers.registry import record_decision

from mlops import tracking
from mlops.artifacts import Outcome
from mlops.tracking import champion
from mlops.tracking.deployed import mark_deployed
from mlops.tracking.history import OUTSIDE
from mlops.tracking.records import records_folder
from mlops.tracking.registry import set_alias
from mlops.tracking.version_page import LENGTH, write_page


@pytest.fixture
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A registered model with two versions that have no files."""
    name = re.sub("[^a-z]", "-", request.node.name)
    client = tracking.connect().client
    client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version(name, str(tmp_path), start().run_id)
    return name


def text(name: str, number: int) -> str:
    return str(tracking.connect().client.get_model_version(name, str(number)).description)


def test_an_undecided_version_says_so_and_has_its_accuracy_and_card(tmp_path: Path) -> None:
    make.candidate(tmp_path / "model", "undecided", make.write_data(tmp_path / "data"))
    page = text("undecided", 1)
    assert page.startswith("Not decided yet: the step promote has not run; there is no champion.")
    assert "Accuracy **75.0 %** (95 % interval 59.8 to 85.8 %) on 40 clips of test fold 2." in page
    assert "\n\n# undecided: classifies sounds" in page


@pytest.mark.parametrize(
    ("outcome", "verdict", "step"),
    [
        ("refuse", "Refused; the champion is version 1.", 'audiocnn approve 2 --because "..."'),
        ("keep", "Not promoted: no difference to the champion was found;", "override_reason"),
        ("wait", "Waits for approval;", "`validation_status` to `approved`"),
    ],
)
def test_the_verdict_of_each_outcome(name: str, outcome: Outcome, verdict: str, step: str) -> None:
    champion.move(name, 1, kind="promote", by="policy")
    record_decision(name, 2, outcome, champion=1, reasons=["recall of <b>sea_waves</b> fell", "it is *too* slow"])
    write_page(name, 2)
    page = text(name, 2)
    assert page.startswith(verdict) and step in page
    assert "- recall of \\<b\\>sea_waves\\</b\\> fell\n- it is \\*too\\* slow" in page


def test_the_verdict_follows_the_champion(name: str) -> None:
    champion.move(name, 1, kind="promote", by="policy")
    assert re.match(r"Champion, promoted by the policy on 20\d\d-\d\d-\d\d \d\d:\d\d UTC\.", text(name, 1))
    champion.move(name, 2, kind="approve", by="anna", because="heard it")
    assert re.match(r'Champion, approved by anna on .*, because "heard it"\.', text(name, 2))
    assert re.match(r"No longer champion: replaced on .* the champion is version 2\.", text(name, 1))
    assert "`audiocnn rollback --to 1`" in text(name, 1)
    champion.move(name, 1, kind="rollback", by="ben")
    assert re.match(r"No longer champion: rolled back by ben on .* version 1\.", text(name, 2))
    assert re.match(r"Champion, restored by ben on ", text(name, 1))
    champion.move(name, 2, kind="approve", by=OUTSIDE)
    assert re.match(r"Champion, approved in MLflow on ", text(name, 2))


def test_a_change_outside_audiocnn_that_was_reverted_is_described(name: str) -> None:
    champion.move(name, 1, kind="promote", by="policy")
    record_decision(name, 2, "refuse", champion=1)
    set_alias(name, champion.CHAMPION, 2)
    champion.move(name, 1, kind="reverted", by="audiocnn")
    page = text(name, 2)
    assert page.startswith("Refused. The alias `champion` was moved to this version outside audiocnn, and was moved")
    assert "--to 2" not in page and "a reason" in page


def test_the_page_links_to_files_of_the_run_that_exist(name: str) -> None:
    record_decision(name, 2, "wait")
    write_page(name, 2)
    version, client = tracking.get_version(name, 2), tracking.connect().client
    experiment = client.get_run(version.run_id).info.experiment_id
    links = re.findall(r"\]\(#/experiments/(\w+)/runs/(\w+)/artifacts/([^)]*)\)", text(name, 2))
    assert {link[:2] for link in links} == {(experiment, version.run_id)}
    own = [path for *_, path in links if path.startswith(records_folder(version))]
    stored = {file.path for file in client.list_artifacts(version.run_id, records_folder(version))}
    assert own and set(own) <= stored


def test_a_long_page_is_cut_at_the_end_of_the_card(name: str) -> None:
    version = tracking.get_version(name, 2)
    card = "# card\n" + "\n".join(f"line {number}" for number in range(1000))
    tracking.resume_run(version.run_id).log_text(card, f"{records_folder(version)}/card.md")
    record_decision(name, 2, "refuse", reasons=[f"reason {number} " + "x " * 400 for number in range(20)])
    for _ in range(2):
        write_page(name, 2)
        page = text(name, 2)
        assert 4500 < len(page) <= LENGTH and page.startswith("Refused") and "12 more in decision.md" in page
        assert re.search(r"line \d+\n\nThe model card goes on in \[card\.md\]\(#/experiments/.*/card\.md\)\.$", page)


def test_a_version_without_records_keeps_its_card(name: str) -> None:
    client = tracking.connect().client
    client.create_model_version(name, "nowhere", None, description="# The card of an older release\n\nText.")
    for _ in range(2):
        write_page(name, 3)
        assert text(name, 3).endswith("\n\n# The card of an older release\n\nText.")
        assert text(name, 3).startswith("Not decided yet")
    write_page(name, 99)


def test_only_the_last_deployed_version_claims_to_be_served(name: str) -> None:
    champion.move(name, 1, kind="promote", by="policy")
    mark_deployed(tracking.get_version(name, 1), "http://127.0.0.1:8080/predictions/audiocnn", "2026-11-27T13:00:00Z")
    assert "it is served at http://127.0.0.1:8080/predictions/audiocnn since 2026-11-27 13:00 UTC" in text(name, 1)
    champion.move(name, 2, kind="promote", by="policy")
    mark_deployed(tracking.get_version(name, 2), "http://127.0.0.1:9080/predictions/audiocnn", "2026-11-27T14:00:00Z")
    first, second = (tracking.get_version(name, number).tags for number in (1, 2))
    assert "deployed_to" not in first and "deployed_at" not in first
    assert second["deployed_to"].endswith(":9080/predictions/audiocnn") and second["deployed_at"]
