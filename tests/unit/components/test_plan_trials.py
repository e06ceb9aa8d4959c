"""The step plan: every trial on every fold with every seed, and what would prove nothing refused."""

import dataclasses
from pathlib import Path
from typing import Any

import mlflow
import pytest
from helpers.project import ROOT

from audiocnn.config import TrainSettings
from audiocnn.data.clips import DatasetError
from audiocnn.strict_model import SettingsError
from components.plan_trials import grid
from components.plan_trials.step import PlanError, Request, plan_trials, whole
from mlops import tracking
from pipeline.settings import PipelineSettings

PARAMS = ROOT / "params.yaml"


def settings_of(planned: list[dict[str, Any]]) -> list[TrainSettings]:
    return [TrainSettings.parse(each["settings"], "plan") for each in planned]


def test_all_folds_are_those_that_the_data_has(spectrogram_folder: Path, tiny: PipelineSettings) -> None:
    planned = plan_trials(spectrogram_folder, "demo", tiny.train, Request([], [3, 4], grid.AS_IT_IS))
    found = settings_of(planned)
    assert [(each.seed, each.fold) for each in found] == [(seed, fold) for seed in (3, 4) for fold in range(1, 6)]
    assert {dataclasses.replace(each, seed=0, fold=2) for each in found} == {tiny.train}
    assert {each["trial"] for each in planned} == {""}


def test_one_mlflow_run_stands_above_all_and_waits_for_them(spectrogram_folder: Path, tiny: PipelineSettings) -> None:
    planned = plan_trials(spectrogram_folder, "demo", tiny.train, Request([1, 2], [0], grid.AS_IT_IS))
    (parent,) = {each["parent"] for each in planned}
    kept = mlflow.MlflowClient().get_run(parent)
    assert kept.info.status == "RUNNING" and kept.data.tags["kind"] == "cross-validation"
    assert kept.data.params["folds"] == "1, 2" and kept.data.params["train.epochs"] == "2"
    assert "train.fold" not in kept.data.params and kept.inputs.dataset_inputs
    assert [item.path for item in mlflow.MlflowClient().list_artifacts(parent)] == ["plan.json"]


def test_a_plan_that_mlflow_does_not_take_leaves_no_run_that_waits(
    spectrogram_folder: Path, tiny: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: tracking.Run, text: str, path: str) -> None:
        raise tracking.TrackingError(f"no {path} today")

    monkeypatch.setattr(tracking.Run, "text", refuses)
    with pytest.raises(tracking.TrackingError, match=r"no plan\.json today"):
        plan_trials(spectrogram_folder, "demo", tiny.train, Request([1, 2], [0], grid.AS_IT_IS))
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list", max_results=1)
    assert run.data.tags["kind"] == "cross-validation"
    assert run.info.status == "FAILED" and "no plan.json today" in run.data.tags["failure"]


def test_a_fold_that_is_held_out_is_in_no_training(spectrogram_folder: Path, tiny: PipelineSettings) -> None:
    held = tiny.train.replace(hold_out=(5,), fold=5)
    planned = plan_trials(
        spectrogram_folder, "demo", held, Request([], [0], {"a": {}, "b": {"augment": {"mix": "none"}}})
    )
    found = settings_of(planned)
    assert [(each["trial"], one.fold) for each, one in zip(planned, found, strict=True)] == [
        (trial, fold) for trial in "ab" for fold in (1, 2, 3, 4)
    ]
    assert {each.hold_out for each in found} == {(5,)}
    assert [each.augment.mix for each in found] == ["mixup"] * 4 + ["none"] * 4


