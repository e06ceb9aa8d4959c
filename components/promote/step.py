"""The step promote: decide whether the challenger becomes the champion."""

from dataclasses import asdict
from pathlib import Path

from components.promote.evidence import PromoteError, challenger_evidence, champion_evidence
from components.promote.policy import Decision, decide
from components.promote.settings import PromoteSettings
from mlops import tracking
from mlops.artifacts import DecisionFolder, DecisionRecord, RegistrationFolder
from mlops.provenance import utc_now
from mlops.runtime import sigterm_as_exit
from mlops.tracking import champion

RESULTS = {
    "promote": "becomes the champion",
    "refuse": "is refused; the champion stays",
    "wait": 'waits for an approval: `audiocnn approve {number} --because "..."`',
}


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
    champion_version = tracking.version_by_alias(version.name, champion.CHAMPION)
    champion_result = (
        None if champion_version is None else champion_evidence(champion_version, challenger, model, spectrograms)
    )
    decision = decide(challenger, champion_result, settings)
    record = _record(decision, version.name, settings)
    with DecisionFolder.create(output) as folder:
        folder.write(record, _page(record))
        if record.outcome == "promote":
            # Before the decision is printed or recorded in MLflow: neither may report a promotion that failed.
            _check_champion_unchanged(record)
            champion.set_champion(version.name, version.number, by="policy")
        print(f"[promote] {_result(record)}", flush=True)
        for reason in record.reasons:
            print(f"[promote]   {reason}", flush=True)
        _record_in_mlflow(version, record, folder)
    return decision


def _record(decision: Decision, name: str, settings: PromoteSettings) -> DecisionRecord:
    return DecisionRecord(
        outcome=decision.outcome,
        reasons=decision.reasons,
        name=name,
        challenger=decision.challenger,
        champion=decision.champion,
        paired=None if decision.paired is None else asdict(decision.paired),
        policy=settings.to_dict(),
        decided_at=utc_now(),
    )


def _check_champion_unchanged(record: DecisionRecord) -> None:
    holder = tracking.version_by_alias(record.name, champion.CHAMPION)
    if (None if holder is None else holder.number) != record.champion:
        raise PromoteError(f"the champion of {record.name!r} changed during the decision; run the step promote again")


def _result(record: DecisionRecord) -> str:
    return f"{record.name} version {record.challenger} {RESULTS[record.outcome].format(number=record.challenger)}"


def _page(record: DecisionRecord) -> str:
    """Return the decision as Markdown, for the pages of Kubeflow and MLflow."""
    against = "no champion" if record.champion is None else f"champion: version {record.champion}"
    reasons = "\n".join(f"- {reason}" for reason in record.reasons)
    policy = "\n".join(f"| {key} | {value} |" for key, value in record.policy.items())
    return (
        f"# {_result(record)}\n\nDecided {record.decided_at}; {against}.\n\n{reasons}\n\n"
        f"| policy | |\n| --- | --- |\n{policy}\n"
    )


def _record_in_mlflow(version: tracking.Version, record: DecisionRecord, folder: DecisionFolder) -> None:
    tags = {
        "decision": record.outcome,
        "decision_at": record.decided_at,
        "decision_champion": "none" if record.champion is None else str(record.champion),
        "decision_reasons": "; ".join(record.reasons),
    }
    tracking.tag_version(version.name, version.number, tags)
    run = tracking.resume_run(version.run_id)
    run.set_tags(tags)
    run.log_file(folder.path, "decision")
