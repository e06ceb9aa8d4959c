"""The step promote on a real registry: what it moves, what it records, and the way back."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import registry as make
from helpers.project import ROOT, read_json

from components.promote.evidence import PromoteError
from components.promote.policy import Champion, Decision, decide
from components.promote.settings import PromoteSettings
from components.promote.step import promote
from components.register.step import register
from mlops import tracking
from mlops.tracking import champion
from mlops.tracking.settings import RegisterSettings

POLICY = make.POLICY


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> make.Data:
    return make.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model of its own for each test."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)


def judge(made: make.Candidate, data: make.Data, output: Path, policy: PromoteSettings = POLICY) -> Decision:
    return promote(made.registration, made.model, made.evaluation, data.spectrograms, policy, output)


def holder(name: str) -> int | None:
    version = tracking.version_by_alias(name, "champion")
    return None if version is None else version.number


def test_promotion_moves_the_alias_and_records_it_everywhere(data: make.Data, name: str, tmp_path: Path) -> None:
    made = make.candidate(tmp_path / "a", name, data)
    judge(made, data, tmp_path / "decision")
    assert holder(name) == 1
    record = read_json(tmp_path / "decision" / "decision.json")
    assert record["promote"] and record["outcome"] == "promote" and record["champion"] is None
    assert record["challenger"] == 1 and record["policy"]["min_accuracy"] == 0.6
    kept = tracking.get_version(name, 1)
    assert kept.tags["decision"] == "promote" and kept.tags["decision_champion"] == "none"
    client = tracking.connect().client
    assert client.get_run(kept.run_id).data.tags["decision"] == "promote"
    logged = {item.path for item in client.list_artifacts(kept.run_id, "decision")}
    assert logged == {"decision/decision.json", "decision/decision.md"}
    assert [(move.kind, move.to, move.by) for move in champion.history(name)] == [("promote", 1, "policy")]


def test_a_worse_model_is_refused_and_the_champion_stays(data: make.Data, name: str, tmp_path: Path) -> None:
    # The champion always says "dog": it is right on the 13 or 14 of the 40 test clips that are dogs.
    judge(make.candidate(tmp_path / "a", name, data, answer=0), data, tmp_path / "first")
    dogs = int((data.test_clips["category"] == "dog").sum())
    floor = dataclasses.replace(POLICY, min_accuracy=0.0)
    worse = make.candidate(tmp_path / "bb", name, data, right=dogs - 1, answer=1)
    decision = judge(worse, data, tmp_path / "second", floor)
    assert decision.outcome == "refuse" and decision.paired is not None and decision.paired.clips == 40
    assert decision.paired.difference == pytest.approx(-1 / 40)
    assert holder(name) == 1 and len(champion.history(name)) == 1
    run = tracking.connect().client.get_run(worse.version.run_id)
    assert run.data.tags["decision"] == "refuse" and "-2.5 points" in run.data.tags["decision_reasons"]
    assert "is refused; the champion stays" in (tmp_path / "second" / "decision.md").read_text()
    as_good = make.candidate(tmp_path / "ccc", name, data, right=dogs, answer=2)
    assert judge(as_good, data, tmp_path / "third", floor).outcome == "promote" and holder(name) == 3


def test_clips_that_the_champion_has_learnt_do_not_count(data: make.Data, name: str, tmp_path: Path) -> None:
    learnt = list(data.test_clips["md5"][:15])
    judge(make.candidate(tmp_path / "a", name, data, learnt=learnt), data, tmp_path / "first")
    challenger = make.candidate(tmp_path / "bb", name, data, answer=1)
    decision = judge(challenger, data, tmp_path / "second")
    assert decision.paired is not None and decision.paired.clips == 25
    stricter = dataclasses.replace(POLICY, min_paired_clips=26)
    again = make.candidate(tmp_path / "ccc", name, data, answer=2)
    tracking.set_alias(name, "champion", 1)
    assert judge(again, data, tmp_path / "third", stricter).outcome == "refuse" and holder(name) == 1


def test_a_person_approves_what_waits(data: make.Data, name: str, tmp_path: Path) -> None:
    asked = dataclasses.replace(POLICY, approval="person")
    assert judge(make.candidate(tmp_path / "a", name, data), data, tmp_path / "decision", asked).outcome == "wait"
    assert holder(name) is None and not read_json(tmp_path / "decision" / "decision.json")["promote"]
    assert '`audiocnn approve 1 --because "..."`' in (tmp_path / "decision" / "decision.md").read_text()
    version = champion.approve(name, 1, by="anna")
    assert holder(name) == 1 and version.tags["approved_by"] == "anna"
    assert champion.history(name)[-1].by == "anna"


def test_the_champion_registered_again_stays_champion_without_a_move(
    data: make.Data, name: str, tmp_path: Path
) -> None:
    made = make.candidate(tmp_path / "a", name, data)
    judge(made, data, tmp_path / "first")
    decision = judge(made, data, tmp_path / "second")
    assert decision.outcome == "promote" and "already" in decision.reasons[-1]
    assert len(champion.history(name)) == 1


@pytest.mark.parametrize("other", ["classes", "front end", "broken"])
def test_a_champion_that_cannot_be_run_on_these_clips_is_left_to_a_person(
    other: str, data: make.Data, name: str, tmp_path: Path
) -> None:
    classes = (*make.CLASSES, "siren") if other == "classes" else make.CLASSES
    front_end = dataclasses.replace(make.SETTINGS, hop=64) if other == "front end" else make.SETTINGS
    model = make.write_model(tmp_path / "old", data, classes=classes, settings=front_end)
    if other == "broken":
        card = read_json(model / "model.json") | {"front_end": 0}
    judged = make.write_evaluation(tmp_path / "judged", model, data, right=30)
    register(model, judged, data.dataset, RegisterSettings(name), tmp_path / "registration")
    if other == "broken":
        place = tracking.connect().client.get_model_version_download_uri(name, "1").removeprefix("file://")
        file = Path(place, "artifacts/model/model.json")
        file.write_text(json.dumps(card))
        # As if it had been registered so: by a release with another front end.
        tracking.tag_version(name, 1, {tracking.METADATA_TAG: hashlib.sha256(file.read_bytes()).hexdigest()})
    champion.set_champion(name, 1, by="policy")
    decision = judge(make.candidate(tmp_path / "bb", name, data), data, tmp_path / "decision")
    assert decision.outcome == "wait" and "a person has to decide" in decision.reasons[-1]
    assert holder(name) == 1


def test_results_of_another_model_are_not_accepted(data: make.Data, name: str, tmp_path: Path) -> None:
    made = make.candidate(tmp_path / "a", name, data)
    other = make.candidate(tmp_path / "bb", name, data, answer=1)
    with pytest.raises(PromoteError, match=r"not of .* version 1: the SHA-256 differs"):
        judge(dataclasses.replace(made, evaluation=other.evaluation), data, tmp_path / "decision")
    with pytest.raises(PromoteError, match=r"is not .* version 1: the SHA-256 differs"):
        judge(dataclasses.replace(made, model=other.model), data, tmp_path / "decision")
    assert holder(name) is None and not (tmp_path / "decision").exists()


def test_figures_that_contradict_each_other_are_not_accepted(data: make.Data, name: str, tmp_path: Path) -> None:
    made = make.candidate(tmp_path / "a", name, data, right=20, accuracy=0.9)
    with pytest.raises(PromoteError, match=r"says accuracy 0\.900000, predictions\.csv counts 0\.500000"):
        judge(made, data, tmp_path / "decision")


def test_a_champion_that_changed_in_between_stops_the_promotion(
    data: make.Data, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.promote import step

    made = make.candidate(tmp_path / "a", name, data)
    other = make.candidate(tmp_path / "bb", name, data, answer=1)

    def meanwhile(*arguments: object) -> Decision:
        champion.set_champion(name, other.version.number, by="somebody else")
        return decide(*arguments)

    monkeypatch.setattr(step, "decide", meanwhile)
    with pytest.raises(PromoteError, match="changed while this was decided"):
        judge(made, data, tmp_path / "decision")
    assert holder(name) == other.version.number


def test_the_champion_really_runs_on_the_clips(data: make.Data, name: str, tmp_path: Path) -> None:
    from components.promote.evidence import challenger_evidence, champion_evidence

    first = make.candidate(tmp_path / "a", name, data, answer=1)
    second = make.candidate(tmp_path / "bb", name, data, answer=2)
    against = challenger_evidence(second.version, second.model, second.evaluation)
    seen = champion_evidence(first.version, against, second.model, data.spectrograms)
    assert isinstance(seen, Champion)
    truth = data.test_clips.set_index("md5")["category"]
    assert dict(seen.hits) == {md5: truth[md5] == make.CLASSES[1] for md5 in truth.index}


@pytest.mark.slow
def test_in_kubeflow_pipelines_a_condition_follows_the_decision(data: make.Data, name: str, tmp_path: Path) -> None:
    """The component's one return value next to its Markdown output: the local runner skips conditions easily."""
    good = make.candidate(tmp_path / "a", name, data)
    bad = make.candidate(tmp_path / "bb", name, data, right=5, answer=1)
    script = tmp_path / "pipeline.py"
    script.write_text(PIPELINE)
    cases = [
        {
            "registration": str(made.registration),
            "model": str(made.model),
            "evaluation": str(made.evaluation),
            "spectrograms": str(data.spectrograms),
            "settings": vars(POLICY),
            "marks": str(marks),
            "root": str(tmp_path / "root"),
        }
        for made, marks in ((good, tmp_path / "good"), (bad, tmp_path / "bad"))
    ]
    # In a process of its own: kfp.local keeps one setting a process.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), json.dumps(cases)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert [path.name for path in (tmp_path / "good").iterdir()] == ["promoted"]
    assert [path.name for path in (tmp_path / "bad").iterdir()] == ["kept"]
    assert holder(name) == 1
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
    def judged(settings: dict, marks: str):
        given = {
            key: dsl.importer(artifact_uri=case[key], artifact_class=kind, reimport=False).output
            for key, kind in KINDS.items()
        }
        task = promote(**given, settings=settings)
        with dsl.If(task.outputs["Output"] == "promote"):
            mark(folder=marks, name="promoted")
        with dsl.Else():
            mark(folder=marks, name="kept")

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=case["root"])
    judged(settings=case["settings"], marks=case["marks"])

if __name__ == "__main__":
    for case in json.loads(sys.argv[1]):
        judge(case)
"""
