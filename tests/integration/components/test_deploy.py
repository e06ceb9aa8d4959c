"""The step deploy against a real registry and a real TorchServe, which the step itself starts."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from helpers.project import ROOT, read_json
from helpers.torchserve import deploy_settings, encode, free_ports, noise, probabilities, small_model

from audiocnn.classifier import Classifier
from audiocnn.data.clips import DatasetError, digest, read_clips
from components.deploy.settings import DeploySettings
from components.deploy.step import Clip, DeployError, _drain, deploy
from mlops import tracking
from serving.torchserve import archive
from serving.torchserve import server as process
from serving.torchserve.client import Served, ServingError, TorchServe

pytestmark = pytest.mark.xdist_group("deploy")
NAME = "deployed"
CLIP = encode(noise())


@dataclass(frozen=True)
class Place:
    """A registry with three versions of one model, and where TorchServe will be."""

    settings: DeploySettings
    models: dict[int, Classifier]
    folder: Path
    dataset: Path

    @property
    def server(self) -> TorchServe:
        return TorchServe.of(self.settings)

    @property
    def store(self) -> Path:
        return Path(self.settings.state) / process.STORE

    def deploy(self, champion: int) -> dict:
        tracking.set_alias(NAME, "champion", champion)
        return deploy(NAME, self.dataset, self.settings, self.folder / "deployment")

    def served(self) -> list[str]:
        return [each.version for each in self.server.describe(NAME)]

    def answers_as(self, number: int) -> bool:
        """Whether the URL without a version gives that model's own probabilities."""
        answer = self.server.predict(CLIP, NAME)
        expected = probabilities(self.models[number], CLIP)
        same = all(abs(item["probability"] - expected[item["class"]]) < 1e-5 for item in answer["predictions"])
        return same and answer["model"]["version"] == number


