"""Changes that people make in MLflow's pages: the alias `champion` moved, or a version approved with a tag.

MLflow stores neither the time nor the user of them, so the history says `outside audiocnn`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mlops.tracking import champion, history
from mlops.tracking.history import MOVES, Entry
from mlops.tracking.manifest import DamagedVersionError
from mlops.tracking.registry import (
    CHAMPION,
    STATUS_TAG,
    tag_version,
    verify_files,
    version_by_alias,
    versions_with_tag,
)
from mlops.tracking.version import Version
from mlops.tracking.version_page import write_page

UNDER_WAY = 10.0  # s in which another process may be between its entry in the history and the alias


@dataclass(frozen=True)
class AliasMove:
    """The alias `champion` is not where audiocnn has put it.

    Attributes:
        before: the champion before; None if there was none.
        version: the version that has the alias now; None if the alias was removed.
        is_recorded: the history has this move already.
    """

    name: str
    before: int | None
    version: Version | None
    entries: Sequence[Entry]
    is_recorded: bool

    def record(self) -> None:
        """Append the move to the history, unless it has it."""
        if not self.is_recorded:
            to = None if self.version is None else self.version.number
            by = history.OUTSIDE
            history.append(self.name, "external", version_from=self.before, version_to=to, by=by)

    def objection(self) -> str:
        """Return why the move must not stand: the version was refused, or its files are damaged; empty if it may."""
        if self.version is None:
            return ""
        if found := champion.refusal(self.version, self.entries):
            return f"{self.version} {found}"
        if not self.is_recorded:
            try:
                verify_files(self.version)
            except DamagedVersionError as error:
                return str(error)
        return ""

    def accept(self) -> None:
        """Record the move, and the version as approved."""
        if self.is_recorded:
            return
        self.record()
        if self.version is not None:
            tag_version(self.name, self.version.number, {STATUS_TAG: "approved"})
        for number in (self.before, None if self.version is None else self.version.number):
            if number is not None:
                write_page(self.name, number)

    def revert(self, because: str) -> None:
        """Record the move, and move the alias back."""
        assert self.version is not None
        self.record()
        champion.move_back(self.version, self.before, because)


def find_alias_move(name: str) -> AliasMove | None:
    """Return the last move of the alias that was made outside audiocnn, if the alias is still there."""
    version, entries = version_by_alias(name, CHAMPION), history.entries(name)
    last = history.last_move(entries)
    number, recorded = (None if version is None else version.number), (None if last is None else last.version_to)
    if number != recorded:
        if last is not None and _is_under_way(last, number):
            return None
        return AliasMove(name, recorded, version, entries, is_recorded=False)
    if last is not None and last.kind == "external":
        return AliasMove(name, last.version_from, version, entries, is_recorded=True)
    return None


def newly_approved(name: str) -> list[Version]:
    """Return the versions that were approved with the tag `validation_status` and have not been champion, by number."""
    handled: set[int] = set()
    for entry in history.entries(name):
        if entry.kind in ("rollback", "reverted") and entry.version_from is not None:
            handled.discard(entry.version_from)  # its status became `rejected`, so `approved` is a new approval
        if entry.kind in MOVES and entry.version_to is not None:
            handled.add(entry.version_to)
    approved = versions_with_tag(name, STATUS_TAG, "approved")
    return sorted((version for version in approved if version.number not in handled), key=lambda found: found.number)


def _is_under_way(last: Entry, champion: int | None) -> bool:
    """Return whether another process may be about to move the alias, which it does after it has written the entry."""
    age = (datetime.now(UTC) - datetime.fromisoformat(last.at)).total_seconds()
    return last.kind != "external" and last.version_from == champion and age < UNDER_WAY
