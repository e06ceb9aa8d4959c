"""The step promote on a real registry: promotion, records, approval and rollback."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from helpers import registry as make
from helpers.project import read_json

from components.promote.evidence import PromoteError
from components.promote.policy import Decision, decide
from components.promote.settings import PromoteSettings
from components.promote.step import promote
from components.register.step import register
from mlops import tracking
from mlops.artifacts import DecisionFolder, ModelFolder
from mlops.register_settings import RegisterSettings
from mlops.tracking import champion, history

POLICY = make.POLICY


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> make.Data:
    return make.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Return a different model name for each test."""
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
    record = DecisionFolder(tmp_path / "decision").record()
    assert record.outcome == "promote" and record.champion is None
    assert record.challenger == 1 and record.policy["min_accuracy"] == 0.6
    kept = tracking.get_version(name, 1)
    assert (kept.tags["decision"], kept.tags["validation_status"]) == ("promote", "approved")
    assert tracking.read_records(kept).decision == record
    client = tracking.connect().client
    assert client.get_run(kept.run_id).data.tags["decision"] == "promote"
    folder = f"versions/{name}-1"
    logged = {item.path.removeprefix(f"{folder}/") for item in client.list_artifacts(kept.run_id, folder)}
    assert logged == {"registration.json", "card.md", "decision.json", "decision.md", "comparison.html"}
    description = client.get_model_version(name, "1").description
    assert description.startswith("Champion, promoted by the policy") and "there is no champion yet" in description
    assert "The models were not compared" in DecisionFolder(tmp_path / "decision").comparison.read_text()
    (entry,) = history.entries(name)
    assert (entry.kind, entry.version_from, entry.version_to, entry.by) == ("promote", None, 1, "policy")


def test_only_a_better_model_replaces_the_champion(data: make.Data, name: str, tmp_path: Path) -> None:
    # The champion always predicts "dog", which is correct for 13 or 14 of the 40 test clips.
    judge(make.candidate(tmp_path / "a", name, data, answer=0), data, tmp_path / "first")
    dogs = int((data.test_clips["category"] == "dog").sum())
    floor = POLICY.replace(min_accuracy=0.0, max_class_drop=1.0)
    worse = make.candidate(tmp_path / "bb", name, data, correct=dogs - 1, answer=1)
    decision = judge(worse, data, tmp_path / "second", floor)
    assert decision.outcome == "refuse" and decision.comparison is not None and decision.comparison.clips == 40
    assert decision.comparison.difference == pytest.approx(-1 / 40)
    assert holder(name) == 1 and len(history.entries(name)) == 1
    run = tracking.connect().client.get_run(worse.version.run_id)
    assert run.data.tags["decision"] == "refuse"
    assert "-2.5 points" in str(tracking.read_records(worse.version).decision)
    page = DecisionFolder(tmp_path / "second").page.read_text()
    assert "is refused; the champion stays" in page
    side_by_side = DecisionFolder(tmp_path / "second").comparison.read_text()
    assert "On 40 clips of 40 recordings" in side_by_side and "comparison.html" in page
    assert f">{100 * dogs / 40:.1f} %<" in side_by_side and f">{100 * (dogs - 1) / 40:.1f} %<" in side_by_side

    as_good = make.candidate(tmp_path / "ccc", name, data, correct=dogs, answer=2)
    assert judge(as_good, data, tmp_path / "third", floor.replace(margin=1.0)).outcome == "keep" and holder(name) == 1
    with pytest.raises(champion.ApprovalError, match="was not found to be better than the champion"):
        champion.approve(name, 3)

    tracking.connect().client.delete_model_version(name, "2")  # its comparison still counts
    better = make.candidate(tmp_path / "dddd", name, data, correct=40, answer=2)
    decision = judge(better, data, tmp_path / "fourth", floor)
    assert decision.outcome == "promote" and holder(name) == 4
    assert decision.comparison is not None and decision.comparison.prior_comparisons == 2
    recorded = tracking.read_records(tracking.get_version(name, 4)).decision
    assert recorded is not None and recorded.reasons == decision.reasons


