"""The promotion policy: `decide` is a pure function from measurements and policy to a decision with reasons."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from components.promote.paired_difference import Differences, lower_bound
from components.promote.settings import PromoteSettings
from mlops.artifacts import Outcome


class ClipResult(NamedTuple):
    """A test clip: its true class, the recording that it was cut from, and whether it is classified correctly."""

    category: str
    recording: str
    correct: bool


@dataclass(frozen=True)
class Challenger:
    """Measurements of the challenger on clips that it was not trained on."""

    version: int
    weights_sha256: str
    accuracy: float  # 0 to 1
    min_class_recall: float  # 0 to 1
    weakest_class: str  # the class with this recall and its clips, for the reasons
    calibration_error: float  # 0 to 1
    megabytes: float  # size of the weights
    latency_ms: float  # median time from a sound file to its probabilities
    clips: Mapping[str, ClipResult]  # by MD5


@dataclass(frozen=True)
class Champion:
    """The champion, and whether it classifies correctly those of the challenger's clips that it was not trained on.

    Attributes:
        correct: by MD5 of the clip.
        obstacles: sentences about the champion without a subject: why it cannot be compared.
    """

    version: int
    weights_sha256: str
    correct: Mapping[str, bool]
    obstacles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The challenger compared with the champion on the clips that neither was trained on.

    Attributes:
        gained: number of clips that only the challenger classifies correctly; lost: that only the champion does.
        difference: accuracy of the challenger minus that of the champion, -1 to 1.
        lower_bound: one-sided lower confidence bound of the difference.
        level: of this bound.
        prior_comparisons: earlier comparisons on the same clips.
    """

    clips: int
    gained: int
    lost: int
    difference: float
    lower_bound: float
    level: float
    prior_comparisons: int


@dataclass(frozen=True)
class Decision:
    """The outcome and its reasons, a sentence each without a period."""

    outcome: Outcome
    reasons: tuple[str, ...]
    challenger: int
    champion: int | None
    comparison: Comparison | None = None


def common_clips(challenger: Challenger, champion: Champion) -> list[str]:
    """Return the MD5 digests of the test clips that neither model was trained on, sorted."""
    return sorted(challenger.clips.keys() & champion.correct.keys())


def comparison_level(level: float, prior_comparisons: int) -> float:
    """Return the level of a comparison on clips that already served `prior_comparisons` earlier ones.

    With every comparison on the same clips, the chance grows that a model wins by luck (Blum and Hardt, The Ladder,
    ICML 2015). The level of the n-th is that of Bonferroni's correction for n comparisons, level / n, so that among n
    equal models at most level * (1 + 1/2 + ... + 1/n) are promoted on average: 0.36 of 20 at level 0.1.
    """
    return level / (1 + prior_comparisons)


def decide(
    challenger: Challenger, champion: Champion | None, policy: PromoteSettings, prior_comparisons: int
) -> Decision:
    """Decide whether the challenger becomes the champion.

    - "refuse": a minimum score is missed, a class has become worse, or the challenger may be worse than the champion by
      more than the margin. All such reasons are given.
    - "keep": no difference to the champion was found, or the weights are the same.
    - "wait": a person has to approve, because the policy says so or because the champion cannot be compared.
    - "promote": everything else.

    Args:
        prior_comparisons: number of other versions that were compared with a champion on the same common clips.
    """
    outcome, reasons, comparison = _decide(challenger, champion, policy, prior_comparisons)
    if outcome == "promote" and policy.approval == "person" and not _is_champion(challenger, champion):
        outcome, reasons = "wait", [*reasons, "the policy requires an approval"]
    number = None if champion is None else champion.version
    return Decision(outcome, tuple(reasons), challenger.version, number, comparison)


def _is_champion(challenger: Challenger, champion: Champion | None) -> bool:
    return champion is not None and champion.version == challenger.version


def _decide(
    challenger: Challenger, champion: Champion | None, policy: PromoteSettings, prior_comparisons: int
) -> tuple[Outcome, list[str], Comparison | None]:
    failed, scores = _check_scores(challenger, policy)
    if champion is None:
        return ("refuse", failed, None) if failed else ("promote", ["there is no champion yet", scores], None)
    if _is_champion(challenger, champion):
        return "refuse" if failed else "promote", [*failed, "it is already the champion"], None
    if champion.weights_sha256 == challenger.weights_sha256 and not failed and not champion.obstacles:
        return "keep", [f"it has the same weights as the champion (version {champion.version})"], None
    if obstacles := _obstacles(challenger, champion, policy):
        return "refuse" if failed else "wait", [*failed, *obstacles], None
    comparison = _compare(challenger, champion, policy, prior_comparisons)
    outcome, reasons = _judge(comparison, champion, policy)
    failed += _check_classes(challenger, champion, policy)
    if failed:
        return "refuse", [*failed, *(reasons if outcome == "refuse" else [])], comparison
    return outcome, [*reasons, scores] if outcome == "promote" else reasons, comparison


