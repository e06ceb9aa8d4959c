"""The alias `champion` of a registered model: who moved it, when, and how to move it back.

Every move is appended to a log in a tag of the registered model. A rollback follows the log, not the alias `previous`.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from audiocnn.errors import AudioCNNError
from mlops.provenance import utc_now
from mlops.tracking.registry import (
    Version,
    delete_alias,
    get_version,
    model_tags,
    set_alias,
    tag_model,
    tag_version,
    version_by_alias,
)
from mlops.tracking.runs import resume_run, user

CHAMPION = "champion"
PREVIOUS = "previous"  # the previous champion, for display only
LOG = "champion_log"  # tag of the registered model: JSON list of moves, oldest first
REASONS = "decision_reasons"  # tag of a version: the reasons of the decision on it, one on each line
LOG_LENGTH = 40  # moves; MLflow stores up to 5,000 characters


class ApprovalError(AudioCNNError):
    """An approval without the required reason, or a rollback without a previous champion."""


@dataclass(frozen=True)
class Move:
    """A move of the alias.

    Attributes:
        at: time in UTC, ISO 8601.
        kind: `promote` or `rollback`.
        to: the version that became champion.
        by: `policy` or a user name.
    """

    at: str
    kind: Literal["promote", "rollback"]
    to: int
    by: str


def set_champion(name: str, number: int, by: str) -> None:
    """Make a version the champion, and log the move. Without effect if it is the champion already."""
    current = version_by_alias(name, CHAMPION)
    if current is not None and current.number == number:
        return
    moves = history(name)
    logged = _champions(moves)[-1:]
    before = _champions(moves[:-1])[-1:]
    # An earlier call may have been interrupted between the log and the alias; then only the alias has to move.
    interrupted = logged == [number] and (current is None or before == [current.number])
    if not interrupted:
        if current is not None and logged != [current.number]:
            # The alias was moved in MLflow itself; a rollback has to lead back to that version.
            moves.append(Move(utc_now(), "promote", current.number, "MLflow"))
        moves.append(Move(utc_now(), "promote", number, by))
    _write(name, moves)


def approve(name: str, number: int, because: str = "", by: str | None = None) -> Version:
    """Make a version champion whose promotion waits for approval.

    Args:
        because: a reason to overrule the decision; it is recorded.
        by: user name, by default the current user.
    Raises:
        ApprovalError: no reason is given, and the version was refused, not evaluated, or compared with another champion
            than the present one.
    """
    version = get_version(name, number)
    objection = _objection(version, version_by_alias(name, CHAMPION))
    if objection and not because.strip():
        raise ApprovalError(
            f"{name} version {number} {objection}; run the step promote, or overrule the decision with a reason: "
            f'`audiocnn approve {number} --because "..."`'
        )
    by = by or user()
    record = {"approved_at": utc_now(), "approved_by": by, "approved_because": because.strip() or "it was waiting"}
    tag_version(name, number, record)
    resume_run(version.run_id).set_tags({**record, "promoted_version": f"{name} {number}"})
    set_champion(name, number, by)
    return get_version(name, number)


def rollback(name: str, by: str | None = None) -> Version:
    """Make the previous champion the champion again and return it. Each call goes one step further back.

    If the alias was moved or removed in MLflow itself, the last champion of the log is restored.

    Raises:
        ApprovalError: the log has no previous champion.
    """
    by = by or user()
    current = version_by_alias(name, CHAMPION)
    moves = history(name)
    champions = _champions(moves)
    if current is not None and champions[-1:] == [current.number]:
        champions.pop()
    if not champions:
        present = "" if current is None else f", so version {current.number} stays the champion"
        raise ApprovalError(
            f"the model {name!r} has no previous champion in its log{present}; promote a version with "
            '`audiocnn approve VERSION --because "..."`'
        )
    target = get_version(name, champions[-1])
    if current is not None:
        record = {"rolled_back_at": utc_now(), "rolled_back_by": by, "rolled_back_to": str(target.number)}
        tag_version(name, current.number, record)
        resume_run(current.run_id).set_tags(record)
    _write(name, [*moves, Move(utc_now(), "rollback", target.number, by)])
    return target


def decision_reasons(version: Version) -> list[str]:
    """Return the reasons of the decision on a version; none without a decision."""
    return version.tags.get(REASONS, "").splitlines()


def history(name: str) -> list[Move]:
    """Return the logged moves of the alias, oldest first."""
    return [Move(**entry) for entry in json.loads(model_tags(name).get(LOG, "[]"))]


def _write(name: str, moves: list[Move]) -> None:
    """Write the log, then the aliases: if the process ends in between, the next call of `set_champion` completes it."""
    champions = _champions(moves)
    log = json.dumps([asdict(move) for move in moves[-LOG_LENGTH:]], separators=(",", ":"))
    tag_model(name, {LOG: log})
    if len(champions) > 1:
        set_alias(name, PREVIOUS, champions[-2])
    else:
        delete_alias(name, PREVIOUS)
    set_alias(name, CHAMPION, champions[-1])


def _champions(moves: list[Move]) -> list[int]:
    """Return the stack of champions, current one last: a promotion pushes, a rollback pops down to its target."""
    stack: list[int] = []
    for move in moves:
        if move.kind == "rollback":
            while stack and stack[-1] != move.to:
                stack.pop()
            stack = stack or [move.to]  # the promotion of the target is no longer in the log
        elif not stack or stack[-1] != move.to:
            stack.append(move.to)
    return stack


def _objection(version: Version, champion: Version | None) -> str:
    """Return why a version must not be approved without a reason; empty if it may."""
    decision = version.tags.get("decision", "")
    found = {"refuse": "was refused", "keep": "was not found to be better than the champion"}
    if decision in found:
        return f"{found[decision]} ({'; '.join(decision_reasons(version))})"
    if not decision:
        return "was not evaluated by the step promote"
    present = "none" if champion is None else str(champion.number)
    compared = version.tags.get("decision_champion", "none")
    if present not in (compared, str(version.number)):
        return f"was compared with champion {compared}, but the champion is now {present}"
    return ""
