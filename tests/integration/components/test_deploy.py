"""The step deploy with a real registry and a real TorchServe, which the step starts."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from helpers.processes import is_alive
from helpers.project import ROOT
from helpers.torchserve import (
    build,
    deploy_settings,
    encode,
    free_ports,
    noise,
    probabilities,
    registered_models,
    requests_under_way,
    with_the_model_of,
)

from audiocnn.classifier import Classifier
from audiocnn.data.clips import DatasetError
from components.deploy.settings import DeploySettings
from components.deploy.smoke_test import SmokeTestError
from components.deploy.step import DeployError, deploy
from mlops import tracking
from mlops.artifacts import DatasetFolder, DeploymentFolder, DeploymentRecord
from serving.torchserve import server as torchserve
from serving.torchserve.client import ServingError, TorchServeClient, from_served_version
from serving.torchserve.settings import ARCHIVE_FOLDER

pytestmark = pytest.mark.xdist_group("deploy")
NAME = "deployed"
CLI = "from pipeline.cli import app; app()"
CLIP = encode(noise())


@dataclass(frozen=True)
class Environment:
    """A registry with three versions of one model, and the settings of a TorchServe."""

    settings: DeploySettings
    models: dict[int, Classifier]
    folder: Path
    dataset: Path

    @property
    def client(self) -> TorchServeClient:
        return TorchServeClient.from_settings(self.settings)

    @property
    def model_store(self) -> Path:
        return Path(self.settings.state) / ARCHIVE_FOLDER

    def deploy(self, champion: int) -> DeploymentRecord:
        tracking.set_alias(NAME, "champion", champion)
        return deploy(NAME, self.dataset, self.settings, self.folder / "deployment")

    def requests_under_way(self) -> AbstractContextManager[tuple[list[int], list[ServingError]]]:
        """Send requests from four clients in a block."""
        return requests_under_way([[self.client] for _ in range(4)], NAME, CLIP)

    def served_versions(self) -> list[int]:
        return [from_served_version(each.version) for each in self.client.list_versions(NAME)]

    def serves(self, number: int) -> bool:
        """Return whether the URL without a version answers with the probabilities of that version."""
        answer = self.client.predict(CLIP, NAME)
        expected = probabilities(self.models[number], CLIP)
        same = all(abs(item["probability"] - expected[item["class"]]) < 1e-5 for item in answer["predictions"])
        return same and answer["model"]["version"] == number


@pytest.fixture(scope="module")
def env(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    folder = tmp_path_factory.mktemp("deploy")
    models = registered_models(folder, NAME, dataset)
    settings = deploy_settings(folder / "state", backend="torch")
    try:
        yield Environment(settings, models, folder, dataset)
    finally:
        torchserve.stop(Path(settings.state))


def test_nothing_is_started_without_a_champion(env, tmp_path):
    torchserve.stop(Path(env.settings.state))
    with pytest.raises(DeployError, match="'unknown' has no version under the alias champion"):
        deploy("unknown", env.dataset, env.settings, tmp_path / "deployment")
    assert torchserve.find(Path(env.settings.state)) is None
    assert not (tmp_path / "deployment").exists()


def test_missing_server_is_reported_if_start_is_false(env, tmp_path):
    settings = deploy_settings(tmp_path / "state", start=False)
    tracking.set_alias(NAME, "champion", 1)
    with pytest.raises(ServingError, match="cannot be reached"):
        deploy(NAME, env.dataset, settings, tmp_path / "deployment")


def test_first_deploy_starts_torchserve_and_writes_its_record(env, capsys):
    torchserve.stop(Path(env.settings.state))
    record = env.deploy(champion=1)
    assert env.serves(1)
    assert record == DeploymentFolder(env.folder / "deployment").record()
    assert (record.name, record.version, record.previous) == (NAME, 1, None)
    assert record.model_url == f"{env.settings.inference}/predictions/{NAME}"
    clips = DatasetFolder(env.dataset).clips()
    assert clips.set_index("filename")["fold"][record.smoke["clip"]] == 2  # the model's test fold
    assert record.smoke["max_difference"] < 1e-5
    assert tracking.get_version(NAME, 1).tags["deployed_to"] == record.model_url
    assert "smoke test: " in capsys.readouterr().out


def test_repeated_deploy_restarts_no_process(env):
    env.deploy(champion=1)
    before = processes(env)
    record = env.deploy(champion=1)
    assert processes(env) == before
    assert (record.version, record.previous) == (1, None)


def processes(env) -> set[int]:
    java = torchserve.find(Path(env.settings.state))
    return {java.pid, *(child.pid for child in java.children(recursive=True))}


def test_no_request_fails_during_the_switch(env):
    env.deploy(champion=1)
    with env.requests_under_way() as (answers, failures):
        record = env.deploy(champion=2)
    assert failures == []
    assert set(answers) == {1, 2}
    assert set(answers[-16:]) == {2}
    assert (record.version, record.previous) == (2, 1)
    assert env.served_versions() == [2]
    assert not list(env.model_store.glob(f"{NAME}-1.*.mar"))
    assert env.serves(2)


def test_deploy_after_moving_the_alias_back_is_a_rollback(env):
    env.deploy(champion=2)
    record = env.deploy(champion=1)
    assert (record.version, record.previous) == (1, 2)
    assert env.served_versions() == [1]
    assert env.serves(1)


def test_version_that_fails_the_smoke_test_is_never_the_default(env):
    env.deploy(champion=1)
    index = build(env.folder / "3", NAME, 3, env.model_store)
    with_the_model_of(env.folder / "2", env.model_store / index.archive)
    env.client.register(index)
    before = DeploymentFolder(env.folder / "deployment").record()
    with pytest.raises(SmokeTestError, match="version 3: the served probabilities differ from the model's"):
        env.deploy(champion=3)
    assert env.served_versions() == [1]
    assert env.serves(1)
    assert DeploymentFolder(env.folder / "deployment").record() == before
    assert not {"deployed_at", "deployed_to"} & tracking.get_version(NAME, 3).tags.keys()


def test_version_that_answers_too_slowly_is_never_the_default(env, tmp_path):
    env.deploy(champion=1)
    tracking.set_alias(NAME, "champion", 3)
    with pytest.raises(
        SmokeTestError, match=r"version 3: .* \(median of 5 requests\), more than deploy.max_latency_ms=1;"
    ):
        deploy(NAME, env.dataset, env.settings.replace(max_latency_ms=1.0), tmp_path / "deployment")
    assert len(env.served_versions()) == 1
    assert env.serves(1)


def test_interrupted_deploy_is_completed(env):
    env.deploy(champion=1)
    # The deploy ended after it had registered and tested the version.
    env.client.register(build(env.folder / "3", NAME, 3, env.model_store))
    env.deploy(champion=3)
    assert env.served_versions() == [3]
    assert env.serves(3)


def test_changed_settings_are_applied_without_an_unanswered_request(env):
    env.deploy(champion=3)
    changed = env.settings.replace(backend="auto", batch_size=3, max_batch_delay_ms=1, workers=2)
    with env.requests_under_way() as (answers, failures):
        deployment = env.folder / "changed"
        record = deploy(NAME, env.dataset, changed, deployment)
    assert (record.version, record.previous, record.backend) == (3, None, "openvino")
    (described,) = env.client._describe(NAME)
    assert (described["batchSize"], described["maxBatchDelay"], described["minWorkers"]) == (3, 1, 2)
    assert failures == [] and set(answers) == {3} and env.serves(3)
    assert len(list(env.model_store.glob("*.mar"))) == 1
    assert deploy(NAME, env.dataset, env.settings, deployment).backend == "torch"


def test_smoke_test_uses_the_input_example_without_a_data_set(env, tmp_path):
    env.deploy(champion=3)
    record = deploy(NAME, None, env.settings, tmp_path / "deployment")
    assert record.smoke["clip"] == "the input example"
    assert record.smoke["max_difference"] < 1e-5


def test_folder_without_a_clip_table_is_refused(env, tmp_path):
    tracking.set_alias(NAME, "champion", 1)
    with pytest.raises(DatasetError, match="clip table"):
        deploy(NAME, tmp_path, env.settings, tmp_path / "deployment")


def test_component_passes_its_settings_to_the_step(env, tmp_path):
    from types import SimpleNamespace

    from components.deploy.component import deploy as component

    env.deploy(champion=3)
    block = {key: float(value) if type(value) is int else value for key, value in env.settings.to_dict().items()}
    deployment = SimpleNamespace(path=str(tmp_path / "deployment"), metadata={})
    component.python_func(SimpleNamespace(path=str(env.dataset)), NAME, "demo", {"deploy": block}, deployment)
    assert deployment.metadata["version"] == 3
    assert DeploymentFolder(tmp_path / "deployment").record().version == 3


def test_command_prints_one_sentence_and_exits_with_2(env, tmp_path):
    import typer
    from typer.testing import CliRunner

    from components.deploy.__main__ import main
    from mlops.command_line import errors_to_exit

    tracking.set_alias(NAME, "champion", 1)
    app = typer.Typer()
    app.command()(errors_to_exit()(main))
    port = free_ports(1)[0]
    nowhere = [f"deploy.{key}=http://127.0.0.1:{port}" for key in ("inference", "management")]
    changes = [*nowhere, "deploy.start=false", f"deploy.state={tmp_path}/state", f"register.name={NAME}"]
    arguments = [word for change in changes for word in ("--set", change)]
    result = CliRunner().invoke(app, ["--dataset", str(env.dataset), "--output", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: TorchServe at http://127.0.0.1")
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_stop_ends_all_processes_that_deploy_started(env):
    env.deploy(champion=3)
    tree = [psutil.Process(pid) for pid in processes(env)]
    assert torchserve.stop(Path(env.settings.state))
    assert not [process for process in tree if is_alive(process)]


@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGHUP, "starting TorchServe"), (signal.SIGTERM, "registering with")]
)
def test_killed_command_stops_the_torchserve_that_it_started(env, tmp_path, number, after):
    tracking.set_alias(NAME, "champion", 1)
    settings = deploy_settings(tmp_path / "state")
    changes = [f"deploy.{key}={getattr(settings, key)}" for key in ("inference", "management", "metrics", "state")]
    changes += [f"gateway.port={free_ports(1)[0]}", f"register.name={NAME}"]
    command = [sys.executable, "-u", "-c", CLI, "deploy", "--params", str(ROOT / "params.yaml")]
    command += [word for change in changes for word in ("--set", change)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        for line in program.stdout:
            if after in line:
                program.send_signal(number)
                break
        _, errors = program.communicate(timeout=120)
    assert (program.returncode, "interrupted" in errors) == (130, True), errors
    assert "Traceback" not in errors
    left = [each for each in psutil.process_iter(["cmdline"]) if str(settings.state) in str(each.info["cmdline"])]
    assert not left


def test_failed_deploy_stops_the_torchserve_that_it_started(env, tmp_path):
    tracking.set_alias(NAME, "champion", 1)
    settings = deploy_settings(tmp_path / "state", max_request_bytes=1000)  # smaller than the clip of the smoke test
    with pytest.raises(ServingError, match=r"larger than deploy\.max_request_bytes"):
        deploy(NAME, env.dataset, settings, tmp_path / "deployment")
    assert torchserve.find(tmp_path / "state") is None
