"""The promotion policy: `decide` is a pure function from measurements and policy to a decision with reasons."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from audiocnn.evaluation import PairedComparison, compare
from components.promote.settings import PromoteSettings
from mlops.artifacts import Outcome


@dataclass(frozen=True)
class Evidence:
    """Measurements of the challenger on clips that it was not trained on."""

    version: int
    accuracy: float  # 0 to 1
    min_class_recall: float  # 0 to 1
    weakest_class: str  # the class with this recall and its clips, for the reasons
    latency_ms: float  # median time from a sound file to its probabilities
    hits: Mapping[str, bool]  # by MD5 of the clip, whether it is classified correctly


@dataclass(frozen=True)
class Champion:
    """The champion: its version number, and its hits on those clips of the challenger that it was not trained on."""

    version: int
    hits: Mapping[str, bool]


@dataclass(frozen=True)
class Incomparable:
    """A champion that cannot classify the challenger's clips. `reason` is a clause without a subject."""

    version: int
    reason: str


@dataclass(frozen=True)
class Decision:
    """The outcome and its reasons. In `paired` the challenger is the first of the two models."""

    outcome: Outcome
    reasons: tuple[str, ...]
    challenger: int
    champion: int | None
    paired: PairedComparison | None


def decide(challenger: Evidence, champion: Champion | Incomparable | None, policy: PromoteSettings) -> Decision:
    """Decide whether the challenger becomes the champion.

    All gates are checked, so that the reasons of a refusal are complete. A challenger that passes all of them is
    promoted. It waits for an approval if the policy requires one, or if it cannot be compared with the champion.
    """
    failed, passed = _check_challenger(challenger, policy)
    paired = None
    if isinstance(champion, Champion) and champion.version != challenger.version:
        paired = _compare(challenger, champion)
        is_passed, reason = _check_comparison(paired, champion, policy)
        (passed if is_passed else failed).append(reason)
    outcome, remarks = _outcome(challenger, champion, policy, bool(failed))
    reasons = (*(failed or passed), *remarks)
    return Decision(outcome, reasons, challenger.version, None if champion is None else champion.version, paired)


def _check_challenger(challenger: Evidence, policy: PromoteSettings) -> tuple[list[str], list[str]]:
    """Return the reasons of the failed gates and of the passed ones, as far as they concern the challenger alone."""
    failed: list[str] = []
    passed: list[str] = []
    for name, value, minimum in (
        ("accuracy", challenger.accuracy, policy.min_accuracy),
        (
            f"lowest recall of a class ({challenger.weakest_class})",
            challenger.min_class_recall,
            policy.min_class_recall,
        ),
    ):
        ok = value >= minimum
        reason = f"{name} is {100 * value:.4g} %, {'at least' if ok else 'below'} {100 * minimum:.4g} %"
        (passed if ok else failed).append(reason)
    ok = challenger.latency_ms <= policy.max_latency_ms
    reason = f"latency is {challenger.latency_ms:.4g} ms, {'at most' if ok else 'above'} {policy.max_latency_ms:.4g} ms"
    (passed if ok else failed).append(reason)
    for name, value in vars(challenger).items():
        if isinstance(value, float) and not math.isfinite(value):
            failed.append(f"{name} is {value}, not a finite number")
    return failed, passed


def _compare(challenger: Evidence, champion: Champion) -> PairedComparison:
    common = sorted(challenger.hits.keys() & champion.hits.keys())
    first, second = (np.array([model.hits[clip] for clip in common], dtype=bool) for model in (challenger, champion))
    return compare(first, second)


def _check_comparison(paired: PairedComparison, champion: Champion, policy: PromoteSettings) -> tuple[bool, str]:
    """Return whether the comparison with the champion is passed, and the reason."""
    name = f"the champion (version {champion.version})"
    if paired.clips < policy.min_paired_clips:
        return False, (
            f"only {paired.clips} test clips are new to {name}; a comparison needs "
            f"{policy.min_paired_clips}: train on the champion's test fold, or approve the version"
        )
    reason = (
        f"on {paired.clips} clips that neither model was trained on, it corrects {paired.only_first} errors of {name} "
        f"and makes {paired.only_second} new ones: accuracy {100 * paired.difference:+.1f} points "
        f"(exact McNemar test: p = {paired.p_value:.3g})"
    )
    if -paired.difference > policy.max_accuracy_drop:
        return False, f"{reason}; a drop of at most {100 * policy.max_accuracy_drop:g} points is allowed"
    return True, reason


def _outcome(
    challenger: Evidence, champion: Champion | Incomparable | None, policy: PromoteSettings, failed: bool
) -> tuple[Outcome, list[str]]:
    """Return the outcome, and remarks to be added to the reasons."""
    if champion is not None and champion.version == challenger.version:
        return ("refuse" if failed else "promote"), [f"version {challenger.version} is already the champion"]
    if failed:
        return "refuse", []
    if isinstance(champion, Incomparable):
        return "wait", [f"the champion (version {champion.version}) {champion.reason}: this needs an approval"]
    remarks = ["there is no champion yet"] if champion is None else []
    if policy.approval == "person":
        return "wait", [*remarks, "the policy requires an approval"]
    return "promote", remarks
