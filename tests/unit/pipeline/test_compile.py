"""The compiled pipelines that Kubeflow reads: parameters, tasks, outputs and the exit handler."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from helpers.compiled import Graph, read_graph
from helpers.project import ROOT

from pipeline import compile as compiling
from pipeline import settings as pipeline_settings
from pipeline.compile import CROSSVAL, TRAINING
from pipeline.steps import CROSSVAL_STEPS, OUTPUTS, TITLES, TRAINING_STEPS

SETTINGS = pipeline_settings.load(ROOT / "params.yaml")
COMMON = {"source": "demo", "recipe": SETTINGS.recipe, "overrides": {}, "shards": 1}


def defaults(graph: Graph) -> dict[str, Any]:
    parameters = graph.spec.root.input_definitions.parameters
    return {name: json_format.MessageToDict(parameter.default_value) for name, parameter in parameters.items()}


def test_committed_files_are_up_to_date() -> None:
    assert compiling.outdated() == [], "run `make compile` and commit"


def test_outdated_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    shutil.copytree(compiling.COMPILED, tmp_path, dirs_exist_ok=True)
    (tmp_path / "old.yaml").write_text("left behind")
    training = tmp_path / "training.yaml"
    training.write_text(training.read_text().replace("audiocnn-pipeline:", "other:"))
    assert compiling.outdated(tmp_path) == ["old.yaml", "training.yaml"]
    training.unlink()
    assert compiling.outdated(tmp_path) == ["old.yaml", "training.yaml"]


def test_parameters_of_the_training_are_for_people(training: Graph) -> None:
    keys = {"fold": SETTINGS.train.fold, "seed": SETTINGS.train.seed, "model_name": SETTINGS.register.name}
    nodes = {"nodes": SETTINGS.resources.nodes, "gpus_per_node": SETTINGS.resources.gpus_per_node}
    assert defaults(training) == {**COMMON, **keys, **nodes}


def test_parameters_of_the_cross_validation_train_on_every_fold_once(crossval: Graph) -> None:
    many = {"folds": [], "seeds": [SETTINGS.train.seed], "trials": {"unchanged": {}}}
    assert defaults(crossval) == {**COMMON, **many}


def test_the_ui_describes_pipelines_and_parameters(graph: Graph) -> None:
    assert graph.spec.pipeline_info.display_name.startswith("Audio CNN: ") and graph.spec.pipeline_info.description
    described = {name: each.description for name, each in graph.spec.root.input_definitions.parameters.items()}
    assert all(text.endswith(".") for text in described.values()), described


@pytest.mark.parametrize(
    ("path", "steps"),
    [(TRAINING, ("check_parameters", *TRAINING_STEPS)), (CROSSVAL, ("check_plan", *CROSSVAL_STEPS))],
)
def test_graphs_have_the_steps_of_the_local_runner(path: Path, steps: tuple[str, ...]) -> None:
    tasks = read_graph(path.read_text(encoding="utf-8")).tasks
    assert {name.replace("-", "_") for name in tasks} == {*steps, "spectrogram_shard", "notify"}


def test_titles_and_outputs_are_those_of_the_local_runner(graph: Graph) -> None:
    for name, task in graph.tasks.items():
        step = name.replace("-", "_")
        assert task.task_info.name == TITLES[step]
        if step in OUTPUTS and step != "plan_trials":  # which returns a list
            assert OUTPUTS[step] in outputs(graph, name)


def outputs(graph: Graph, name: str) -> dict[str, str]:
    """Return the outputs of a task with their types, as far as the Kubeflow UI shows them by type."""
    definitions = graph.spec.components[f"comp-{name}"].output_definitions.artifacts
    return {key: artifact.artifact_type.schema_title.removeprefix("system.") for key, artifact in definitions.items()}


def test_the_ui_shows_reports_metrics_and_the_decision(training: Graph, crossval: Graph) -> None:
    for graph, name in ((training, "evaluate"), (crossval, "evaluate"), (crossval, "aggregate")):
        found = outputs(graph, name)
        shown = {"metrics": "Metrics", "confusion": "ClassificationMetrics", "report": "HTML"}
        assert shown.items() <= found.items(), name
    assert {"report": "HTML", "statistics": "Metrics"}.items() <= outputs(training, "ingest").items()
    assert outputs(training, "train") == {"model": "Model", "curves": "HTML"}
    assert outputs(training, "register")["card"] == "Markdown"
    assert outputs(training, "promote").items() >= {"decision": "Markdown", "comparison": "HTML"}.items()


def test_only_deploy_is_conditional(training: Graph) -> None:
    every = {name: task for group in training.groups.values() for name, task in group.items()}
    (condition,) = {task.trigger_policy.condition for task in every.values()} - {""}
    # KFP's local runner skips a condition on a named output without a message.
    assert condition == "inputs.parameter_values['pipelinechannel--promote-Output'] == 'promote'"
    assert set(training.groups["promoted"]) == {"deploy"}


def test_folds_are_trained_and_evaluated_side_by_side(crossval: Graph) -> None:
    assert set(crossval.groups["trainings"]) == {"train", "evaluate"}
    assert (
        crossval.tasks["train"]
        .inputs.parameters["planned"]
        .component_input_parameter.startswith("pipelinechannel--plan-trials-Output-loop-item")
    )


def test_kfp_caches_nothing(graph: Graph) -> None:
    assert not any(task.caching_options.enable_cache for task in graph.tasks.values())


def test_parameters_are_checked_before_anything_else(graph: Graph) -> None:
    run = graph.groups["run"]
    first = [name for name, task in run.items() if not task.dependent_tasks]
    assert first in (["check-parameters"], ["check-plan"])
    assert list(run["ingest"].dependent_tasks) == first


def test_a_failure_of_any_task_is_reported(graph: Graph) -> None:
    assert set(graph.groups[""]) == {"notify", "exit-handler-1"}
    notify = graph.tasks["notify"]
    assert notify.trigger_policy.strategy == type(notify.trigger_policy).ALL_UPSTREAM_TASKS_COMPLETED
    assert notify.inputs.parameters["status"].task_final_status.producer_task == "exit-handler-1"
    sources = {notify.inputs.parameters[name].component_input_parameter for name in ("recipe", "overrides")}
    assert sources == {"recipe", "overrides"}


@pytest.mark.parametrize("name", ["notify", "train", "plan-trials"])
def test_tasks_know_their_kubeflow_run(training: Graph, crossval: Graph, name: str) -> None:
    tasks = {**training.tasks, **crossval.tasks}
    assert tasks[name].inputs.parameters["kfp_run"].runtime_value.constant.string_value == "{{$.pipeline_job_uuid}}"


def test_steps_receive_recipe_and_overrides(graph: Graph) -> None:
    for name, task in graph.tasks.items():
        for parameter in ("recipe", "overrides"):
            source = task.inputs.parameters[parameter].component_input_parameter
            assert source.removeprefix("pipelinechannel--") == parameter, name


@pytest.mark.parametrize(
    ("parameter", "tasks"),
    [
        ("source", {"check-parameters", "ingest"}),
        ("shards", {"check-parameters", "ingest"}),
        ("fold", {"check-parameters", "train"}),
        ("seed", {"check-parameters", "train"}),
        ("nodes", {"check-parameters", "train"}),
        ("gpus_per_node", {"check-parameters", "train"}),
        ("model_name", {"check-parameters", "register"}),
    ],
)
def test_other_parameters_reach_the_tasks_that_use_them(training: Graph, parameter: str, tasks: set[str]) -> None:
    given = {
        name
        for name, task in training.tasks.items()
        if task.inputs.parameters[parameter].component_input_parameter == f"pipelinechannel--{parameter}"
    }
    assert given == tasks
