"""The parameters of a Kubeflow run as settings: what was chosen, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.strict_model import SettingsError, merge
from mlops.run_parameters import nested_overrides, resolve_parameters
from mlops.settings import flatten
from pipeline.settings import PipelineSettings, load

NAMES = st.sampled_from(["a", "b", "c"])
NESTED = st.recursive(st.integers(), lambda values: st.dictionaries(NAMES, values, min_size=1), max_leaves=8)


def resolved(recipe: str = "demo", overrides: dict[str, Any] | None = None, **parameters: Any) -> PipelineSettings:
    return resolve_parameters(recipe, overrides or {}, **parameters).parse(PipelineSettings)


@pytest.mark.parametrize("recipe", ["seed", "strong", "demo"])
def test_the_chosen_recipe_gives_its_settings(recipe: str) -> None:
    assert resolved(recipe) == load(overrides={"recipe": recipe})


def test_parameters_set_their_keys() -> None:
    settings = resolved(fold=3, seed=7, nodes=2, gpus_per_node=4, model_name="birds")
    assert (settings.train.fold, settings.train.seed, settings.register.name) == (3, 7, "birds")
    assert (settings.resources.nodes, settings.resources.gpus_per_node) == (2, 4)


@pytest.mark.parametrize(
    "overrides",
    [
        {"train.epochs": 3.0, "train.augment.mix": "power"},  # KFP sends numbers as doubles
        {"train": {"epochs": 3, "augment": {"mix": "power"}}},
        {"train": {"epochs": 3}, "train.augment": {"mix": "power"}},
    ],
)
def test_overrides_are_dotted_or_nested(overrides: dict[str, Any]) -> None:
    settings = resolved("strong", overrides)
    expected = resolved("strong").train
    augment = expected.augment.replace(mix="power")
    assert settings.train == expected.replace(epochs=3, augment=augment)


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, NESTED, min_size=1)))
def test_both_forms_of_overrides_are_the_same(nested: dict[str, Any]) -> None:
    assert nested_overrides(flatten(nested)) == nested_overrides(nested) == merge({}, nested)


def test_labels_with_dots_are_values() -> None:
    labels = {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert resolved(overrides={"resources": {"node_selector": labels}}).resources.node_selector == labels


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"train.fold": 3}, "overrides: train.fold: use the pipeline parameter fold"),
        ({"train": {"seed": 3}}, "overrides: train.seed: use the pipeline parameter seed"),
        ({"recipe": "strong"}, "overrides: recipe: use the pipeline parameter recipe"),
        ({"register.name": "x"}, "overrides: register.name: use the pipeline parameter model_name"),
        ({"train": 3}, "overrides: train: use the pipeline parameter fold"),
        ({"train.epochs": 3, "train": {"epochs": 4}}, "'train.epochs' and 'train.epochs' set the same key"),
        ({"train.augment": 1, "train.augment.mix": "power"}, "'train.augment' and 'train.augment.mix' set the same"),
        ({"train.epoch": 3}, "pipeline parameters: train.epoch: unknown key"),
        ({"tran.epochs": 3}, "pipeline parameters: tran: unknown key"),
        ({"train.epochs": "many"}, "pipeline parameters: train.epochs: should be"),
    ],
)
def test_overrides_that_cannot_be_used_are_refused(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        resolved(overrides=overrides, fold=2, seed=0, model_name="audiocnn")
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_block_refuses_unknown_overrides_too() -> None:
    with pytest.raises(SettingsError, match="pipeline parameters: tran: unknown key"):
        resolve_parameters("demo", {"tran.epochs": 3}).block("deploy", PipelineSettings)


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"pipeline parameters: recipe: unknown recipe 'strog'; known recipes"):
        resolved("strog")


def test_an_impossible_parameter_is_named() -> None:
    with pytest.raises(SettingsError, match=r"pipeline parameter fold: train\.fold: should be"):
        resolved(fold=-1)
