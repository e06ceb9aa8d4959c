"""The description of a version on its page in MLflow: the verdict and what to do next, then the model card."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from mlops.artifacts import OUTCOMES, DecisionRecord, Registration
from mlops.tracking.connection import connect
from mlops.tracking.history import MOVES, OUTSIDE, Entry, entries
from mlops.tracking.records import Records, read_records, records_folder
from mlops.tracking.registry import champion_number
from mlops.tracking.version import Version

LENGTH = 5000  # characters; MLflow's limit for descriptions
QUOTED = 300  # characters of a reason that are shown
REASONS = 8  # that are shown; decision.md has all of them
DEPLOYED_AT, DEPLOYED_TO = "deployed_at", "deployed_to"  # tags of the version that was deployed last


@dataclass(frozen=True)
class State:
    """What the page is made of.

    Attributes:
        moves: entries of the history that made the version champion, or another one in its place.
        experiment: id of the experiment of the version's run.
    """

    version: Version
    champion: int | None
    moves: list[Entry]
    records: Records
    experiment: str


def write_page(name: str, number: int) -> None:
    """Replace the description of a version: its verdict, and its model card as far as it fits.

    Call this after every change of a version: decided, moved to or from the alias, deployed. Without effect if the
    version does not exist.
    """
    connection = connect()
    client = connection.client
    found = connection.find(client.get_model_version, name, str(number))
    if found is None:
        return
    version = Version(name, number, str(found.run_id), dict(found.tags))
    run = connection.find(client.get_run, version.run_id)
    state = State(
        version,
        champion_number(name),
        [entry for entry in entries(name) if entry.kind in MOVES and number in (entry.version_from, entry.version_to)],
        read_records(version),
        "" if run is None else str(run.info.experiment_id),
    )
    before = found.description or ""
    # A version of release 0.1.0 has its card only here. Cards begin with a heading, verdicts contain none.
    card = state.records.card or before[max(f"\n{before}".find("\n# "), 0) :]
    if (text := page(state, card)) != before:
        connection.call(client.update_model_version, name, str(number), text)


def page(state: State, card: str) -> str:
    """Return the description in Markdown, at most 5,000 characters; the model card is cut at the end of a line."""
    verdict = "\n\n".join(_verdict(state))
    rest = f"\n\nThe model card goes on in {_link(state, 'card.md', f'{records_folder(state.version)}/card.md')}."
    space = LENGTH - len(verdict) - 2
    if len(card) > space:
        card = card[: max(space - len(rest), 0)].rpartition("\n")[0].rstrip() + rest
    return f"{verdict}\n\n{card}"


def _verdict(state: State) -> Iterator[str]:
    decision, registration = state.records.decision, state.records.registration
    yield f"{_headline(state)}\n---"  # a heading that is readable as plain text, which lists of versions show
    if registration is not None:
        yield _accuracy(registration)
    if decision is not None:
        yield "\n".join([f"Reasons for this decision ({_day(decision.decided_at)}):\n", *_reasons(decision)])
    yield f"Next: {_next_step(state)}"
    if state.experiment:
        yield " · ".join(_links(state))


def _headline(state: State) -> str:
    number, last = state.version.number, state.moves[-1] if state.moves else None
    present = "there is no champion" if state.champion is None else f"the champion is version {state.champion}"
    if state.champion == number:
        return f"Champion{_how(last) if last and last.version_to == number else ''}."
    if last and last.kind == "reverted":
        return (
            f"Refused. The alias `champion` was moved to this version outside audiocnn, and was moved back on "
            f"{_day(last.at)}: {present}."
        )
    if last and last.kind == "rollback":
        return f"No longer champion: rolled back by {_plain(last.by)} on {_day(last.at)}; {present}."
    if last:
        return f"No longer champion: replaced on {_day(last.at)}; {present}."
    if state.records.decision is None:
        return f"Not decided yet: the step promote has not run; {present}."
    return f"{OUTCOMES[state.records.decision.outcome].capitalize()}; {present}."


def _how(entry: Entry) -> str:
    ways = {
        "promote": "promoted by the policy" if entry.by == "policy" else f"promoted by {_plain(entry.by)}",
        "approve": "approved in MLflow" if entry.by == OUTSIDE else f"approved by {_plain(entry.by)}",
        "rollback": f"restored by {_plain(entry.by)}",
        "external": "set outside audiocnn",
        "reverted": "restored after a change outside audiocnn",
    }
    reason = f', because "{_plain(entry.because)}"' if entry.because else ""
    return f", {ways[entry.kind]} on {_day(entry.at)}{reason}"


def _accuracy(registration: Registration) -> str:
    metrics, fold = registration.metrics, registration.training["dataset"]["test_fold"]
    return (
        f"Accuracy **{100 * metrics.accuracy:.1f} %** ({100 * metrics.confidence:.0f} % interval "
        f"{100 * metrics.accuracy_low:.1f} to {100 * metrics.accuracy_high:.1f} %) on {metrics.clips} clips of test "
        f"fold {fold}."
    )


def _reasons(decision: DecisionRecord) -> Iterator[str]:
    for reason in decision.reasons[:REASONS]:
        yield f"- {_plain(reason)}"
    if (more := len(decision.reasons) - REASONS) > 0:
        yield f"- {more} more in decision.md"


def _next_step(state: State) -> str:
    number, tags = state.version.number, state.version.tags
    if state.champion == number:
        if (address := tags.get(DEPLOYED_TO)) is None:
            return "`audiocnn deploy`, if it is not served yet; `audiocnn status` shows what is served."
        return (
            f"nothing; it is served at {address} since {_day(tags.get(DEPLOYED_AT, ''))}. `audiocnn rollback` restores "
            "the previous champion, if there was one."
        )
    if any(entry.version_to == number and entry.kind != "external" for entry in state.moves):
        return f"`audiocnn rollback --to {number}` makes it the champion again."
    outcome = state.records.decision.outcome if state.records.decision else ""
    if outcome == "wait":
        return (
            f"look at the report, then `audiocnn approve {number}`, or set the tag `validation_status` to `approved` "
            "here if `audiocnn reconcile` runs."
        )
    if not outcome:
        return "run the step promote."
    return (
        f'nothing. To make it the champion all the same: `audiocnn approve {number} --because "..."`, or here, if '
        "`audiocnn reconcile` runs, add the tag `override_reason` and set `validation_status` to `approved`."
    )


def _links(state: State) -> Iterator[str]:
    records, decision = records_folder(state.version), state.records.decision
    yield _link(state, "Evaluation report", "evaluation/report.html")
    yield _link(state, "Data report", "dataset/report.html")
    if decision is not None:
        yield _link(state, "Decision", f"{records}/decision.md")
    if decision is not None and decision.comparison is not None:
        yield _link(state, "Compared with the champion", f"{records}/comparison.html")
    if state.records.registration is not None:
        yield _link(state, "Lineage", f"{records}/registration.json")
        if url := state.records.registration.kubeflow_url:
            yield f"[Kubeflow run]({url})"


def _link(state: State, label: str, artifact: str) -> str:
    """Return a link to an artifact of the version's run. It is relative, so it works at every address of MLflow."""
    return f"[{label}](#/experiments/{state.experiment}/runs/{state.version.run_id}/artifacts/{artifact})"


def _plain(text: str) -> str:
    """Return a text, shortened, so that Markdown shows it as it is."""
    return re.sub(r"([\\`*\[\]<>|#~])", r"\\\1", textwrap.shorten(text, QUOTED, placeholder=" ..."))


def _day(at: str) -> str:
    """Return a time, UTC in ISO 8601, to the minute."""
    return f"{at[:10]} {at[11:16]} UTC"