@pytest.mark.parametrize(
    ("folds", "seeds", "trials", "hold_out", "words"),
    [
        ([9], [0], {"a": {}}, (), "no fold 9 in the data; there are folds 1, 2, 3, 4, 5"),
        ([1], [0], {"a": {}}, (7,), r"train.hold_out: there is no fold 7 .*--set train\.hold_out=\[5\]"),
        ([1], [2**53 + 1], {"a": {}}, (), r"seeds: \d+ is beyond 2\*\*53"),
        ([1], [0], {"a": {}, "b": {"recipe": "strong"}}, (5,), "'b' changes train.recipe alone"),
        ([5], [0], {"a": {}}, (5,), "fold 5 is held out"),
        ([], [0], {"a": {}}, (1, 2, 3, 4, 5), "leaves none of the folds"),
        ([1], [0], {"a": {}}, (2, 3, 4, 5), "no fold but 1 is left"),
        ([1, 1], [0], {"a": {}}, (), "folds: one stands there twice"),
        (["x"], [0], {"a": {}}, (), "folds: expected whole numbers from 0 on, found 'x'"),
        ([1], [], {"a": {}}, (), "seeds: none is given"),
        ([1], [-1], {"a": {}}, (), "seeds: expected whole numbers"),
        ([1], [0], {}, (), "trials: none is given"),
        ([1], [0], {"a": {"epoch": 3}}, (), "trial a: unknown key epoch"),
        ([1], [0], {"a": {"augment": {"mix": "salad"}}}, (), "trial a: augment.mix: expected one of"),
        ([1], [0], {"a": {"fold": 2}}, (), "'a' sets train.fold"),
        ([1], [0], {"a": {}, "b": {"epochs": 2}}, (5,), "'a' and 'b' are the same"),
        ([1], [0], {"a": {}, "b": {"epochs": 3}}, (), "train.hold_out is empty"),
    ],
)
def test_what_cannot_be_or_would_prove_nothing_is_refused_before_anything_begins(
    folds: list[Any],
    seeds: list[int],
    trials: dict[str, Any],
    hold_out: tuple[int, ...],
    words: str,
    spectrogram_folder: Path,
    tiny: PipelineSettings,
) -> None:
    before = len(mlflow.search_runs(search_all_experiments=True))
    with pytest.raises((PlanError, DatasetError, SettingsError), match=words):
        plan_trials(spectrogram_folder, "demo", tiny.train.replace(hold_out=hold_out), Request(folds, seeds, trials))
    assert len(mlflow.search_runs(search_all_experiments=True)) == before


def test_numbers_that_kfp_carries_as_doubles_are_whole_again() -> None:
    assert whole([1.0, 2, 2.5, "x"]) == [1, 2, 2.5, "x"]


def test_a_grid_is_every_combination_with_what_each_changes() -> None:
    found = grid.trials(PARAMS, ["recipe=demo"], ["train.max_lr=0.001,0.002", "train.augment.mix=mixup,power"])
    assert found == {
        "max_lr=0.001 augment.mix=mixup": {"max_lr": 0.001},
        "max_lr=0.001 augment.mix=power": {"max_lr": 0.001, "augment": {"mix": "power"}},
        "max_lr=0.002 augment.mix=mixup": {"max_lr": 0.002},
        "max_lr=0.002 augment.mix=power": {"max_lr": 0.002, "augment": {"mix": "power"}},
    }


def test_a_grid_over_recipes_tries_whole_recipes() -> None:
    found = grid.trials(PARAMS, [], ["recipe=seed,demo"])
    assert found["recipe=seed"] == {} and found["recipe=demo"]["architecture"]["width"] == 0.25


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "the grid is empty"),
        (["train.max_lr"], "expected a key of the block train and values"),
        (["ingest.subset=all,esc10"], "expected a key of the block train"),
        (["train.max_lr="], "names no value"),
        (["train.max_lr=[1,"], "are no list"),
        (["train.max_lr=2026-13-45,1"], "are no list"),
        (["train.max_lr=" + 2000 * "["], "are no list"),
        (["train.max_lr=" + 2000 * "[" + 2000 * "]"], "are no list"),
        (["train.max_lr=1,2", "train.max_lr=3"], "names one key twice"),
        (["train.fold=1,2"], "sets train.fold"),
        (["train.hold_out=[1],[2]"], "sets train.hold_out"),
        (["train.epoch=1,2"], "unknown key train.epoch"),
        (["train.max_lr=fast,slow"], "train.max_lr: expected float"),
    ],
)
def test_a_grid_that_is_none_is_one_sentence(lines: list[str], words: str) -> None:
    with pytest.raises((PlanError, SettingsError), match=words) as raised:
        grid.trials(PARAMS, [], lines)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("text", "expected"), [("all", []), ("3", [3]), ("1, 2,4", [1, 2, 4])])
def test_folds_are_read_as_people_type_them(text: str, expected: list[int]) -> None:
    assert grid.numbers(text, "--folds") == expected


def test_folds_that_are_no_numbers_are_named() -> None:
    with pytest.raises(PlanError, match="--folds 1;2: expected all, or numbers"):
        grid.numbers("1;2", "--folds")