def test_repeating_a_decision_changes_nothing(data: make.Data, name: str, tmp_path: Path) -> None:
    judge(make.candidate(tmp_path / "a", name, data, answer=0), data, tmp_path / "first")
    second = make.candidate(tmp_path / "bb", name, data, correct=20, answer=1)
    decisions = [judge(second, data, tmp_path / output) for output in ("second", "again")]
    assert decisions[0] == decisions[1] and decisions[0].comparison is not None
    other_clips = make.candidate(tmp_path / "ccc", name, data, answer=2, trained_on=list(data.test_clips["md5"][:5]))
    fewer = judge(other_clips, data, tmp_path / "third").comparison
    assert fewer is not None and (fewer.clips, fewer.prior_comparisons) == (35, 0)


def test_the_same_weights_change_nothing(data: make.Data, name: str, tmp_path: Path) -> None:
    judge(make.candidate(tmp_path / "a", name, data), data, tmp_path / "first")
    folder = tmp_path / "again"
    model = make.write_model(folder / "model", data, seed=0)
    weights = ModelFolder(tmp_path / "a" / "model")
    run = ModelFolder(model).run()
    shutil.copytree(weights.path, folder / "same")
    (folder / "same" / "run.json").write_text(run.model_dump_json())
    evaluation = make.write_evaluation(folder / "evaluation", folder / "same", data, correct=30)
    version = register(folder / "same", evaluation, data.dataset, RegisterSettings(name=name), folder / "registration")
    decision = judge(make.Candidate(version, folder / "registration", folder / "same", evaluation), data, folder / "d")
    assert (decision.challenger, decision.outcome, holder(name)) == (2, "keep", 1)
    assert decision.reasons == ("it has the same weights as the champion (version 1)",)
    clips = history.HistoryRun.find_or_create(name).params(history.COMPARISON)
    assert clips == {}, "it does not count as a comparison"


def test_training_clips_of_the_champion_are_excluded(data: make.Data, name: str, tmp_path: Path) -> None:
    trained_on = list(data.test_clips["md5"][:15])
    judge(make.candidate(tmp_path / "a", name, data, trained_on=trained_on), data, tmp_path / "first")
    challenger = make.candidate(tmp_path / "bb", name, data, answer=1)
    decision = judge(challenger, data, tmp_path / "second")
    assert decision.comparison is not None and decision.comparison.clips == 25
    stricter = POLICY.replace(min_paired_clips=26)
    again = make.candidate(tmp_path / "ccc", name, data, answer=2)
    tracking.set_alias(name, "champion", 1)
    assert judge(again, data, tmp_path / "third", stricter).outcome == "wait" and holder(name) == 1


def test_a_waiting_version_can_be_approved(data: make.Data, name: str, tmp_path: Path) -> None:
    asked = POLICY.replace(approval="person")
    assert judge(make.candidate(tmp_path / "a", name, data), data, tmp_path / "decision", asked).outcome == "wait"
    assert holder(name) is None and DecisionFolder(tmp_path / "decision").record().outcome == "wait"
    page = DecisionFolder(tmp_path / "decision").page.read_text()
    assert page.startswith(f"# {name} version 1 waits for approval\n") and "`audiocnn approve 1`\n" in page
    champion.approve(name, 1)
    assert holder(name) == 1 and history.entries(name)[-1].by == tracking.user()


def test_the_champion_stays_champion_without_a_move(data: make.Data, name: str, tmp_path: Path) -> None:
    made = make.candidate(tmp_path / "a", name, data)
    judge(made, data, tmp_path / "first")
    decision = judge(made, data, tmp_path / "second")
    assert decision.outcome == "promote" and "already" in decision.reasons[-1]
    assert len(history.entries(name)) == 1


OBSTACLES = {
    "classes": "has other classes",
    "front end": "has another front end",
    "another release": "cannot be loaded: model.json: ",
    "damaged": "is damaged: NAME version 1: the file model.safetensors was changed",
    "no manifest": "is damaged: NAME version 1 has no manifest",
    "missing": "cannot be loaded: the files of ",
}


