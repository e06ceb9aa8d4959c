"""decide(): every check refuses, and properties that hold for all inputs."""

import dataclasses
import math

import pytest
from helpers import registry as make
from helpers.project import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from components.promote.policy import Challenger, Champion, ClipResult, Decision, decide
from components.promote.settings import PromoteSettings
from pipeline import settings as pipeline_settings

POLICY = make.POLICY
CLASSES = ("dog", "rain", "sea_waves", "siren")


def challenger(correct: str, version: int = 2, **values: float) -> Challenger:
    """Return measurements of a version; `correct` has one digit per clip, and the clips' classes alternate."""
    clips = {
        f"clip{number:03}": ClipResult(CLASSES[number % len(CLASSES)], f"recording {number}", digit == "1")
        for number, digit in enumerate(correct)
    }
    measured = {
        "accuracy": 0.9,
        "min_class_recall": 0.5,
        "calibration_error": 0.1,
        "megabytes": 20.0,
        "latency_ms": 20.0,
        **values,
    }
    return Challenger(version, f"weights {version}", weakest_class="dog, 1 of 2 clips", **measured, clips=clips)


def rival(correct: str) -> Champion:
    """Return a champion; a clip with the digit x was among its training clips."""
    known = {f"clip{number:03}": digit == "1" for number, digit in enumerate(correct) if digit != "x"}
    return Champion(1, "weights 1", known)


def models(gained: int, lost: int, clips: int = 80) -> tuple[Challenger, Champion]:
    """Return two models that differ on `gained` and `lost` clips; all other clips are correct."""
    same = "1" * (clips - gained - lost)
    return challenger("1" * gained + "0" * lost + same), rival("0" * gained + "1" * lost + same)


def judge(gained: int, lost: int, clips: int = 80, prior: int = 0, **policy: float) -> Decision:
    return decide(*models(gained, lost, clips), POLICY.replace(**policy), prior)


GOOD = challenger("1" * 80)


@pytest.mark.parametrize(
    ("gained", "lost", "prior", "outcome"),
    [
        (12, 2, 0, "promote"),  # better
        (4, 0, 0, "promote"),  # the exact test: 1/16 is below 0.1
        (3, 0, 0, "keep"),  # 1/8 is not
        (1, 0, 0, "keep"),
        (0, 0, 0, "keep"),  # equal
        (3, 3, 0, "keep"),
        (1, 2, 0, "keep"),  # a little worse, inside the noise
        (2, 12, 0, "refuse"),  # worse
        (9, 9, 0, "refuse"),  # equal, but so different that it may be worse by more than 5 points
        (4, 0, 1, "keep"),  # the level of the second comparison is 0.05
        (5, 0, 1, "promote"),
        (5, 0, 3, "keep"),
    ],
)
def test_the_outcome_follows_the_lower_bound(gained: int, lost: int, prior: int, outcome: str) -> None:
    decision = judge(gained, lost, prior=prior, max_class_drop=1.0)
    found = decision.comparison
    assert found is not None and decision.outcome == outcome, decision.reasons
    assert (found.clips, found.gained, found.lost, found.prior_comparisons) == (80, gained, lost, prior)
    assert found.level == pytest.approx(0.1 / (1 + prior))
    assert (found.lower_bound > 0) == (outcome == "promote")


def test_the_reasons_of_each_outcome_are_stated() -> None:
    better = judge(12, 2).reasons
    assert "on 80 clips that neither was trained on: 12 corrected, 2 newly wrong, accuracy +12.5 points" in better[0]
    assert better[1].startswith("at level 0.1 the difference is at least +")
    kept = judge(3, 2, prior=4, margin=0.2).reasons
    assert kept[0].startswith("no difference was found: at level 0.02 ") and "(comparison 5 on these clips)" in kept[0]
    refused = judge(2, 12, max_class_drop=1.0).reasons[-1]
    assert refused == "at level 0.1 the loss could be as large as 18.8 points; less than 5 points are allowed"


