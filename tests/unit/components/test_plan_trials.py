"""The step plan_trials: every trial on every fold with every seed; requests without a valid comparison are refused."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pytest
from helpers.kfp_local import overrides_of
from helpers.project import ROOT

from audiocnn.data.clips import DatasetError
from audiocnn.strict_model import SettingsError
from components.plan_trials.component import plan_trials as component
from components.plan_trials.grid import parse_grid, parse_numbers
from components.plan_trials.request import SINGLE_TRIAL, PlanError, PlanRequest
from components.plan_trials.step import plan_trials
from mlops import tracking
from mlops.artifacts import parse_plan
from pipeline.settings import PipelineSettings

PARAMS = ROOT / "params.yaml"


def request(
    folds: Sequence[Any] = (), seeds: Sequence[Any] = (0,), trials: Mapping[str, Mapping[str, Any]] = SINGLE_TRIAL
) -> PlanRequest:
    return PlanRequest.parse({"folds": folds, "seeds": seeds, "trials": trials}, "test")


def test_no_folds_means_all_folds_of_the_data(spectrogram_folder: Path, tiny: PipelineSettings) -> None:
    plan = plan_trials(spectrogram_folder, "demo", tiny.train, request(seeds=[3, 4]))
    pairs = [(each.settings.seed, each.settings.fold) for each in plan]
    assert pairs == [(seed, fold) for seed in (3, 4) for fold in range(1, 6)]
    assert {each.settings.replace(seed=0, fold=2) for each in plan} == {tiny.train}
    assert {each.trial for each in plan} == {""} and {each.recipe for each in plan} == {"demo"}


def test_one_parent_run_is_started_and_left_running(spectrogram_folder: Path, tiny: PipelineSettings) -> None:
    plan = plan_trials(spectrogram_folder, "demo", tiny.train, request([1, 2]))
    (parent,) = {each.parent_run for each in plan}
    run = mlflow.MlflowClient().get_run(parent)
    assert run.info.status == "RUNNING" and run.data.tags["kind"] == "cross-validation"
    assert run.data.params["folds"] == "1, 2" and run.data.params["train.epochs"] == "2"
    assert "train.fold" not in run.data.params and run.inputs.dataset_inputs
    assert [item.path for item in mlflow.MlflowClient().list_artifacts(parent)] == ["plan.json"]


def test_the_parent_run_fails_if_mlflow_refuses_the_plan(
    spectrogram_folder: Path, tiny: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: tracking.Run, text: str, path: str) -> None:
        raise tracking.TrackingError(f"no {path} today")

    monkeypatch.setattr(tracking.Run, "log_text", refuse)
    with pytest.raises(tracking.TrackingError, match=r"no plan\.json today"):
        plan_trials(spectrogram_folder, "demo", tiny.train, request([1, 2]))
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list", max_results=1)
    assert run.data.tags["kind"] == "cross-validation"
    assert run.info.status == "FAILED" and "no plan.json today" in run.data.tags["failure"]


def test_a_held_out_fold_is_in_no_training(spectrogram_folder: Path, tiny: PipelineSettings) -> None:
    settings = tiny.train.replace(hold_out=(5,), fold=5)
    trials = {"a": {}, "b": {"augment": {"mix": "none"}}}
    plan = plan_trials(spectrogram_folder, "demo", settings, request(trials=trials))
    assert [(each.trial, each.settings.fold) for each in plan] == [
        (trial, fold) for trial in "ab" for fold in (1, 2, 3, 4)
    ]
    assert {each.settings.hold_out for each in plan} == {(5,)}
    assert [each.settings.augment.mix for each in plan] == ["mixup"] * 4 + ["none"] * 4


def test_a_trial_may_name_the_recipe_of_its_settings(spectrogram_folder: Path, tiny: PipelineSettings) -> None:
    trials = {"a": {}, "b": {"recipe": "strong", "epochs": 9}}
    plan = plan_trials(spectrogram_folder, "demo", tiny.train.replace(hold_out=(5,)), request([1], trials=trials))
    assert [(each.recipe, each.settings.epochs) for each in plan] == [("demo", 2), ("strong", 9)]


@pytest.mark.parametrize(
    ("folds", "seeds", "trials", "hold_out", "words"),
    [
        ([9], [0], {"a": {}}, (), "fold 9 does not exist; choose from the folds of the data set: 1, 2, 3, 4, 5"),
        ([1], [0], {"a": {}}, (7,), r"train.hold_out: the data has no fold 7.*--set train\.hold_out=\[5\]"),
        ([1], [2**53 + 1], {"a": {}}, (), r"seeds: .*beyond 2\*\*53"),
        ([1], [0], {"a": {}, "b": {"recipe": "strong"}}, (5,), "'b' names a recipe without its settings"),
        ([5], [0], {"a": {}}, (5,), "fold 5 is held out"),
        ([], [0], {"a": {}}, (1, 2, 3, 4, 5), "leaves none of the folds"),
        ([1], [0], {"a": {}}, (2, 3, 4, 5), "leave no training fold for validation fold 1"),
        ([1, 1], [0], {"a": {}}, (), "folds: 1 is duplicated"),
        (["x"], [0], {"a": {}}, (), "folds.0: should be a valid integer, found 'x'"),
        ([1], [], {"a": {}}, (), "seeds: .*at least 1"),
        ([1], [-1], {"a": {}}, (), "seeds.0: should be greater than or equal to 0"),
        ([1], [0], {}, (), "trials: .*at least 1"),
        ([1], [0], {"a": {"epoch": 3}}, (), "trial a: epoch: unknown key"),
        ([1], [0], {"a": {"augment": {"mix": "salad"}}}, (), "trial a: augment.mix: should be"),
        ([1], [0], {"a": {"fold": 2}}, (), "'a' sets train.fold"),
        ([1], [0], {"a": {}, "b": {"epochs": 2}}, (5,), "'a' and 'b' have the same settings"),
        ([1], [0], {"a": {}, "b": {"epochs": 3}}, (), "train.hold_out is empty"),
    ],
)
def test_invalid_requests_are_refused_before_a_run_starts(
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
        plan_trials(spectrogram_folder, "demo", tiny.train.replace(hold_out=hold_out), request(folds, seeds, trials))
    assert len(mlflow.search_runs(search_all_experiments=True)) == before


def test_the_component_accepts_numbers_as_kfp_sends_them(spectrogram_folder: Path, tiny: PipelineSettings) -> None:
    from kfp import dsl

    spectrograms = dsl.Dataset(uri=str(spectrogram_folder))
    plan = component.python_func(
        spectrograms, "demo", overrides_of(tiny), [1.0, 2.0], [3.0], {"unchanged": {"epochs": 4.0}}
    )
    parsed = parse_plan(plan, "plan")
    assert [(each.settings.fold, each.settings.seed, each.settings.epochs) for each in parsed] == [(1, 3, 4), (2, 3, 4)]
    assert plan[0]["settings"]["epochs"] == 4


def test_a_grid_has_every_combination_of_its_values() -> None:
    found = parse_grid(PARAMS, ["recipe=demo"], ["train.max_lr=0.001,0.002", "train.augment.mix=mixup,power"])
    assert found == {
        "max_lr=0.001 augment.mix=mixup": {"max_lr": 0.001},
        "max_lr=0.001 augment.mix=power": {"max_lr": 0.001, "augment": {"mix": "power"}},
        "max_lr=0.002 augment.mix=mixup": {"max_lr": 0.002},
        "max_lr=0.002 augment.mix=power": {"max_lr": 0.002, "augment": {"mix": "power"}},
    }


def test_a_grid_over_recipes_compares_whole_recipes(tmp_path: Path) -> None:
    shutil.copy(PARAMS, tmp_path)
    shutil.copytree(PARAMS.parent / "recipes", tmp_path / "recipes")
    recipe = (tmp_path / "recipes" / "seed.yaml").read_text()
    (tmp_path / "recipes" / "normed.yaml").write_text(recipe.replace("band_norm: false", "band_norm: true"))
    found = parse_grid(tmp_path / "params.yaml", [], ["recipe=seed,normed"])
    assert found == {"recipe=seed": {}, "recipe=normed": {"recipe": "normed", "architecture": {"band_norm": True}}}


def test_a_grid_over_recipes_with_other_spectrograms_is_refused() -> None:
    with pytest.raises(PlanError, match="trial 'recipe=strong': its recipe changes the block spectrograms"):
        parse_grid(PARAMS, [], ["recipe=seed,strong"])


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "the grid is empty"),
        (["train.max_lr"], "expected a key of the block train and its values"),
        (["ingest.subset=all,esc10"], "expected a key of the block train"),
        (["train.max_lr="], "the list of values is empty"),
        (["train.max_lr=[1,"], "expected a list of values"),
        (["train.max_lr=2026-13-45,1"], "expected a list of values"),
        (["train.max_lr=" + 2000 * "["], "expected a list of values"),
        (["train.max_lr=" + 2000 * "[" + 2000 * "]"], "expected a list of values"),
        (["train.max_lr=1,2", "train.max_lr=3"], "a key of the grid is duplicated"),
        (["train.epoch=1,2"], "train.epoch: unknown key"),
        (["train.max_lr=fast,slow"], "train.max_lr: should be a valid number"),
    ],
)
def test_an_invalid_grid_is_refused_in_one_sentence(lines: list[str], words: str) -> None:
    with pytest.raises((PlanError, SettingsError), match=words) as raised:
        parse_grid(PARAMS, [], lines)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("text", "expected"), [("all", []), ("3", [3]), ("1, 2,4", [1, 2, 4])])
def test_numbers_are_parsed(text: str, expected: list[int]) -> None:
    assert parse_numbers(text, "--folds") == expected


def test_invalid_numbers_are_refused_with_the_option() -> None:
    with pytest.raises(PlanError, match="--folds 1;2: expected all, or numbers"):
        parse_numbers("1;2", "--folds")


@pytest.mark.parametrize("line", ["train.fold=1,2", "train.hold_out=[1],[2]", "train.seed=1,2"])
def test_a_grid_over_folds_or_seeds_is_refused(line: str) -> None:
    trials = parse_grid(PARAMS, [], [line])
    with pytest.raises(SettingsError, match=f"sets {line.partition('=')[0]}"):
        request(trials=trials)