def _check_scores(challenger: Challenger, policy: PromoteSettings) -> tuple[list[str], str]:
    """Return the reasons of the failed checks of the challenger alone, and a summary in case that there are none."""
    failed, values = [], []
    recall = f"lowest recall of a class ({challenger.weakest_class})"
    for name, value, limit, factor, unit, is_minimum in (
        ("accuracy", challenger.accuracy, policy.min_accuracy, 100, "%", True),
        (recall, challenger.min_class_recall, policy.min_class_recall, 100, "%", True),
        ("calibration error", challenger.calibration_error, policy.max_calibration_error, 100, "%", False),
        ("size", challenger.megabytes, policy.max_megabytes, 1, "MB", False),
        ("latency", challenger.latency_ms, policy.max_latency_ms, 1, "ms", False),
    ):
        values.append(f"{name} {factor * value:.3g} {unit}")
        if not math.isfinite(value):
            failed.append(f"{name} is {value}, not a finite number")
        elif value < limit if is_minimum else value > limit:
            relation = "below" if is_minimum else "above"
            failed.append(f"{name} is {factor * value:.4g} {unit}, {relation} {factor * limit:.4g} {unit}")
    return failed, f"within all limits: {', '.join(values)}"


def _obstacles(challenger: Challenger, champion: Champion, policy: PromoteSettings) -> list[str]:
    if champion.obstacles:
        return [f"the champion (version {champion.version}) {obstacle}" for obstacle in champion.obstacles]
    clips = len(common_clips(challenger, champion))
    if clips >= policy.min_paired_clips:
        return []
    return [
        f"only {clips} test clips are new to the champion (version {champion.version}), a comparison needs "
        f"{policy.min_paired_clips}: train on its test fold, or approve the version"
    ]


def _compare(challenger: Challenger, champion: Champion, policy: PromoteSettings, prior_comparisons: int) -> Comparison:
    common = common_clips(challenger, champion)
    differences = _differences(challenger, champion, common)
    recordings = np.array([challenger.clips[clip].recording for clip in common])
    level = comparison_level(policy.level, prior_comparisons)
    return Comparison(
        clips=len(common),
        gained=int((differences > 0).sum()),
        lost=int((differences < 0).sum()),
        difference=float(differences.mean()),
        lower_bound=lower_bound(differences, recordings, level),
        level=level,
        prior_comparisons=prior_comparisons,
    )


def _differences(challenger: Challenger, champion: Champion, clips: Sequence[str]) -> Differences:
    return np.array([challenger.clips[clip].correct - champion.correct[clip] for clip in clips], np.int64)


def _judge(comparison: Comparison, champion: Champion, policy: PromoteSettings) -> tuple[Outcome, list[str]]:
    counted = (
        f"against the champion (version {champion.version}), on {comparison.clips} clips that neither was trained on: "
        f"{comparison.gained} corrected, {comparison.lost} newly wrong, "
        f"accuracy {100 * comparison.difference:+.1f} points"
    )
    level = f"at level {comparison.level:.2g}"
    if comparison.prior_comparisons:
        level += f" (comparison {comparison.prior_comparisons + 1} on these clips)"
    bound = f"{level} the difference is at least {100 * comparison.lower_bound:+.1f} points"
    if comparison.lower_bound > 0:
        return "promote", [counted, bound]
    if comparison.lower_bound > -policy.margin:
        return "keep", [f"no difference was found: {bound}, a promotion needs more than 0", counted]
    loss = f"{level} the loss could be as large as {-100 * comparison.lower_bound:.1f} points"
    return "refuse", [counted, f"{loss}; less than {100 * policy.margin:g} points are allowed"]


def _check_classes(challenger: Challenger, champion: Champion, policy: PromoteSettings) -> list[str]:
    """Return a reason for the class with the largest drop, if a drop above the allowed one is beyond chance.

    Every class has its own upper confidence bound of the difference, at the level of a first comparison.
    """
    by_class: dict[str, list[str]] = {}
    for clip in common_clips(challenger, champion):
        by_class.setdefault(challenger.clips[clip].category, []).append(clip)
    worse = []
    for category, clips in by_class.items():
        drops = -_differences(challenger, champion, clips)
        recordings = np.array([challenger.clips[clip].recording for clip in clips])
        # The bound of a class that did not fall further than allowed need not be computed.
        if drops.mean() > policy.max_class_drop < lower_bound(drops, recordings, policy.level):
            before = sum(champion.correct[clip] for clip in clips)
            counts = f"{before} to {before - drops.sum()} of {len(clips)} clips"
            worse.append((float(drops.mean()), f"recall of {category} fell from {counts}"))
    if not worse:
        return []
    others = f", as of {len(worse)} classes in all" if len(worse) > 1 else ""
    allowed = f"a drop of more than {100 * policy.max_class_drop:g} points at level {policy.level:g}{others}"
    return [f"{max(worse)[1]}: {allowed}"]
