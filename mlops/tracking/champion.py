"""Every move of the alias `champion`: by policy, by a person, and back. There is one champion, and a log of all."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from audiocnn.errors import AudioCNNError
from mlops import tracking

CHAMPION = "champion"
PREVIOUS = "previous"  # the champion before, for people to see; rollback goes by the log
LOG = "champion_log"  # tag of the registered model: JSON list of moves, the oldest first
LOG_LENGTH = 40  # MLflow keeps 5,000 characters


class ApprovalError(AudioCNNError):
    """A version that may not become the champion, or a champion that nothing was before."""


@dataclass(frozen=True)
class Move:
    """One move of the alias: when (UTC), to which version, by whom (`policy` or a user), promoted or rolled back."""

    at: str
    kind: Literal["promote", "rollback"]
    to: int
    by: str


def now() -> str:
    """UTC as ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def crown(name: str, number: int, by: str) -> None:
    """Make a version the champion; the one before is remembered. Nothing happens where it is the champion already."""
    before = tracking.version_by_alias(name, CHAMPION)
    if before is not None and before.number == number:
        return
    moves = _log(name)
    top = _stack(moves)[-1:]
    if top != [number]:  # else the log is ahead of the alias: a call was cut off in between
        if before is not None and top != [before.number]:
            # Somebody moved the alias in MLflow's own page; the way back has to lead there.
            moves.append(Move(now(), "promote", before.number, "MLflow"))
        moves.append(Move(now(), "promote", number, by))
    _move(name, moves)


def approve(name: str, number: int, force: str = "", by: str | None = None) -> tracking.Version:
    """Make a version that waits for a person the champion.

    Args:
        force: a reason, which is recorded, to overrule what was decided.
        by: who approves; the present user where it is left out.
    Raises:
        ApprovalError: it was refused, was never judged, or was judged against another champion than today's, and no
            reason is given.
    """
    version = tracking.get_version(name, number)
    objection = _objection(version, tracking.version_by_alias(name, CHAMPION))
    if objection and not force.strip():
        overrule = f'overrule it with a reason: `audiocnn approve {number} --because "..."`'
        raise ApprovalError(f"{name} version {number} {objection}; run the step promote, or {overrule}")
    by = by or tracking.user()
    record = {"approved_at": now(), "approved_by": by, "approved_because": force.strip() or "it was waiting"}
    tracking.tag_version(name, number, record)
    tracking.resume_run(version.run_id).tags({**record, "promoted_version": f"{name} {number}"})
    crown(name, number, by)
    return tracking.get_version(name, number)


def rollback(name: str, by: str | None = None) -> tracking.Version:
    """Make the version before the champion the champion again; returns it. Each call goes one step further back.

    Where the alias was moved or removed in MLflow's own page, it goes back to the last champion in the log.

    Raises:
        ApprovalError: the log names no version before.
    """
    by = by or tracking.user()
    current = tracking.version_by_alias(name, CHAMPION)
    moves = _log(name)
    stack = _stack(moves)
    if current is not None and stack[-1:] == [current.number]:
        stack.pop()
    if not stack:
        raise ApprovalError(f"the model {name!r} has no champion to go back to: the log names none before the present")
    back = tracking.get_version(name, stack[-1])
    if current is not None:
        record = {"rolled_back_at": now(), "rolled_back_by": by, "rolled_back_to": str(back.number)}
        tracking.tag_version(name, current.number, record)
        tracking.resume_run(current.run_id).tags(record)
    _move(name, [*moves, Move(now(), "rollback", back.number, by)])
    return back


def history(name: str) -> list[Move]:
    """All moves of the alias `champion` that are kept, the oldest first."""
    return _log(name)


def _move(name: str, moves: list[Move]) -> None:
    """Log first, alias last: after a crash in between the same call again completes it."""
    stack = _stack(moves)
    text = json.dumps([asdict(move) for move in moves[-LOG_LENGTH:]], separators=(",", ":"))
    tracking.tag_model(name, {LOG: text})
    if len(stack) > 1:
        tracking.set_alias(name, PREVIOUS, stack[-2])
    else:
        tracking.delete_alias(name, PREVIOUS)
    tracking.set_alias(name, CHAMPION, stack[-1])


def _log(name: str) -> list[Move]:
    return [Move(**entry) for entry in json.loads(tracking.model_tags(name).get(LOG, "[]"))]


def _stack(moves: list[Move]) -> list[int]:
    """The champions one on top of the other, as the moves left them; a rollback takes off what lay above its target."""
    stack: list[int] = []
    for move in moves:
        if move.kind == "rollback":
            while stack and stack[-1] != move.to:
                stack.pop()
            stack = stack or [move.to]  # its promotion is older than the log: all that is kept came after it
        elif not stack or stack[-1] != move.to:
            stack.append(move.to)
    return stack


def _objection(version: tracking.Version, champion: tracking.Version | None) -> str:
    """Why this version may not be approved without a reason; empty when it may."""
    outcome = version.tags.get("decision", "")
    if outcome == "refuse":
        return f"was refused ({version.tags.get('decision_reasons', '')})"
    if not outcome:
        return "was never judged"
    today = "none" if champion is None else str(champion.number)
    judged = version.tags.get("decision_champion", "none")
    if today not in (judged, str(version.number)):
        return f"was judged against champion {judged}, and the champion is {today} now"
    return ""
