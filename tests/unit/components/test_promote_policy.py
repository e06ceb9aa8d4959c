"""decide(): every gate refuses, and properties that hold for all inputs."""

import dataclasses
import math

import pytest
from helpers import registry as make
from helpers.project import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from components.promote.policy import Champion, Evidence, Incomparable, decide
from components.promote.settings import PromoteSettings
from pipeline import settings as pipeline_settings

POLICY = make.POLICY


def evidence(right: int = 32, of: int = 40, version: int = 2, **values: float) -> Evidence:
    """Return measurements of a version that classifies the first `right` of `of` clips correctly."""
    hits = {f"clip{number:02}": number < right for number in range(of)}
    measured = {"accuracy": right / of, "min_class_recall": 0.5, "latency_ms": 20.0, **values}
    return Evidence(version, weakest_class="dog, 1 of 2 clips", **measured, hits=hits)


def rival(right: int = 30, of: int = 40) -> Champion:
    return Champion(1, evidence(right, of).hits)


def test_a_first_model_above_the_minimums_is_promoted() -> None:
    decision = decide(evidence(), None, POLICY)
    assert (decision.outcome, decision.champion, decision.paired) == ("promote", None, None)
    assert "there is no champion yet" in decision.reasons


def test_a_better_model_is_promoted_with_the_exact_test() -> None:
    decision = decide(evidence(right=36), rival(right=30), POLICY)
    assert decision.outcome == "promote" and decision.paired is not None
    assert (decision.paired.only_first, decision.paired.only_second) == (6, 0)
    # Six discordant clips, all in favor of one model: two tails of (1/2)^6 each.
    assert decision.paired.p_value == pytest.approx(2 / 2**6)
    assert any("corrects 6 errors" in reason and "p = 0.0312" in reason for reason in decision.reasons)


@pytest.mark.parametrize(
    ("challenger", "holder", "policy", "reason"),
    [
        (evidence(accuracy=0.599), None, {}, "accuracy is 59.9 %, below 60 %"),
        (evidence(min_class_recall=0.05), None, {}, "lowest recall of a class (dog, 1 of 2 clips) is 5 %, below 10 %"),
        (evidence(latency_ms=501.0), None, {}, "latency is 501 ms, above 500 ms"),
        (evidence(accuracy=math.nan), None, {}, "accuracy is nan, not a finite number"),
        (evidence(accuracy=math.inf), None, {}, "accuracy is inf, not a finite number"),
        (evidence(min_class_recall=math.nan), None, {}, "min_class_recall is nan"),
        (evidence(latency_ms=math.nan), None, {}, "latency_ms is nan"),
        (evidence(latency_ms=-math.inf), None, {}, "latency_ms is -inf"),
        (evidence(right=29), rival(right=30), {}, "accuracy -2.5 points"),
        (evidence(right=27), rival(right=30), {"max_accuracy_drop": 0.05}, "a drop of at most 5 points is allowed"),
        (evidence(of=40), rival(of=19), {}, "only 19 test clips are new to the champion"),
        (evidence(), Champion(1, {}), {}, "only 0 test clips are new to the champion"),
        (evidence(accuracy=0.1), Incomparable(1, "has other classes"), {}, "below 60 %"),
        (evidence(accuracy=0.1), None, {"approval": "person"}, "below 60 %"),
    ],
)
def test_the_gate_refuses(
    challenger: Evidence, holder: Champion | Incomparable | None, policy: dict, reason: str
) -> None:
    decision = decide(challenger, holder, POLICY.replace(**policy))
    assert decision.outcome == "refuse"
    assert any(reason in found for found in decision.reasons), decision.reasons


def test_the_default_policy_refuses_a_class_that_is_never_recognized() -> None:
    policy = pipeline_settings.load(ROOT / "params.yaml").promote
    assert decide(evidence(min_class_recall=0.0), None, policy).outcome == "refuse"


def test_an_allowed_drop_passes() -> None:
    policy = POLICY.replace(max_accuracy_drop=0.05)
    assert decide(evidence(right=28), rival(right=30), policy).outcome == "promote"


