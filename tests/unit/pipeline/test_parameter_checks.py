"""The task that checks the parameters of a Kubeflow run."""

from typing import Any

import pytest

from audiocnn.errors import AudioCNNError
from pipeline.parameter_checks import check_parameters, check_plan

COMMON: dict[str, Any] = {"source": "demo", "recipe": "demo", "overrides": {}, "shards": 1}
VALID = {**COMMON, "fold": 5, "seed": 0, "nodes": 1, "gpus_per_node": 1, "model_name": "audiocnn"}
PLAN = {**COMMON, "folds": [1.0, 2.0], "seeds": [0.0], "trials": {"unchanged": {}}}


@pytest.mark.parametrize(
    ("nodes", "gpus_per_node", "gpus"),
    [(1, 1, "1"), (1, 0, "0"), (3, 8, "0"), (1, 8, "0"), (2, 0, "0")],
)
def test_only_a_training_in_its_own_pod_requests_a_gpu(nodes: int, gpus_per_node: int, gpus: str) -> None:
    assert check_parameters.python_func(**{**VALID, "nodes": nodes, "gpus_per_node": gpus_per_node}) == gpus


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"shards": 0}, "pipeline parameter shards: should be at least 1, found 0"),
        ({"fold": 9}, "train.fold: demo has no fold 9; its folds are 1, 2, 3, 4, 5"),
        ({"overrides": {"train.hold_out": [5]}}, "train.hold_out: fold 5 is the test fold"),
        ({"overrides": {"train.hold_out": [7]}}, "train.hold_out: demo has no fold 7"),
        ({"source": "gs://bucket/clips"}, "gs://bucket/clips"),
        ({"recipe": "strog"}, "unknown recipe 'strog'"),
        ({"overrides": {"promote.min_acuracy": 0.9}}, "promote.min_acuracy: unknown key"),
        ({"model_name": "my model"}, "pipeline parameter model_name: register.name"),
        ({"nodes": 0}, "pipeline parameter nodes: resources.nodes"),
    ],
)
def test_invalid_parameters_are_refused_in_one_sentence(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(AudioCNNError) as refused:
        check_parameters.python_func(**{**VALID, **changed})
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_valid_plan_is_accepted() -> None:
    sweep = {"overrides": {"train.hold_out": [5]}, "trials": {"low": {"max_lr": 0.001}, "high": {"max_lr": 0.004}}}
    check_plan.python_func(**PLAN)
    check_plan.python_func(**{**PLAN, **sweep})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"shards": 0}, "pipeline parameter shards: should be at least 1"),
        ({"source": "gs://bucket/clips"}, "gs://bucket/clips"),
        ({"overrides": {"train.seed": 3}}, "train.seed: use the pipeline parameter seed or seeds"),
        ({"overrides": {"resources.nodes": 2}}, "resources.nodes: use the pipeline parameter nodes instead, where"),
        ({"overrides": {"register": {"name": "x"}}}, "register.name: use the pipeline parameter model_name"),
        ({"seeds": []}, "pipeline parameters: seeds: needs at least 1, found none"),
        ({"seeds": [-1]}, "pipeline parameters: seeds.0: should be greater than or equal to 0, found -1"),
        ({"trials": {}}, "pipeline parameters: trials: needs at least 1, found none"),
        ({"folds": [1, 1]}, "pipeline parameters: folds"),
        ({"folds": [1, 9]}, "folds: demo has no fold 9; its folds are 1, 2, 3, 4, 5"),
        ({"folds": [], "overrides": {"train.hold_out": [2, 3, 4, 5]}}, "leaves 1 of the folds 1, 2, 3, 4, 5 of demo"),
        (
            {"folds": [], "overrides": {"train.hold_out": [2, 3, 4], "train.calibration_fold": 5}},
            "train.hold_out=[2, 3, 4] with train.calibration_fold=5 leaves 1 of the folds 1, 2, 3, 4, 5 of demo",
        ),
        ({"trials": {"a": {"max_lr": 0.1}, "b": {"max_lr": 0.2}}}, "train.hold_out is empty"),
        ({"trials": {"a": {"max_rl": 0.1}}}, "trial a: max_rl: unknown key"),
        ({"overrides": {"train.hold_out": [2]}}, "fold 2 is held out"),
    ],
)
def test_an_impossible_plan_is_refused_in_one_sentence(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(AudioCNNError) as refused:
        check_plan.python_func(**{**PLAN, **changed})
    assert words in str(refused.value) and "\n" not in str(refused.value)
