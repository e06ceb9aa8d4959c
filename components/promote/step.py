"""The work of the step promote."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audiocnn.atomic import atomic_folder, check_output
from components.promote.evidence import PromoteError, challenger_evidence, champion_evidence
from components.promote.policy import Decision, decide
from components.promote.settings import PromoteSettings
from mlops import tracking
from mlops.runtime import sigterm_as_exit
from mlops.tracking import champion

MARKER = "decision.json"  # what shows that a folder is an output of this step
SENTENCES = {
    "promote": "becomes the champion",
    "refuse": "is refused; the champion stays",
    "wait": 'waits for a person: `audiocnn approve {number} --because "..."`',
}


@sigterm_as_exit()
def promote(
    registration: Path, model: Path, evaluation: Path, spectrograms: Path, settings: PromoteSettings, output: Path
) -> Decision:
    """Decide whether the registered version becomes the champion, record why, and move the alias if so.

    Writes decision.json and decision.md to `output`, which appears whole or not at all; the same stands in the
    version's MLflow run and in its tags. A version that is refused or waits leaves the champion alone.

    Raises:
        PromoteError: the folders are not those of the registered version.
        ModelError, DatasetError, TrackingError, OutputError: see there.
    """
    check_output(output, MARKER, [registration, model, evaluation, spectrograms])
    version = _registered(registration)
    challenger = challenger_evidence(version, model, evaluation)
    holder = tracking.version_by_alias(version.name, champion.CHAMPION)
    rival = None if holder is None else champion_evidence(holder, challenger, model, spectrograms)
    decision = decide(challenger, rival, settings)
    record = _record(version, decision, settings)
    print(f"[promote] {version.name} version {version.number} {_sentence(record)}", flush=True)
    for reason in decision.reasons:
        print(f"[promote]   {reason}", flush=True)
    with atomic_folder(output, MARKER) as part:
        (part / MARKER).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (part / "decision.md").write_text(_page(record), encoding="utf-8")
        _tell(version, decision, record, part)
        if decision.outcome == "promote":
            _same_champion(version.name, decision)
            champion.crown(version.name, version.number, by="policy")
    return decision


def _same_champion(name: str, decision: Decision) -> None:
    holder = tracking.version_by_alias(name, champion.CHAMPION)
    if (None if holder is None else holder.number) != decision.champion:
        raise PromoteError(f"the champion of {name!r} changed while this was decided; run the step promote again")


def _registered(registration: Path) -> tracking.Version:
    path = registration / "version.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        name, number = str(record["name"]), int(record["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PromoteError(f"{path}: names no registered version ({error}); run the step register") from error
    return tracking.get_version(name, number)


def _record(version: tracking.Version, decision: Decision, settings: PromoteSettings) -> dict[str, Any]:
    return {
        "promote": decision.outcome == "promote",
        "outcome": decision.outcome,
        "reasons": list(decision.reasons),
        "name": version.name,
        "challenger": decision.challenger,
        "champion": decision.champion,
        "paired": None if decision.paired is None else asdict(decision.paired),
        "policy": settings.to_dict(),
        "decided_at": champion.now(),
    }


def _sentence(record: Mapping[str, Any]) -> str:
    return SENTENCES[record["outcome"]].format(number=record["challenger"])


def _page(record: dict[str, Any]) -> str:
    """The decision as Markdown, for the Kubeflow and MLflow pages."""
    against = "no champion" if record["champion"] is None else f"champion: version {record['champion']}"
    reasons = "\n".join(f"- {reason}" for reason in record["reasons"])
    policy = "\n".join(f"| {key} | {value} |" for key, value in record["policy"].items())
    return (
        f"# {record['name']} version {record['challenger']} {_sentence(record)}\n\n"
        f"Decided {record['decided_at']}; {against}.\n\n{reasons}\n\n| policy | |\n| --- | --- |\n{policy}\n"
    )


def _tell(version: tracking.Version, decision: Decision, record: dict[str, Any], folder: Path) -> None:
    """Leave the decision where people look: at the version and in the run that trained it."""
    tags = {
        "decision": decision.outcome,
        "decision_at": record["decided_at"],
        "decision_champion": "none" if decision.champion is None else str(decision.champion),
        "decision_reasons": "; ".join(decision.reasons),
    }
    tracking.tag_version(version.name, version.number, tags)
    run = tracking.resume_run(version.run_id)
    run.tags(tags)
    run.file(folder, "decision")
