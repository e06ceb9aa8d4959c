"""decide(): whether the challenger becomes the champion. Pure: evidence and policy in, a decision with reasons out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from audiocnn.evaluation import PairedComparison, compare
from components.promote.settings import PromoteSettings

Outcome = Literal["promote", "refuse", "wait"]


@dataclass(frozen=True)
class Evidence:
    """What a version has shown on clips that it has not learnt from.

    Accuracy and recall are shares, latency is in ms; `hits` tells by a clip's MD5 whether it was named rightly.
    """

    version: int
    accuracy: float
    min_class_recall: float
    latency_ms: float
    hits: Mapping[str, bool]


@dataclass(frozen=True)
class Champion:
    """The version in service: its hits on the challenger's clips that it has not learnt from itself."""

    version: int
    hits: Mapping[str, bool]


@dataclass(frozen=True)
class Incomparable:
    """A version in service that cannot be run on the challenger's clips, and why, as a clause without a subject."""

    version: int
    because: str


@dataclass(frozen=True)
class Decision:
    """The outcome, why, and whom it is about. `paired` counts the challenger as the first of the two."""

    outcome: Outcome
    reasons: tuple[str, ...]
    challenger: int
    champion: int | None
    paired: PairedComparison | None


def decide(challenger: Evidence, champion: Champion | Incomparable | None, policy: PromoteSettings) -> Decision:
    """Every gate is checked, so that the reasons name all that is wrong; one that is shut refuses.

    A challenger that passes is promoted, or waits for a person where the policy asks for one, or where there is a
    champion that it cannot be compared with.
    """
    version = None if champion is None else champion.version
    shut, passed = _floors(challenger, policy)
    paired = None
    if isinstance(champion, Champion) and champion.version != challenger.version:
        paired = _compare(challenger, champion)
        gate, text = _paired_gate(paired, champion, policy)
        (shut if gate == "shut" else passed).append(text)
    outcome, last = _outcome(challenger, champion, policy, bool(shut))
    return Decision(outcome, (*shut, *([] if shut else passed), *last), challenger.version, version, paired)


def _floors(challenger: Evidence, policy: PromoteSettings) -> tuple[list[str], list[str]]:
    """The gates that the challenger meets alone: (what is shut, what is passed)."""
    floors = (
        ("accuracy", challenger.accuracy, policy.min_accuracy),
        ("recall of the weakest class", challenger.min_class_recall, policy.min_class_recall),
    )
    shut: list[str] = []
    passed: list[str] = []
    for name, value, floor in floors:
        ok, side = value >= floor, "at least" if value >= floor else "below"
        (passed if ok else shut).append(f"{name} is {100 * value:.4g} %, {side} {100 * floor:.4g} %")
    latency, budget = challenger.latency_ms, policy.max_latency_ms
    ok, side = latency <= budget, "at most" if latency <= budget else "above"
    (passed if ok else shut).append(f"one clip takes {latency:.4g} ms, {side} {budget:.4g} ms")
    for name, value in vars(challenger).items():
        if isinstance(value, float) and not math.isfinite(value):
            shut.append(f"{name} is {value}, which is no measurement")
    return shut, passed


def _compare(challenger: Evidence, champion: Champion) -> PairedComparison:
    common = sorted(challenger.hits.keys() & champion.hits.keys())
    pair = [np.array([side.hits[clip] for clip in common], dtype=bool) for side in (challenger, champion)]
    return compare(pair[0], pair[1])


def _paired_gate(paired: PairedComparison, champion: Champion, policy: PromoteSettings) -> tuple[Literal["shut", "passed"], str]:
    who = f"the champion, version {champion.version}"
    if paired.clips < policy.min_paired_clips:
        return "shut", (
            f"only {paired.clips} of the test clips were not learnt by {who}, and {policy.min_paired_clips} are "
            "needed to compare: train on the champion's test fold, or approve it by hand"
        )
    drop = -paired.difference
    text = (
        f"on {paired.clips} clips that neither has learnt it is right on {paired.only_first} where {who}, is wrong, "
        f"and wrong on {paired.only_second} where that is right: accuracy {100 * paired.difference:+.1f} points "
        f"(exact McNemar test: p = {paired.p_value:.3g})"
    )
    if drop > policy.max_accuracy_drop:
        return "shut", f"{text}; a drop of {100 * policy.max_accuracy_drop:g} points is allowed"
    return "passed", text


def _outcome(
    challenger: Evidence, champion: Champion | Incomparable | None, policy: PromoteSettings, shut: bool
) -> tuple[Outcome, list[str]]:
    """What follows once all gates are read, and what else there is to say."""
    if champion is not None and champion.version == challenger.version:
        return ("refuse" if shut else "promote"), [f"version {challenger.version} is the champion already and stays it"]
    if shut:
        return "refuse", []
    if isinstance(champion, Incomparable):
        return "wait", [f"the champion, version {champion.version}, {champion.because}: a person has to decide"]
    first = ["there is no champion yet"] if champion is None else []
    if policy.approval == "person":
        return "wait", [*first, "the policy asks for a person's approval"]
    return "promote", first