@pytest.mark.parametrize("other", OBSTACLES)
def test_an_incomparable_champion_needs_an_approval(other: str, data: make.Data, name: str, tmp_path: Path) -> None:
    classes = (*make.CLASSES, "siren") if other == "classes" else make.CLASSES
    front_end = make.SETTINGS.replace(hop=64) if other == "front end" else make.SETTINGS
    model = make.write_model(tmp_path / "old", data, classes=classes, settings=front_end)
    if other == "another release":
        metadata = read_json(model / "model.json")
        (model / "model.json").write_text(json.dumps(metadata | {"front_end": 0}))
    tracking.connect().client.create_registered_model(name)
    version = make.bare_version(name, model, ModelFolder(model).run().run_id, with_manifest=other != "no manifest")
    stored = make.stored_files(version)
    if other == "missing":
        shutil.rmtree(stored)
    if other == "damaged":
        weights = stored / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    champion.move(name, 1, kind="promote", by="policy")
    decision = judge(make.candidate(tmp_path / "bb", name, data), data, tmp_path / "decision")
    assert decision.outcome == "wait" and holder(name) == 1
    assert decision.reasons[0].startswith(f"the champion (version 1) {OBSTACLES[other].replace('NAME', name)}"), (
        decision.reasons
    )
    assert str(tmp_path) not in decision.reasons[0] or other == "missing"


def test_results_of_another_model_are_refused(data: make.Data, name: str, tmp_path: Path) -> None:
    made = make.candidate(tmp_path / "a", name, data)
    other = make.candidate(tmp_path / "bb", name, data, answer=1)
    with pytest.raises(PromoteError, match=r"evaluation does not belong to .* version 1 \(SHA-256 differs\)"):
        judge(dataclasses.replace(made, evaluation=other.evaluation), data, tmp_path / "decision")
    with pytest.raises(PromoteError, match=r"model does not belong to .* version 1 \(SHA-256 differs\)"):
        judge(dataclasses.replace(made, model=other.model), data, tmp_path / "decision")
    assert holder(name) is None and not (tmp_path / "decision").exists()


def test_contradicting_metrics_and_predictions_are_refused(data: make.Data, name: str, tmp_path: Path) -> None:
    made = make.candidate(tmp_path / "a", name, data, correct=20, accuracy=0.9)
    with pytest.raises(PromoteError, match=r"0\.900000 in metrics\.json but 0\.500000 in predictions\.csv"):
        judge(made, data, tmp_path / "decision")


def test_a_concurrent_change_of_the_champion_stops_the_promotion(
    data: make.Data, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.promote import step

    made = make.candidate(tmp_path / "a", name, data)
    other = make.candidate(tmp_path / "bb", name, data, answer=1)

    def meanwhile(*arguments: object) -> Decision:
        champion.move(name, other.version.number, kind="promote", by="another user")
        return decide(*arguments)

    monkeypatch.setattr(step, "decide", meanwhile)
    with pytest.raises(PromoteError, match="changed during the decision"):
        judge(made, data, tmp_path / "decision")
    assert holder(name) == other.version.number
    assert "decision" not in tracking.get_version(name, made.version.number).tags


def test_the_champion_classifies_the_challenger_s_clips(data: make.Data, name: str, tmp_path: Path) -> None:
    from components.promote.evidence import challenger_evidence, champion_evidence

    first = make.candidate(tmp_path / "a", name, data, answer=1)
    second = make.candidate(tmp_path / "bb", name, data, answer=2)
    against = challenger_evidence(second.version, second.model, second.evaluation)
    seen, models = champion_evidence(first.version, against, second.model, second.evaluation, data.spectrograms)
    assert seen.obstacles == () and seen.weights_sha256 == tracking.recorded_weights(first.version)
    truth = data.test_clips.set_index("md5")["category"]
    assert dict(seen.correct) == {md5: truth[md5] == make.CLASSES[1] for md5 in truth.index}
    assert models is not None
    for measured, correct in zip(models, (against.clips, seen.correct), strict=True):
        assert set(measured.predictions.table["md5"]) == correct.keys()
        assert measured.megabytes > 0 and measured.latency_ms > 0