@pytest.fixture(scope="module")
def place(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("deploy")
    described = digest(read_clips(dataset / "clips.csv"))
    models = {number: register(folder / str(number), number, described) for number in (1, 2, 3)}
    settings = deploy_settings(folder / "state")
    try:
        yield Place(settings, models, folder, dataset)
    finally:
        process.stop(Path(settings.state))


def register(folder: Path, number: int, described: str) -> Classifier:
    classifier = small_model(folder, seed=number, digest=described)
    lineage = tracking.Lineage(described, "demo", 50)
    with tracking.start_run(f"train {number}", {}, {}, lineage) as run:
        run_id = run.run_id
    version = tracking.register_model(
        run_id,
        folder,
        NAME,
        classes=classifier.classes,
        example=CLIP,
        card="A model.",
        tags={tracking.WEIGHTS_TAG: classifier.weights_sha256},
        metrics={},
    )
    assert version.number == number
    return classifier


def test_without_a_champion_nothing_is_started(place, tmp_path):
    process.stop(Path(place.settings.state))
    with pytest.raises(DeployError, match="'nobody' has no version under the alias champion"):
        deploy("nobody", place.dataset, place.settings, tmp_path / "deployment")
    assert not place.server.answers()
    assert not (tmp_path / "deployment").exists()


def test_without_start_a_missing_server_is_one_sentence(place, tmp_path):
    settings = replace(deploy_settings(tmp_path / "state"), start=False)
    tracking.set_alias(NAME, "champion", 1)
    with pytest.raises(ServingError, match="no TorchServe answers at"):
        deploy(NAME, place.dataset, settings, tmp_path / "deployment")


def test_first_deploy_starts_torchserve_and_records_what_it_did(place, capsys):
    process.stop(Path(place.settings.state))
    record = place.deploy(champion=1)
    assert place.answers_as(1)
    assert record == read_json(place.folder / "deployment" / "deployment.json")
    assert (record["name"], record["version"], record["previous"]) == (NAME, 1, None)
    assert record["model_url"] == f"{place.settings.inference}/predictions/{NAME}"
    clips = read_clips(place.dataset / "clips.csv")
    assert clips.set_index("filename")["fold"][record["smoke"]["clip"]] == 2  # the fold that the model has not seen
    assert record["smoke"]["max_difference"] < 1e-5
    assert tracking.get_version(NAME, 1).tags["deployed_to"] == record["model_url"]
    assert "[deploy] smoke test: " in capsys.readouterr().out


def test_repeating_it_leaves_server_and_workers_alone(place):
    place.deploy(champion=1)
    before = processes(place)
    record = place.deploy(champion=1)
    assert processes(place) == before
    assert (record["version"], record["previous"]) == (1, None)


def processes(place) -> set[int]:
    java = process.find(Path(place.settings.state))
    return {java.pid, *(child.pid for child in java.children(recursive=True))}


def test_switch_fails_no_request_of_a_steady_stream(place):
    place.deploy(champion=1)
    answers, failures, ended = [], [], threading.Event()

    def ask() -> None:
        server = TorchServe(place.settings.inference, place.settings.management, place.server.keys)
        while not ended.is_set() and len(answers) < 4000:
            try:
                answers.append(server.predict(CLIP, NAME)["model"]["version"])
            except ServingError as error:
                failures.append(error)

    streams = [threading.Thread(target=ask) for _ in range(4)]
    for stream in streams:
        stream.start()
    try:
        record = place.deploy(champion=2)
        after = len(answers)
        while len(answers) < after + 20 and not failures:
            ended.wait(0.05)
    finally:
        ended.set()
        for stream in streams:
            stream.join(60)
    assert failures == []
    assert set(answers) == {1, 2}
    assert set(answers[-16:]) == {2}
    assert (record["version"], record["previous"]) == (2, 1)
    assert place.served() == ["2.0"]
    assert not archive.location(NAME, 1, place.store).exists()
    assert place.answers_as(2)


def test_rollback_is_the_same_with_the_alias_moved_back(place):
    place.deploy(champion=2)
    record = place.deploy(champion=1)
    assert (record["version"], record["previous"]) == (1, 2)
    assert place.served() == ["1.0"]
    assert place.answers_as(1)


def test_version_that_answers_otherwise_than_its_model_never_becomes_the_default(place):
    place.deploy(champion=1)
    # Under the number 3 stands something else than the registry's version 3, as after a registry was made anew.
    impostor = archive.build(place.folder / "2", NAME, 3, place.store)
    place.server.register(impostor.name, NAME, "3.0", batch_size=8, max_batch_delay_ms=20, workers=1)
    before = read_json(place.folder / "deployment" / "deployment.json")
    tags = tracking.get_version(NAME, 3).tags
    with pytest.raises(DeployError, match="version 3 is served with other numbers than the model's"):
        place.deploy(champion=3)
    assert place.server.default(NAME) == "1.0"
    assert place.served() == ["1.0"]
    assert place.answers_as(1)
    assert read_json(place.folder / "deployment" / "deployment.json") == before
    assert tracking.get_version(NAME, 3).tags == tags


def test_what_an_interrupted_deploy_left_is_taken_up(place):
    place.deploy(champion=1)
    # Registered, tested, and then the machine that deployed went away.
    mar = archive.build(place.folder / "3", NAME, 3, place.store)
    place.server.register(mar.name, NAME, "3.0", batch_size=8, max_batch_delay_ms=20, workers=1)
    place.deploy(champion=3)
    assert place.served() == ["3.0"]
    assert place.answers_as(3)


def test_without_a_data_set_the_smoke_test_is_a_tone(place, tmp_path):
    place.deploy(champion=3)
    record = deploy(NAME, None, place.settings, tmp_path / "deployment")
    assert record["smoke"]["clip"] == "a tone of 440 Hz"
    assert record["smoke"]["max_difference"] < 1e-5


def test_folder_that_is_no_data_set_is_refused(place, tmp_path):
    tracking.set_alias(NAME, "champion", 1)
    with pytest.raises(DatasetError, match="no clip table"):
        deploy(NAME, tmp_path, place.settings, tmp_path / "deployment")


def test_component_hands_its_settings_to_the_step(place, tmp_path):
    from types import SimpleNamespace

    from components.deploy.component import deploy as component

    place.deploy(champion=3)
    block = {key: float(value) if type(value) is int else value for key, value in vars(place.settings).items()}
    deployment = SimpleNamespace(path=str(tmp_path / "deployment"), metadata={})
    component.python_func(SimpleNamespace(path=str(place.dataset)), NAME, block, deployment)
    assert deployment.metadata["version"] == 3
    assert read_json(tmp_path / "deployment" / "deployment.json")["version"] == 3


def test_command_says_one_sentence_and_exits_with_2(place, tmp_path):
    import typer
    from typer.testing import CliRunner

    from components.deploy.__main__ import main

    tracking.set_alias(NAME, "champion", 1)
    app = typer.Typer()
    app.command()(main)
    port = free_ports(1)[0]
    nowhere = [f"deploy.{key}=http://127.0.0.1:{port}" for key in ("inference", "management")]
    changes = [*nowhere, "deploy.start=false", f"deploy.state={tmp_path}/state", f"register.name={NAME}"]
    arguments = [word for change in changes for word in ("--set", change)]
    result = CliRunner().invoke(app, ["--dataset", str(place.dataset), "--output", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: no TorchServe answers at")
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_stopping_ends_every_process_that_deploy_started(place):
    place.deploy(champion=3)
    tree = processes(place)
    assert process.stop(Path(place.settings.state))
    assert not [pid for pid in tree if psutil.pid_exists(pid)]


@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGHUP, "starting TorchServe"), (signal.SIGTERM, "registering deployed")]
)
def test_command_that_is_killed_takes_the_torchserve_with_it_that_it_started(place, tmp_path, number, after):
    tracking.set_alias(NAME, "champion", 1)
    settings = deploy_settings(tmp_path / "state")
    changes = [f"deploy.{key}={getattr(settings, key)}" for key in ("inference", "management", "metrics", "state")]
    command = [sys.executable, "-u", "-m", "pipeline.cli", "deploy", "--params", str(ROOT / "params.yaml")]
    command += [word for change in [*changes, f"register.name={NAME}"] for word in ("--set", change)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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


def test_server_that_was_started_for_a_deploy_that_failed_is_stopped(place, tmp_path):
    tracking.set_alias(NAME, "champion", 1)
    settings = deploy_settings(tmp_path / "state", max_request_bytes=1000)  # less than the clip of the smoke test has
    with pytest.raises(ServingError, match="larger than the server takes"):
        deploy(NAME, place.dataset, settings, tmp_path / "deployment")
    assert process.find(tmp_path / "state") is None
    assert not TorchServe.of(settings).answers()


@pytest.mark.parametrize(
    ("ready", "answers", "asked"),
    [
        (1, [503, 503, None], 3),  # a full queue empties
        (1, [500], 1),
        (0, [503], 1),  # no worker: it will never answer
    ],
)
def test_a_full_queue_is_waited_for_before_its_version_goes(ready, answers, asked, monkeypatch):
    server, calls = TorchServe("http://127.0.0.1:1", "http://127.0.0.1:1"), []

    def predict(clip: bytes, name: str, version: str) -> dict:
        calls.append(version)
        if status := answers[len(calls) - 1]:
            raise ServingError("refused", status)
        return {}

    monkeypatch.setattr(server, "predict", predict)
    try:
        _drain(server, "sounds", Served("1.0", "sounds.mar", ready, {}), Clip("a.wav", b"", {}))
    except ServingError as error:
        assert error.status == answers[-1]
    assert calls == ["1.0"] * asked
