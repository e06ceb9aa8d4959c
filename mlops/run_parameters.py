"""The parameters of a Kubeflow run, resolved into settings inside the image.

A run has few parameters: a recipe, overrides of single keys, and one for each key that changes often. Each step
resolves them with the params.yaml and the recipes of its image, so what is chosen in the Kubeflow UI is what is used.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from audiocnn.strict_model import SettingsError, merge, shown
from mlops.provenance import ROOT
from mlops.settings import PARAMS, RECIPE, ResolvedSettings, flatten, resolve

KEYS = {  # by parameter, the key of the settings that it sets
    "fold": "train.fold",
    "seed": "train.seed",
    "nodes": "resources.nodes",
    "gpus_per_node": "resources.gpus_per_node",
    "model_name": "register.name",
}
# Keys that no override may set, and the parameters that do, in the pipelines that have them.
RESERVED = {RECIPE: RECIPE} | {key: name for name, key in KEYS.items()}
RESERVED |= {"train.fold": "fold or folds", "train.seed": "seed or seeds"}  # lists in a cross-validation
OVERRIDES = "pipeline parameter overrides"


def resolve_parameters(recipe: str, overrides: Mapping[str, Any], **parameters: Any) -> ResolvedSettings:
    """Return the settings of a run.

    Args:
        overrides: as {"train.epochs": 3}, or nested, {"train": {"epochs": 3}}.
        parameters: the values of parameters in `KEYS`.
    Raises:
        SettingsError: the recipe is unknown, or a key is set twice.
    """
    changes = nested_overrides(overrides)
    given = {KEYS[name]: value for name, value in parameters.items()}
    for key in flatten(changes):
        if taken := next((name for own, name in RESERVED.items() if _overlap(own, key)), None):
            raise SettingsError(
                f"{OVERRIDES}: {key}: use the pipeline parameter {taken} instead, where there is one, and remove "
                "the key"
            )
    chosen = merge(changes, nested_overrides({RECIPE: recipe, **given}))
    resolved = resolve(ROOT / PARAMS, chosen, "pipeline parameters")
    places = {key: f"pipeline parameter {name}" for name, key in KEYS.items() if key in given}
    return replace(resolved, places={**resolved.places, **places})


def check_shards(shards: int) -> None:
    if shards < 1:
        raise SettingsError(f"pipeline parameter shards: should be at least 1, found {shards}")


def nested_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides such as {"train.epochs": 3} in the nested form, {"train": {"epochs": 3}}.

    Raises:
        SettingsError: a key is set twice, or is a block and a value at the same time.
    """
    nested: dict[str, Any] = {}
    for key, value in overrides.items():
        change: Any = value
        for name in reversed(key.split(".")):
            change = {name: change}
        for found in flatten(change):
            if clash := next((other for other in flatten(nested) if _overlap(found, other)), None):
                raise SettingsError(
                    f"{OVERRIDES}: {shown(clash)} and {shown(found)} set the same key; remove one of them"
                )
        nested = merge(nested, change)
    return nested


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
