"""What is sent for a run: image, version, names and arguments."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.strict_model import SettingsError, merge
from components.ingest.sources import SourceError
from components.plan_trials.request import PlanRequest
from mlops.image import REPOSITORY
from mlops.run_parameters import resolve_parameters
from mlops.settings import difference, parse_overrides
from pipeline.compile import CROSSVAL, TRAINING
from pipeline.experiments import crossval_request
from pipeline.kubeflow import image as image_module
from pipeline.kubeflow import submission
from pipeline.kubeflow.errors import KubeflowError
from pipeline.kubeflow.image import choose_image, short_revision
from pipeline.kubeflow.overrides import changed_settings
from pipeline.settings import PipelineSettings, load

IMAGE = f"{REPOSITORY}:a1b2c3d"
TYPES = {"STRING": str, "NUMBER_INTEGER": int, "STRUCT": dict, "LIST": list}


def settings_of(repository: Path, *assignments: str) -> PipelineSettings:
    return load(repository / "params.yaml", parse_overrides([*assignments]))


def training(settings: PipelineSettings, source: str = "demo", image: str = IMAGE) -> submission.Submission:
    return submission.training(settings, source, 1, image)


def crossval(settings: PipelineSettings, seeds: int = 1, **trials: dict[str, Any]) -> submission.Submission:
    request = crossval_request(settings, "demo", "1,2", seeds)
    if trials:
        request = PlanRequest.parse({**request.to_dict(), "trials": trials}, "test")
    return submission.crossval(settings, "demo", request, 3, IMAGE)


def test_every_argument_is_a_parameter_with_its_type(committed: Path) -> None:
    settings = settings_of(committed, "train.epochs=3")
    for sent, file in ((training(settings), TRAINING), (crossval(settings), CROSSVAL)):
        spec = next(yaml.safe_load_all(file.read_text(encoding="utf-8")))
        parameters = spec["root"]["inputDefinitions"]["parameters"]
        assert set(sent.arguments) == set(parameters)
        for name, value in sent.arguments.items():
            assert type(value) is TYPES[parameters[name]["parameterType"]], name


def test_the_arguments_resolve_to_the_settings_of_this_machine(committed: Path) -> None:
    chosen = ["recipe=strong", "train.epochs=3", "train.fold=2", "train.seed=7", "register.name=birds"]
    chosen += ["resources.nodes=2", "resources.gpus_per_node=4", "ingest.policy.silent=warn"]
    settings = settings_of(committed, *chosen)
    arguments = training(settings).arguments
    assert arguments["overrides"] == {"train": {"epochs": 3}, "ingest": {"policy": {"silent": "warn"}}}
    own = {name: arguments[name] for name in ("fold", "seed", "nodes", "gpus_per_node", "model_name")}
    resolved = resolve_parameters(arguments["recipe"], arguments["overrides"], **own)
    assert resolved.parse(PipelineSettings) == settings


def test_a_changed_params_yaml_is_sent_as_overrides(committed: Path) -> None:
    file = committed / "params.yaml"
    assert changed_settings(settings_of(committed)) == {}
    file.write_text(file.read_text().replace("min_accuracy: 0.6", "min_accuracy: 0.9"))
    recipe = committed / "recipes" / "strong.yaml"
    recipe.write_text(recipe.read_text().replace("batch_size:", "batch_size: 13  #"))
    assert changed_settings(settings_of(committed)) == {"promote": {"min_accuracy": 0.9}}
    assert changed_settings(settings_of(committed, "recipe=strong")) == {
        "promote": {"min_accuracy": 0.9},
        "train": {"batch_size": 13},
    }


NESTED = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2)),
    lambda inner: st.dictionaries(st.text("ab.", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("ab.", min_size=1, max_size=2), NESTED), st.data())
def test_overrides_turn_the_committed_settings_into_those_of_this_machine(
    committed_values: dict[str, Any], data: st.DataObject
) -> None:
    values = data.draw(st.fixed_dictionaries(dict.fromkeys(committed_values, NESTED), optional={"c": NESTED}))
    try:
        changes = difference(values, committed_values)
    except SettingsError as error:
        assert "overrides cannot remove a key" in str(error)
    else:
        assert merge(committed_values, changes) == values
        assert (changes == {}) == (values == committed_values)


def test_labels_of_nodes_are_sent_with_their_dots(committed: Path) -> None:
    settings = settings_of(committed, 'resources.node_selector={"example.org/gpu": "l4"}')
    assert changed_settings(settings) == {"resources": {"node_selector": {"example.org/gpu": "l4"}}}
    overrides = changed_settings(settings)
    assert resolve_parameters("seed", overrides).parse(PipelineSettings).resources == settings.resources


def test_what_the_image_cannot_run_is_refused(committed: Path) -> None:
    (committed / "recipes" / "own.yaml").write_text((committed / "recipes" / "seed.yaml").read_text())
    with pytest.raises(
        KubeflowError, match=r"unknown recipe 'own'.*; commit your changes and build a new image"
    ) as raised:
        changed_settings(settings_of(committed, "recipe=own"))
    assert str(committed) not in str(raised.value) and "/tmp" not in str(raised.value)
    file = committed / "params.yaml"
    file.write_text(file.read_text().replace("node_selector: {}", "node_selector: {a: b}"))
    subprocess.run(["git", "-C", str(committed), "-c", "user.name=T", "-c", "user.email=t@x", "commit", "-qam", "x"])
    file.write_text(file.read_text().replace("node_selector: {a: b}", "node_selector: {}"))
    with pytest.raises(SettingsError, match=r"resources.node_selector.a: overrides cannot remove a key"):
        changed_settings(settings_of(committed))


def test_in_an_image_its_own_files_are_the_committed_ones(
    committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert changed_settings(settings_of(committed, "train.epochs=3")) == {"train": {"epochs": 3}}


def test_all_settings_are_sent_if_the_revision_is_unknown(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "git_revision", lambda: "unknown")
    settings = settings_of(committed, "recipe=demo", "train.fold=2", "promote.min_accuracy=0.7")
    overrides = changed_settings(settings)
    assert overrides["promote"] == settings.promote.to_dict() and "fold" not in overrides["train"]
    assert resolve_parameters("demo", overrides, fold=2).parse(PipelineSettings) == settings


def test_runs_are_named_for_people(committed: Path) -> None:
    settings = settings_of(committed, "recipe=strong", "train.fold=4")
    assert training(settings, "esc50").name == "esc50 strong fold 4 a1b2c3d"
    assert training(settings, "s3://clips/2026/birds/").title == "birds strong fold 4"
    assert training(settings, "s3://clips").title == "clips strong fold 4"
    assert training(settings, "https://example.org/birds.zip?signature=secret").title == "birds strong fold 4"
    assert training(settings, f"dvc:{'0' * 32}.dir").title == "dvc strong fold 4"
    assert crossval(settings).name == "demo strong cross-validation a1b2c3d"
    assert crossval(settings, a={}, b={"epochs": 3}).name == "demo strong sweep of 2 a1b2c3d"


def test_a_cross_validation_has_folds_seeds_and_trials(committed: Path) -> None:
    arguments = crossval(settings_of(committed, "train.seed=3"), seeds=2, a={}, b={"epochs": 3}).arguments
    assert (arguments["folds"], arguments["seeds"], arguments["shards"]) == ([1, 2], [3, 4], 3)
    assert arguments["trials"] == {"a": {}, "b": {"epochs": 3}} and arguments["overrides"] == {}


@pytest.mark.parametrize("source", [".", "/data/esc50", "~/clips", "clips.zip"])
def test_a_source_on_this_machine_is_refused(source: str, committed: Path) -> None:
    with pytest.raises(KubeflowError, match=r"do not see the files of this machine; .* s3://bucket/prefix .* esc50"):
        training(settings_of(committed), source)


def test_an_unknown_source_is_refused(committed: Path) -> None:
    with pytest.raises(SourceError, match="is unknown"):
        training(settings_of(committed), "gs://bucket/clips")
    with pytest.raises(SourceError, match="git cannot read"):
        training(settings_of(committed), "dvc:no-such-revision")


def test_data_of_dvc_is_named_by_its_content(committed: Path) -> None:
    assert re.fullmatch(r"dvc:[0-9a-f]{32}\.dir", training(settings_of(committed), "dvc").arguments["source"])


def test_the_version_is_the_revision_if_all_follows_from_it(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(committed)
    plain = training(settings)
    assert (plain.pipeline, plain.version) == ("audiocnn-training", "a1b2c3d")
    others = [training(settings, image="registry.example.org/audiocnn:a1b2c3d")]
    for revision in ("a1b2c3d4e5-dirty", "unknown"):
        monkeypatch.setattr(image_module, "git_revision", lambda revision=revision: revision)
        others.append(training(settings))
    versions = [other.version for other in others]
    assert len(set(versions)) == 3
    for version, start in zip(versions, ("a1b2c3d", "a1b2c3d-dirty", "unknown"), strict=True):
        assert re.fullmatch(rf"{start}-[0-9a-f]{{8}}", version)


def test_parameters_do_not_change_the_version(committed: Path) -> None:
    chosen = ["train.epochs=3", "resources.nodes=2", "resources.gpus_per_node=8", "recipe=strong", "train.fold=1"]
    assert training(settings_of(committed, *chosen)).version == "a1b2c3d"


def test_the_compiled_pipeline_has_the_image_and_the_resources(committed: Path) -> None:
    settings = settings_of(committed, "resources.gpu=amd.com/gpu")
    sent = training(settings)
    assert re.fullmatch(r"a1b2c3d-[0-9a-f]{8}", sent.version)
    spec = next(yaml.safe_load_all(sent.compiled))
    executors = spec["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {IMAGE}
    assert "amd.com/gpu" in str(executors["exec-train"]["container"]["resources"])


def test_a_cross_validation_without_gpus_requests_none(committed: Path) -> None:
    sent = crossval(settings_of(committed, "resources.gpus_per_node=0"))
    train = next(yaml.safe_load_all(sent.compiled))["deploymentSpec"]["executors"]["exec-train"]
    assert train["container"]["resources"]["accelerator"]["resourceCount"] == "0"


@pytest.mark.parametrize(
    ("given_name", "chosen"),
    [
        (None, IMAGE),
        ("registry.example.org/team/audiocnn", "registry.example.org/team/audiocnn:a1b2c3d"),
        ("registry:5000/audiocnn", "registry:5000/audiocnn:a1b2c3d"),
        ("localhost/audiocnn:1", "localhost/audiocnn:1"),
        ("ghcr.io/a/b@sha256:0123", "ghcr.io/a/b@sha256:0123"),
    ],
)
def test_an_image_without_a_tag_gets_that_of_the_revision(given_name: str | None, chosen: str, committed: Path) -> None:
    assert choose_image(given_name) == chosen


@pytest.mark.parametrize("name", ["audiocnn-pipeline", "audiocnn-pipeline:0.1.0", "team/audiocnn:1"])
def test_an_image_that_no_cluster_can_pull_is_refused(name: str, committed: Path) -> None:
    with pytest.raises(KubeflowError, match=r"without a registry in its name.*--image-on-nodes"):
        choose_image(name)
    assert choose_image(name, on_nodes=True).startswith(name)


@pytest.mark.parametrize("name", ["ghcr.io/a/B:1", "ghcr.io/a b:1", "ghcr.io/a:", "ghcr.io/a@", "ghcr.io/a:1 ", "x/"])
def test_an_invalid_name_of_an_image_is_refused(name: str, committed: Path) -> None:
    with pytest.raises(KubeflowError, match="is not the name of an image"):
        choose_image(name, on_nodes=True)


def test_an_unknown_revision_needs_a_tag(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "git_revision", lambda: "unknown")
    assert short_revision() == "unknown" and choose_image("ghcr.io/a/b:1") == "ghcr.io/a/b:1"
    with pytest.raises(KubeflowError, match=r"the git revision is unknown.*--image NAME:TAG"):
        choose_image(None)


def test_cron_gets_the_seconds_that_kubeflow_wants() -> None:
    assert submission.parse_cron("0 3 * * 1") == "0 0 3 * * 1"
    assert submission.parse_cron("  30 0 3 ? * MON-FRI ") == "30 0 3 ? * MON-FRI"


@given(st.text(max_size=20))
def test_cron_is_refused_or_has_six_fields(text: str) -> None:
    try:
        parsed = submission.parse_cron(text)
    except KubeflowError as error:
        assert "expected minute, hour" in str(error) and "\n" not in str(error)
    else:
        assert len(parsed.split(" ")) == 6 and parsed.isascii()
