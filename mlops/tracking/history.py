"""The history of a registered model: every change of its champion, in a chain of SHA-256 digests.

Entries are only appended. An edited, missing or second entry is reported by `verify` and left out of `entries`; it does
not raise an error, because it must not stop what is served.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from mlops.provenance import utc_now
from mlops.tracking.connection import TrackingError
from mlops.tracking.history_run import CLAIM, HistoryRun
from mlops.tracking.registry import delete_model_tag, model_tags

Kind = Literal["promote", "approve", "rollback", "external", "reverted", "adopt", "delete"]
MOVES: tuple[Kind, ...] = ("promote", "approve", "rollback", "external", "reverted")  # kinds that move the alias
OUTSIDE = "outside audiocnn"  # who made a change in MLflow itself
OLD_LOG = "champion_log"  # tag of the registered model in which release 0.1.0 kept the moves
COMPARISON = "comparison."  # prefix of the parameters that count comparisons
ATTEMPTS = 20  # against other writers


@validated(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Entry:
    """A change of the registry.

    Attributes:
        number: from 1, without gaps.
        at: time in UTC, ISO 8601.
        kind: what happened; `external` is a change made outside audiocnn, `reverted` its reversal.
        version_from: the champion before; None if there was none.
        version_to: the champion after it, or the version that was adopted or deleted; None if the alias was removed.
        by: `policy`, a user name, or `outside audiocnn`.
        because: the reason, if one was given.
        previous_sha256: digest of the entry before; empty for the first.
    """

    number: int
    at: str
    kind: Kind
    version_from: int | None
    version_to: int | None
    by: str
    because: str
    previous_sha256: str

    @property
    def text(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def file(self) -> str:
        return f"{self.number:06d}-{self.sha256[:8]}.json"


@dataclass(frozen=True)
class _Chain:
    """What was read: the entries that are intact, and what is wrong with the others, a sentence each.

    Attributes:
        last: number of the last entry, also if it is not intact.
        last_sha256: its digest.
        unclaimed: an entry whose writer was interrupted, or the moves of release 0.1.0; the next `append` records them.
    """

    entries: list[Entry]
    findings: list[str]
    last: int = 0
    last_sha256: str = ""
    unclaimed: list[Entry] = field(default_factory=list)


def entries(name: str) -> list[Entry]:
    """Return the intact entries of a model's history, oldest first."""
    chain = _read(name, HistoryRun.find(name))
    return [*chain.entries, *chain.unclaimed]


def verify(name: str) -> list[str]:
    """Return what is wrong with a model's history, one sentence each; nothing if it is intact."""
    return _read(name, HistoryRun.find(name)).findings


def last_move(entries: Sequence[Entry]) -> Entry | None:
    """Return the last entry that says where the alias is; None if there is none."""
    return next((entry for entry in reversed(entries) if entry.kind in MOVES), None)


def append(
    name: str, kind: Kind, *, version_from: int | None, version_to: int | None, by: str, because: str = ""
) -> Entry:
    """Append an entry. Of several writers at once, each gets its own number."""
    run = HistoryRun.find_or_create(name)
    for _ in range(ATTEMPTS):
        chain = _read(name, run)
        if all(_record(run, entry) for entry in chain.unclaimed):
            last = chain.unclaimed[-1] if chain.unclaimed else None
            number, previous = (last.number, last.sha256) if last else (chain.last, chain.last_sha256)
            made = Entry(number + 1, utc_now(), kind, version_from, version_to, by, because.strip(), previous)
            if _record(run, made):
                delete_model_tag(name, OLD_LOG)  # its moves are in the history now
                return made
    raise TrackingError(f"the history of {name!r}: other processes were faster {ATTEMPTS} times in a row; try again")


def record_comparison(name: str, number: int, clips: str) -> None:
    """Count the comparison of a version with a champion on test clips. Of a repeated one only the first counts.

    Args:
        clips: SHA-256 digest of the clips, in hex.
    """
    HistoryRun.find_or_create(name).claim(f"{COMPARISON}{clips}.{number}", utc_now())