@pytest.mark.parametrize(
    ("values", "policy", "reason"),
    [
        ({"accuracy": 0.599}, {}, "accuracy is 59.9 %, below 60 %"),
        ({"min_class_recall": 0.05}, {}, "lowest recall of a class (dog, 1 of 2 clips) is 5 %, below 10 %"),
        ({"calibration_error": 0.31}, {"max_calibration_error": 0.3}, "calibration error is 31 %, above 30 %"),
        ({"megabytes": 201.0}, {}, "size is 201 MB, above 200 MB"),
        ({"latency_ms": 501.0}, {}, "latency is 501 ms, above 500 ms"),
        ({"accuracy": math.nan}, {}, "accuracy is nan, not a finite number"),
        ({"min_class_recall": math.nan}, {}, "is nan, not a finite number"),
        ({"calibration_error": math.inf}, {}, "calibration error is inf, not a finite number"),
        ({"latency_ms": -math.inf}, {}, "latency is -inf, not a finite number"),
        ({"accuracy": 0.1}, {"approval": "person"}, "accuracy is 10 %, below 60 %"),
    ],
)
@pytest.mark.parametrize("holder", [None, models(12, 2)[1]])
def test_a_missed_score_refuses(values: dict, policy: dict, reason: str, holder: Champion | None) -> None:
    measured = dataclasses.replace(models(12, 2)[0], **values)
    decision = decide(measured, holder, POLICY.replace(**policy), 0)
    assert decision.outcome == "refuse" and len(decision.reasons) == 1 and reason in decision.reasons[0]


def test_the_default_policy_refuses_a_class_that_is_never_recognized() -> None:
    policy = pipeline_settings.load(ROOT / "params.yaml").promote
    assert decide(dataclasses.replace(GOOD, min_class_recall=0.0), None, policy, 0).outcome == "refuse"
    assert decide(GOOD, None, policy, 0).outcome == "promote"


def test_a_class_that_collapsed_refuses_a_model_that_is_better_overall() -> None:
    # Every fourth clip is a dog: the champion recognizes all 10 of them and no other clip.
    collapsed, holder = challenger("0111" * 10), rival("1000" * 10)
    decision = decide(collapsed, holder, POLICY, 0)
    assert decision.outcome == "refuse" and len(decision.reasons) == 1
    assert decision.reasons[0].startswith("recall of dog fell from 10 to 0 of 10 clips")
    assert decide(collapsed, holder, POLICY.replace(max_class_drop=1.0), 0).outcome == "promote"


def test_a_drop_of_a_class_within_chance_is_allowed() -> None:
    # Two of ten dogs are 20 points, which chance explains; all else is better.
    decision = decide(challenger("0111" * 2 + "1111" * 8), rival("1000" * 2 + "1000" * 8), POLICY, 0)
    assert decision.outcome == "promote"


def test_several_worse_classes_are_counted() -> None:
    decision = decide(challenger("0011" * 10), rival("1111" * 10), POLICY, 0)
    assert "as of 2 classes in all" in decision.reasons[0] and decision.outcome == "refuse"


@pytest.mark.parametrize("obstacle", ["has other classes", "has another front end", "cannot be loaded: no file"])
def test_an_obstacle_makes_it_wait_unless_a_score_is_missed(obstacle: str) -> None:
    holder = Champion(1, "weights 1", {}, (obstacle,))
    decision = decide(GOOD, holder, POLICY, 0)
    assert decision.outcome == "wait" and decision.champion == 1
    assert decision.reasons == (f"the champion (version 1) {obstacle}",)
    refused = decide(dataclasses.replace(GOOD, accuracy=0.1), holder, POLICY, 0)
    assert refused.outcome == "refuse" and len(refused.reasons) == 2 and obstacle in refused.reasons[1]


@pytest.mark.parametrize("known", [0, 19])
def test_too_few_common_clips_make_it_wait(known: int) -> None:
    decision = decide(GOOD, rival("1" * known + "x" * (80 - known)), POLICY, 0)
    assert decision.outcome == "wait" and decision.comparison is None
    assert f"only {known} test clips are new to the champion (version 1)" in decision.reasons[0]


def test_only_clips_that_both_have_not_learned_are_compared() -> None:
    decision = decide(challenger("1" * 40), rival("x" * 15 + "0" * 25), POLICY, 0)
    assert decision.comparison is not None and decision.comparison.clips == 25


