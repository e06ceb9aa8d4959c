"""The records of a version that are too long for tags: artifacts of its MLflow run, in the folder `versions/NAME-N`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from audiocnn.strict_model import StrictModel
from mlops.artifacts import ArtifactError, DecisionFolder, DecisionRecord, Registration
from mlops.artifacts.base_folder import json_text, parse_record, read_json
from mlops.tracking.connection import connect
from mlops.tracking.runs import resume_run
from mlops.tracking.version import Version

REGISTRATION = "registration.json"
CARD = "card.md"

Record = TypeVar("Record", bound=StrictModel)


@dataclass(frozen=True)
class Records:
    """The records of a version; None or empty if one was never written, was deleted, or cannot be read.

    Attributes:
        card: the model card in Markdown.
    """

    registration: Registration | None = None
    decision: DecisionRecord | None = None
    card: str = ""


def records_folder(version: Version) -> str:
    return f"versions/{version.name}-{version.number}"


def write_registration(version: Version, registration: Registration, card: str) -> None:
    run, folder = resume_run(version.run_id), records_folder(version)
    run.log_text(json_text(registration.to_dict()), f"{folder}/{REGISTRATION}")
    run.log_text(card, f"{folder}/{CARD}")


def write_decision(version: Version, decision: DecisionFolder) -> None:
    resume_run(version.run_id).log_file(decision.path, records_folder(version))


def read_records(version: Version) -> Records:
    """Return the records of a version."""
    connection = connect()
    client, folder = connection.client, records_folder(version)
    if not connection.find(client.list_artifacts, version.run_id, folder):
        return Records()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(connection.call(client.download_artifacts, version.run_id, folder, scratch))
        card = path / CARD
        return Records(
            registration=_read(path / REGISTRATION, Registration),
            decision=_read(path / DecisionFolder.marker, DecisionRecord),
            card=card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
        )


def _read(path: Path, kind: type[Record]) -> Record | None:
    try:
        return parse_record(read_json(path, "register"), kind, str(path), "register")
    except ArtifactError:
        return None
