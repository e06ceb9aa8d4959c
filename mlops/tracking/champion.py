"""The alias `champion` of a registered model: how it moves, and where a rollback leads.

The alias is the wanted state: it names the version to serve. Every move is in the history (mlops/tracking/history.py).
"""

import sys
from collections.abc import Sequence

from audiocnn.errors import AudioCNNError
from mlops.artifacts import DecisionRecord
from mlops.tracking import history
from mlops.tracking.connection import TrackingError
from mlops.tracking.history import MOVES, OUTSIDE, Entry, Kind
from mlops.tracking.records import read_records
from mlops.tracking.registry import (
    CHAMPION,
    STATUS_TAG,
    champion_number,
    delete_alias,
    get_version,
    set_alias,
    tag_version,
    verify_files,
)
from mlops.tracking.runs import user
from mlops.tracking.version import Version
from mlops.tracking.version_page import write_page

PREVIOUS = "previous"  # the previous champion, for display only
OVERRIDE = "override_reason"  # tag of a version: why it may be champion although it was refused


class ApprovalError(AudioCNNError):
    """An approval without the required reason, or a rollback without a previous champion."""


def move(name: str, number: int, *, kind: Kind, by: str, because: str = "") -> Entry:
    """Make a version the champion: record it in the history, then move the alias.

    A change of the alias that was made outside audiocnn is recorded first. If the process ends between the entry and
    the alias, a repeated call completes it. Without effect if the version is the champion already.

    Returns:
        The entry of this move.
    """
    current = champion_number(name)
    last = history.last_move(history.entries(name))
    if last is None or not _is_recorded(last, kind, current, number):
        recorded = None if last is None else last.version_to
        if current not in (recorded, number):
            history.append(name, "external", version_from=recorded, version_to=current, by=OUTSIDE)
        origin = recorded if current == number else current
        last = history.append(name, kind, version_from=origin, version_to=number, by=by, because=because)
    _follow_history(name)
    for changed in (last.version_from, last.version_to):
        if changed is not None:
            write_page(name, changed)
    return last


def _is_recorded(last: Entry, kind: Kind, current: int | None, number: int) -> bool:
    """Return whether the last move is that to `number`: completed, or interrupted before the alias had moved."""
    interrupted = (last.kind, last.version_from) == (kind, current)
    return last.version_to == number and (current == number or interrupted)


def _follow_history(name: str) -> None:
    """Set the aliases to what the history says; again, if another process has added an entry in the meantime."""
    done: list[int] = []
    while (champions := champions_of(history.entries(name))) != done:
        if len(champions) > 1:
            set_alias(name, PREVIOUS, champions[-2])
        else:
            delete_alias(name, PREVIOUS)
        set_alias(name, CHAMPION, champions[-1])
        done = champions


def champions_of(entries: Sequence[Entry]) -> list[int]:
    """Return the champion and those that a rollback leads back to, oldest first.

    A move pushes its version; a rollback, or the reversal of a change made outside audiocnn, pops down to it.
    """
    stack: list[int] = []
    for entry in entries:
        if entry.kind not in MOVES or entry.version_to is None:
            continue
        if entry.kind in ("rollback", "reverted") and entry.version_to in stack:
            while stack[-1] != entry.version_to:
                stack.pop()
        elif stack[-1:] != [entry.version_to]:
            stack.append(entry.version_to)
    return stack


def rollback_target(name: str, to: int | None = None) -> Version:
    """Return the version that a rollback leads to; its files are intact.

    If the alias was moved or removed outside audiocnn, that is the last champion of the history. Versions that were
    deleted, are damaged, or were refused and became champion only outside audiocnn are skipped, with a line on stderr.

    Args:
        to: a version that was champion, instead of the previous one.
    Raises:
        ApprovalError: there is no such version.
    """
    current = champion_number(name)
    entries = history.entries(name)
    champions = champions_of(entries)
    if champions and champions[-1] == current:
        champions.pop()
    if to is not None:
        if to == current:
            raise ApprovalError(f"{name} version {to} is the champion already")
        if not any(entry.version_to == to and entry.kind in MOVES for entry in entries):
            raise ApprovalError(
                f'{name} version {to} was never the champion; `audiocnn approve {to} --because "..."` promotes it'
            )
        champions = [to]
    skipped = []
    for number in dict.fromkeys(reversed(champions)):
        if number == current:
            continue
        if not (obstacle := _obstacle(name, number, entries)):
            return get_version(name, number)
        skipped.append(obstacle)
        print(f"[registry] {obstacle}; it is skipped", file=sys.stderr, flush=True)
    if to is not None:
        raise ApprovalError(f"no rollback: {skipped[0]}; choose another version")
    present = "" if current is None else f", so version {current} stays the champion"
    raise ApprovalError(
        f"the model {name!r} has no previous champion in its history{present}; promote a version with "
        '`audiocnn approve VERSION --because "..."`'
    )


