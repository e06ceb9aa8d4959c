"""The simulated promotion gate: what `make gate-report` claims, with fewer repetitions."""

from functools import partial

import pytest
from helpers.project import ROOT

from benchmarks import gate_report
from benchmarks.gate_report import Fold, inflation, promotes, promotes_naively, promotion_rate
from pipeline.settings import load

POLICY = load(ROOT / "params.yaml").promote
FOLD = Fold(400, 50)
GATE = partial(promotes, POLICY, FOLD.classes)
REPETITIONS = 60


def test_worse_and_equal_models_are_rarely_promoted_and_better_ones_often() -> None:
    rates = {points: promotion_rate(GATE, FOLD, points, REPETITIONS, seed=0) for points in (-2, 0, 5)}
    assert rates[-2] < 0.05 and rates[0] <= 0.1 and rates[5] > 0.8
    assert promotion_rate(promotes_naively, FOLD, 0, REPETITIONS, seed=0) > 0.3


@pytest.mark.parametrize(("fold", "limit"), [(Fold(80, 10), 1.5), (FOLD, 1.0)])
def test_retraining_hardly_inflates_the_champion_s_figure(fold: Fold, limit: float) -> None:
    gate = partial(promotes, POLICY, fold.classes)
    assert inflation(gate, fold, repetitions=15, seed=0) < limit


def test_the_table_has_a_row_for_each_gate() -> None:
    head, rule, naive, gate = gate_report.report_lines((Fold(40, 4),), 3, 1, 0, ROOT / "params.yaml")
    assert head.count("|") == rule.count("|") == naive.count("|") == gate.count("|")
    assert naive.startswith("| 40 | naive |") and gate.startswith("| 40 | this gate |") and gate.endswith("points |")