def test_the_reasons_are_those_of_the_failed_gates() -> None:
    decision = decide(evidence(right=20, accuracy=0.5, latency_ms=900.0), rival(right=30), POLICY)
    assert len(decision.reasons) == 3 and decision.outcome == "refuse"


@pytest.mark.parametrize("holder", [None, rival()])
def test_a_policy_with_approval_waits(holder: Champion | None) -> None:
    decision = decide(evidence(), holder, POLICY.replace(approval="person"))
    assert decision.outcome == "wait" and decision.reasons[-1] == "the policy requires an approval"


def test_an_incomparable_champion_makes_it_wait() -> None:
    decision = decide(evidence(), Incomparable(1, "has other classes"), POLICY)
    assert decision.outcome == "wait" and decision.champion == 1
    assert "(version 1) has other classes" in decision.reasons[-1]


def test_the_champion_itself_stays_champion() -> None:
    for policy in (POLICY, POLICY.replace(approval="person")):
        decision = decide(evidence(version=1), rival(), policy)
        assert decision.outcome == "promote" and "is already the champion" in decision.reasons[-1]


shares = st.floats(0, 1) | st.just(math.nan)
clip_hits = st.dictionaries(st.sampled_from([f"clip{number}" for number in range(30)]), st.booleans())
policies = st.builds(
    PromoteSettings,
    approval=st.sampled_from(["automatic", "person"]),
    min_accuracy=st.floats(0, 1),
    min_class_recall=st.floats(0, 1),
    max_accuracy_drop=st.floats(0, 1),
    min_paired_clips=st.integers(1, 15),
    max_latency_ms=st.floats(0.1, 1000),
)
challengers = st.builds(
    Evidence,
    version=st.just(2),
    accuracy=shares,
    min_class_recall=shares,
    weakest_class=st.just("dog, 1 of 2 clips"),
    latency_ms=st.floats(0, 2000) | st.just(math.nan),
    hits=clip_hits,
)
holders = st.none() | st.builds(Champion, version=st.sampled_from([1, 2]), hits=clip_hits)


@given(challengers, holders, policies)
@settings(max_examples=300, deadline=None)
def test_a_promotion_implies_that_all_gates_pass(
    challenger: Evidence, holder: Champion | None, policy: PromoteSettings
) -> None:
    decision = decide(challenger, holder, policy)
    assert decision.reasons
    if decision.outcome == "refuse":
        return
    assert challenger.accuracy >= policy.min_accuracy and challenger.min_class_recall >= policy.min_class_recall
    assert challenger.latency_ms <= policy.max_latency_ms
    if holder is not None and holder.version != challenger.version:
        common = challenger.hits.keys() & holder.hits.keys()
        assert len(common) >= policy.min_paired_clips
        lost = sum(holder.hits[clip] - challenger.hits[clip] for clip in common)
        assert lost / len(common) <= policy.max_accuracy_drop
    if policy.approval == "person" and (holder is None or holder.version != challenger.version):
        assert decision.outcome == "wait"


@given(challengers, clip_hits, policies)
@settings(max_examples=100, deadline=None)
def test_swapping_the_models_inverts_the_comparison(challenger: Evidence, hits: dict, policy: PromoteSettings) -> None:
    there = decide(challenger, Champion(1, hits), policy).paired
    back = decide(dataclasses.replace(challenger, hits=hits), Champion(1, challenger.hits), policy).paired
    assert there is not None and back is not None
    assert (there.only_first, there.only_second, there.clips) == (back.only_second, back.only_first, back.clips)
    assert there.difference == -back.difference and there.p_value == back.p_value


@given(challengers, holders, policies)
@settings(max_examples=100, deadline=None)
def test_a_stricter_policy_never_promotes_a_refused_model(
    challenger: Evidence, holder: Champion | None, policy: PromoteSettings
) -> None:
    stricter = policy.replace(min_accuracy=1.0, max_accuracy_drop=0.0, min_paired_clips=policy.min_paired_clips + 5)
    if decide(challenger, holder, policy).outcome == "refuse":
        assert decide(challenger, holder, stricter).outcome == "refuse"
