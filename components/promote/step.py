"""The step promote: decide whether the challenger becomes the champion."""

from dataclasses import asdict
from pathlib import Path

from components.promote import comparison
from components.promote.evidence import PromoteError, challenger_evidence, champion_evidence, clips_digest
from components.promote.page import render, result
from components.promote.policy import Decision, decide
from components.promote.settings import PromoteSettings
from mlops import tracking
from mlops.artifacts import DecisionFolder, DecisionRecord, EvaluationFolder, Outcome, RegistrationFolder
from mlops.provenance import utc_now
from mlops.runtime import sigterm_as_exit
from mlops.tracking import champion, history

STATUS: dict[Outcome, str] = {"promote": "approved", "wait": "pending", "keep": "rejected", "refuse": "rejected"}


@sigterm_as_exit()
def promote(
    registration: Path, model: Path, evaluation: Path, spectrograms: Path, settings: PromoteSettings, output: Path
) -> Decision:
    """Decide whether the registered version becomes the champion, record the reasons, and move the alias if it does.

    The decision is also recorded in the tags of the version and in its MLflow run. `output` appears complete or not at
    all.
    """
    DecisionFolder.check_output(output, [registration, model, evaluation, spectrograms])
    registered = RegistrationFolder(registration).record()
    version = tracking.get_version(registered.name, registered.version)
    challenger = challenger_evidence(version, model, evaluation)
    champion_version = tracking.version_by_alias(version.name, tracking.CHAMPION)
    current, models, clips, prior_comparisons = None, None, "", 0
    if champion_version is not None:
        current, models = champion_evidence(champion_version, challenger, model, evaluation, spectrograms)
        clips = clips_digest(challenger, current)
        prior_comparisons = len(history.compared_versions(version.name, clips) - {version.number})
    decision = decide(challenger, current, settings, prior_comparisons)
    record = _record(decision, version.name, settings)
    with DecisionFolder.create(output) as folder:
        folder.write(record, render(record))
        page = comparison.render(record, models, EvaluationFolder(evaluation).metrics().confidence)
        folder.comparison.write_text(page, encoding="utf-8")
        if record.outcome == "promote":
            tracking.verify_files(version)
            # Before the decision is printed or recorded in MLflow: neither may report a promotion that failed.
            _check_champion_unchanged(record)
            champion.move(version.name, version.number, kind="promote", by="policy")
        print(f"[promote] {result(record)}", flush=True)
        for reason in record.reasons:
            print(f"[promote]   {reason}", flush=True)
        _record_in_mlflow(version, record, clips, folder)
    return decision


def _record(decision: Decision, name: str, settings: PromoteSettings) -> DecisionRecord:
    return DecisionRecord(
        outcome=decision.outcome,
        reasons=decision.reasons,
        name=name,
        challenger=decision.challenger,
        champion=decision.champion,
        comparison=None if decision.comparison is None else asdict(decision.comparison),
        policy=settings.to_dict(),
        decided_at=utc_now(),
    )


def _check_champion_unchanged(record: DecisionRecord) -> None:
    if tracking.champion_number(record.name) != record.champion:
        raise PromoteError(f"the champion of {record.name!r} changed during the decision; run the step promote again")


def _record_in_mlflow(version: tracking.Version, record: DecisionRecord, clips: str, folder: DecisionFolder) -> None:
    tracking.write_decision(version, folder)
    tags = {"decision": record.outcome, tracking.STATUS_TAG: STATUS[record.outcome]}
    if record.comparison is not None:
        history.record_comparison(version.name, version.number, clips)
    tracking.tag_version(version.name, version.number, tags)
    tracking.resume_run(version.run_id).set_tags({"decision": record.outcome})
    tracking.write_page(version.name, version.number)