def _obstacle(name: str, number: int, entries: Sequence[Entry]) -> str:
    try:
        version = get_version(name, number)
        if refusal(version, entries):
            return f"{version} was refused, and became champion only {OUTSIDE}"
        verify_files(version)
    except TrackingError as error:
        return str(error)
    return ""


def refusal(version: Version, entries: Sequence[Entry]) -> str:
    """Return why a version that was made champion outside audiocnn must not stay it; empty if it may.

    A refused version may if it has a reason in the tag `override_reason`, or was approved before.
    """
    decision = read_records(version).decision
    outcomes = {version.tags.get("decision"), decision.outcome if decision else None}
    approved = any(entry.version_to == version.number and entry.kind in ("promote", "approve") for entry in entries)
    if "refuse" not in outcomes or approved or version.tags.get(OVERRIDE, "").strip():
        return ""
    return f"was refused{_reasons(decision)}, and has no reason in the tag {OVERRIDE}"


def objection(version: Version) -> str:
    """Return why a version must not be approved without a reason; empty if it may."""
    record = read_records(version).decision
    decision = record.outcome if record else version.tags.get("decision", "")  # who may edit tags may not write records
    found = {"refuse": "was refused", "keep": "was not found to be better than the champion"}
    if decision in found:
        return f"{found[decision]}{_reasons(record)}"
    if not decision:
        return "was not evaluated by the step promote"
    if record is None:
        return "has no readable record of its decision"
    if (present := champion_number(version.name)) not in (record.champion, version.number):
        return f"was compared with champion {record.champion or 'none'}, but the champion is now {present or 'none'}"
    return ""


def _reasons(decision: DecisionRecord | None) -> str:
    """Return the reasons of a decision in parentheses; empty if they are not known."""
    return "" if decision is None else f" ({'; '.join(decision.reasons)})"


def require_reason(version: Version, because: str) -> str:
    """Return the objection to the approval of a version; empty if there is none.

    Raises:
        ApprovalError: there is an objection, and no reason is given to overrule it.
    """
    found = objection(version)
    if found and not because.strip():
        raise ApprovalError(
            f"{version} {found}; run the step promote, or overrule the decision with a reason: "
            f'`audiocnn approve {version.number} --because "..."`'
        )
    return found


def approve(name: str, number: int, because: str = "") -> Version:
    """Make a version champion whose promotion waits for approval.

    Args:
        because: a reason to overrule the decision; it is recorded.
    Raises:
        ApprovalError: no reason is given, and the version was refused, not evaluated, or compared with another champion
            than the present one.
    """
    found = require_reason(get_version(name, number), because)
    if found:
        tag_version(name, number, {OVERRIDE: because.strip()})
    move(name, number, kind="approve", by=user(), because=because)
    tag_version(name, number, {STATUS_TAG: "approved"})
    return get_version(name, number)


def rollback(name: str, to: int | None = None) -> Version:
    """Make the previous champion, or the former champion `to`, the champion again and return it.

    Each call goes one step further back. The status of the version that it replaces becomes `rejected`.

    Raises:
        ApprovalError: the history has no former champion whose files are intact.
    """
    target = rollback_target(name, to)
    restore(target)
    return target


def restore(target: Version) -> None:
    """Make a version that `rollback_target` returned the champion again, as `rollback` does."""
    replaced = champion_number(target.name)
    if replaced is not None:  # before the move, or `audiocnn reconcile` would take it for a new approval
        tag_version(target.name, replaced, {STATUS_TAG: "rejected"})
    move(target.name, target.number, kind="rollback", by=user())
    tag_version(target.name, target.number, {STATUS_TAG: "approved"})


def move_back(version: Version, to: int | None, because: str) -> None:
    """Move the alias from a version back to the champion before it, or remove it if there was none."""
    tag_version(version.name, version.number, {STATUS_TAG: "rejected"})
    if to is not None:
        move(version.name, to, kind="reverted", by=user(), because=because)
        return
    history.append(version.name, "reverted", version_from=version.number, version_to=None, by=user(), because=because)
    delete_alias(version.name, CHAMPION)
    write_page(version.name, version.number)