def compared_versions(name: str, clips: str) -> frozenset[int]:
    """Return the versions that were compared with a champion on these clips, also those that were deleted since."""
    run = HistoryRun.find(name)
    return frozenset() if run is None else frozenset(map(int, run.params(f"{COMPARISON}{clips}.")))


def _record(run: HistoryRun, entry: Entry) -> bool:
    run.write_file(entry.file, entry.text)
    if run.claim(f"{CLAIM}{entry.number:06d}", entry.sha256):
        return True
    run.delete_file(entry.file)
    return False


def _read(name: str, run: HistoryRun | None) -> _Chain:
    if run is None:
        return _import_old_log(name, _Chain([], []))
    findings = [f"the run {other} has entries too; they are not read" for other in run.others]
    if run.deleted:
        findings.append(f"the run {run.run_id} of the history was deleted in MLflow; the next change restores it")
    claims, files = run.params(CLAIM), run.files()
    chain = _check_chain(claims, files, findings)
    return _import_old_log(name, chain)


def _check_chain(claims: Mapping[str, str], files: Mapping[str, bytes], findings: list[str]) -> _Chain:
    """Check the entries against the digests in the parameters, and against each other."""
    by_number: dict[int, list[str]] = {}
    for file in files:
        if re.fullmatch(r"\d{6}-[0-9a-f]{8}\.json", file):
            by_number.setdefault(int(file[:6]), []).append(file)
        else:
            findings.append(f"the file {file} is not an entry")
    digests = {int(key): value for key, value in claims.items() if key.isdecimal()}
    kept: list[Entry] = []
    previous = ""
    last = max(digests, default=0)
    for number in range(1, last + 1):
        digest = digests.get(number, "")
        names = by_number.pop(number, [])
        intact = [file for file in names if hashlib.sha256(files[file]).hexdigest() == digest]
        entry = _parse(files[intact[0]]) if intact else None
        if entry is None or entry.number != number:
            findings.append(f"entry {number} {'was changed' if names else 'is missing'}")
        else:
            findings += [f"there is a second entry {number}: the file {file}" for file in names if file not in intact]
            if entry.previous_sha256 != previous:
                findings.append(f"entry {number} does not follow entry {number - 1}: the history was forked")
            kept.append(entry)
        previous = digest
    unclaimed: list[Entry] = []
    for number, names in sorted(by_number.items()):
        for file in names:
            entry = _parse(files[file])
            if (
                not unclaimed
                and number == last + 1
                and entry
                and (entry.file, entry.previous_sha256) == (file, previous)
            ):
                unclaimed = [entry]
            else:
                findings.append(f"the file {file} does not belong to the history: no process recorded it")
    return _Chain(kept, findings, last, previous, unclaimed)


def _parse(content: bytes) -> Entry | None:
    try:
        return TypeAdapter(Entry).validate_json(content)
    except ValidationError:
        return None


def _import_old_log(name: str, chain: _Chain) -> _Chain:
    """Add the moves in the tag of release 0.1.0, as far as they have not been recorded."""
    if (log := model_tags(name).get(OLD_LOG)) is None:
        return chain
    imported: list[Entry] = []
    try:
        for move in json.loads(log):
            before = imported[-1] if imported else None
            kind: Kind = "external" if move["by"] == "MLflow" else move["kind"]
            origin, previous = (before.version_to, before.sha256) if before else (None, "")
            imported.append(Entry(len(imported) + 1, move["at"], kind, origin, move["to"], move["by"], "", previous))
    except (ValueError, KeyError, TypeError):
        chain.findings.append(f"the tag {OLD_LOG} of {name!r} is not a list of moves; it is ignored")
        return chain
    known = [*chain.entries, *chain.unclaimed]
    if known == imported[: len(known)]:
        chain.unclaimed.extend(imported[len(known) :])
    else:
        chain.findings.append(f"the tag {OLD_LOG} of {name!r} is ignored: the history was begun without it")
    return chain