def test_identical_weights_change_nothing() -> None:
    for known in ("1" * 80, "x" * 80):
        same = dataclasses.replace(rival(known), weights_sha256="weights 2")
        decision = decide(GOOD, same, POLICY, 0)
        assert (decision.outcome, decision.comparison) == ("keep", None)
        assert decision.reasons == ("it has the same weights as the champion (version 1)",)
    assert decide(dataclasses.replace(GOOD, accuracy=0.1), same, POLICY, 0).outcome == "refuse"
    damaged = dataclasses.replace(same, obstacles=("cannot be loaded: no file",))
    assert decide(GOOD, damaged, POLICY, 0).outcome == "wait"


@pytest.mark.parametrize("holder", [None, models(12, 2)[1]])
def test_a_policy_with_approval_waits(holder: Champion | None) -> None:
    decision = decide(models(12, 2)[0], holder, POLICY.replace(approval="person"), 0)
    assert decision.outcome == "wait" and decision.reasons[-1] == "the policy requires an approval"


def test_a_first_model_is_promoted() -> None:
    decision = decide(GOOD, None, POLICY, 0)
    assert (decision.outcome, decision.champion, decision.comparison) == ("promote", None, None)
    assert decision.reasons[0] == "there is no champion yet"
    assert decision.reasons[1].startswith(
        "within all limits: accuracy 90 %, lowest recall of a class (dog, 1 of 2 clips)"
    )


def test_the_champion_itself_stays_champion() -> None:
    for policy in (POLICY, POLICY.replace(approval="person")):
        decision = decide(dataclasses.replace(GOOD, version=1), rival(""), policy, 0)
        assert decision.outcome == "promote" and decision.reasons == ("it is already the champion",)


shares = st.floats(0, 1) | st.just(math.nan)
results = st.text("01x", min_size=30, max_size=30)
policies = st.builds(
    PromoteSettings,
    approval=st.sampled_from(["automatic", "person"]),
    min_accuracy=st.floats(0, 1),
    min_class_recall=st.floats(0, 1),
    max_calibration_error=st.floats(0, 1),
    max_megabytes=st.floats(0.1, 100),
    max_latency_ms=st.floats(0.1, 1000),
    min_paired_clips=st.integers(1, 15),
    level=st.floats(0.01, 0.2),
    margin=st.floats(0, 1),
    max_class_drop=st.floats(0, 1),
)
challengers = st.builds(
    lambda correct, accuracy, recall: challenger(correct, accuracy=accuracy, min_class_recall=recall),
    results,
    shares,
    shares,
)
holders = st.none() | st.builds(rival, results)
priors = st.integers(0, 50)


@given(challengers, holders, policies, priors)
@settings(max_examples=100)
def test_a_promotion_implies_that_all_checks_pass(
    measured: Challenger, holder: Champion | None, policy: PromoteSettings, prior: int
) -> None:
    decision = decide(measured, holder, policy, prior)
    assert decision.reasons
    if decision.outcome != "promote":
        return
    assert measured.accuracy >= policy.min_accuracy and measured.min_class_recall >= policy.min_class_recall
    assert policy.approval == "automatic"
    if holder is not None:
        found = decision.comparison
        assert found is not None and found.clips >= policy.min_paired_clips
        assert 0 < found.lower_bound <= found.difference


@given(results, results, policies, priors)
@settings(max_examples=100)
def test_of_two_models_at_most_one_is_better(first: str, second: str, policy: PromoteSettings, prior: int) -> None:
    there = decide(challenger(first), rival(second), policy, prior).comparison
    back = decide(challenger(second.replace("x", "0")), rival(first), policy, prior).comparison
    if there is not None and back is not None and "x" not in first + second:
        assert (there.gained, there.lost) == (back.lost, back.gained)
        assert min(there.lower_bound, back.lower_bound) <= 0


@given(challengers, holders, policies, priors)
@settings(max_examples=100)
def test_a_stricter_policy_or_a_further_comparison_never_promotes_more(
    measured: Challenger, holder: Champion | None, policy: PromoteSettings, prior: int
) -> None:
    stricter = policy.replace(margin=0.0, max_class_drop=0.0, min_paired_clips=policy.min_paired_clips + 5)
    if decide(measured, holder, stricter, prior + 1).outcome == "promote":
        assert decide(measured, holder, policy, prior).outcome == "promote"
