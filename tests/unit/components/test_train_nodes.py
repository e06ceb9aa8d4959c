"""Training on several nodes: the TrainJob, its model, its name, interruption and resumption."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from helpers.kfp_local import init_kfp_local, overrides_of
from helpers.kubernetes import Cluster
from helpers.mlflow import start as start_run
from helpers.networks import replace_settings
from helpers.nodes import TWO, Start, copy_script, shell
from helpers.project import ROOT
from helpers.train import run_of
from kfp import dsl

from audiocnn.classifier import Classifier
from audiocnn.config import TrainSettings
from audiocnn.data.clips import DatasetError
from components.train import nodes
from components.train.component import train
from components.train.settings import ResourceSettings
from components.train.trainjob_client import RBAC, TrainJobClient, TrainJobError
from mlops.artifacts import ModelFolder, TrainingRequest
from mlops.image import IMAGE, IMAGE_VARIABLE
from mlops.kubeflow_run import RUN_ID, RUN_URL
from pipeline.settings import PipelineSettings

# The task train in a process of its own, which tests interrupt and kill.
LAUNCHER = """
import json, sys
from pathlib import Path
from components.train import nodes
from components.train.settings import ResourceSettings
from mlops.artifacts import ModelFolder, TrainingRequest
nodes.POLL_SECONDS = 0.1
request = TrainingRequest.parse(json.loads(sys.argv[2]), "")
settings = ResourceSettings(nodes=2, gpus_per_node=0)
nodes.train(Path(sys.argv[1]), request, settings, Path("model"), "var/checkpoints")
"""


@pytest.fixture
def launcher(
    cluster: Cluster, spectrogram_folder: Path, model_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> Iterator[subprocess.Popen]:
    """A process that runs the same training as `start`; its nodes wait for a file `go`."""
    cluster.replace_command = shell(f"while [ ! -e go ]; do sleep 0.1; done; {copy_script(model_folder)}")
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(spectrogram_folder), json.dumps(request(tiny.train).to_dict())],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KUBECONFIG": str(cluster.kubeconfig(tmp_path / "kubeconfig"))},
    )
    wait_for(lambda: cluster.jobs and ("list", "", "pods") in cluster.requests, process)
    yield process
    process.kill()
    process.wait()


def request(settings: TrainSettings, **fields: str) -> TrainingRequest:
    return TrainingRequest(recipe="demo", settings=settings, **fields)


def wait_for(condition: Callable[[], object], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_two_nodes_train_the_model(
    start: Start, cluster: Cluster, tiny: PipelineSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    output = start()
    assert Classifier.load(output).provenance["train"] == tiny.train.to_dict()
    assert ModelFolder(output).history()["epoch"].tolist() == [1, 2]
    assert ModelFolder(output).run().run_id
    printed = capsys.readouterr().out
    assert "on 2 x cpu" in printed and printed.count("epoch 2/2") == 1
    (job,) = cluster.created
    assert job["spec"]["trainer"]["image"] == IMAGE
    assert cluster.deleted == [job["metadata"]["name"]] and not cluster.jobs
    assert not list(Path("var/trainjobs").iterdir()) and not list(Path("var/checkpoints").iterdir())


def test_component_starts_the_trainjob_in_its_own_image(
    copying_cluster: Cluster,
    spectrogram_folder: Path,
    tiny: PipelineSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("KUBECONFIG", str(copying_cluster.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setenv(IMAGE_VARIABLE, "registry.example.org/audiocnn:7")
    init_kfp_local(tmp_path, monkeypatch)

    @dsl.pipeline
    def training(overrides: dict, planned: dict) -> dsl.Model:
        importer = dsl.importer(artifact_uri=str(spectrogram_folder), artifact_class=dsl.Dataset, reimport=False)
        task = train(
            spectrograms=importer.output,
            recipe="demo",
            overrides=overrides,
            nodes=2,
            gpus_per_node=0,
            planned=planned,
            kfp_run="5c2f",
        )
        return task.outputs["model"]

    ui = tiny.kubeflow.replace(ui="https://kubeflow.example.org")
    calibrated = tiny.train.replace(calibration_fold=3)  # kfp.local accepts no null in a parameter
    planned = request(calibrated, trial="a trial", parent_run="a1b2").to_dict()
    model = training(overrides=overrides_of(tiny.replace(kubeflow=ui)), planned=planned).output
    assert Classifier.load(Path(model.path)).classes
    assert model.metadata["fold"] == 2 and model.metadata["recipe"] == "demo"
    (job,) = copying_cluster.created
    assert job["spec"]["trainer"]["image"] == "registry.example.org/audiocnn:7"
    assert job["spec"]["trainer"]["numNodes"] == 2
    environment = {each["name"]: each.get("value") for each in job["spec"]["trainer"]["env"]}
    assert environment[RUN_ID] == "5c2f"
    assert environment[RUN_URL] == "https://kubeflow.example.org/#/runs/details/5c2f"


@pytest.mark.slow
def test_parent_run_and_trial_reach_the_node(
    cluster: Cluster, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    nested = request(tiny.train, trial="max_lr=0.1", parent_run=start_run().run_id)
    one, client = TWO.replace(nodes=1), TrainJobClient(cluster.config)
    nodes.train(spectrogram_folder, nested, one, tmp_path / "model", "var/c", client)
    tags = run_of(tmp_path / "model").data.tags
    assert (tags["mlflow.parentRunId"], tags["trial"]) == (nested.parent_run, "max_lr=0.1")


def test_requests_are_exactly_those_that_rbac_yaml_allows(start: Start, copying_cluster: Cluster) -> None:
    start()
    documents = yaml.safe_load_all((ROOT / RBAC).read_text(encoding="utf-8"))
    allowed = {
        (verb, group, resource)
        for document in documents
        for rule in document.get("rules", [])
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    version = ("get", "", "configmaps")  # Trainer's installation allows every account to read its version
    requests = {("create" if verb == "post" else verb, *rest) for verb, *rest in copying_cluster.requests}
    assert requests == allowed | {version}


def test_trainjob_name_depends_on_settings_data_code_image_and_parent(
    copying_cluster: Cluster,
    spectrogram_folder: Path,
    tiny: PipelineSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def name(changes: dict[str, object], settings: ResourceSettings, code: str = "0" * 64, **fields: str) -> str:
        monkeypatch.setattr(nodes, "training_code_version", lambda: code)
        changed, client = (
            request(replace_settings(tiny.train, **changes), **fields),
            TrainJobClient(copying_cluster.config),
        )
        nodes.train(spectrogram_folder, changed, settings, tmp_path / "model", "var/c", client)
        return copying_cluster.deleted[-1]

    first = name({}, TWO)
    assert name({"checkpoint_minutes": 1.0}, TWO) == first
    others = [
        name({"seed": 7}, TWO),
        name({}, TWO.replace(nodes=3)),
        name({}, TWO, "1" * 64),
        name({}, TWO, parent_run="a"),
        name({}, TWO, parent_run="a", trial="b"),
    ]
    assert len({first, *others}) == 6 and all(len(each) < 40 for each in (first, *others))


def test_retried_task_continues_with_the_running_trainjob(
    launcher: subprocess.Popen, start: Start, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher.kill()
    launcher.wait()
    assert list(cluster.jobs) and Path("var/trainjobs").is_dir()
    Path("go").touch()
    assert Classifier.load(start()).classes
    assert len(cluster.created) == 1 and "continuing with TrainJob" in capsys.readouterr().out
    assert len(cluster.deleted) == 1


def test_interrupted_task_deletes_its_trainjob(launcher: subprocess.Popen, cluster: Cluster) -> None:
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(60) != 0
    assert not cluster.jobs and len(cluster.deleted) == 1
    assert not list(Path("var/trainjobs").iterdir())


def test_log_lines_are_printed_once_per_pod(capsys: pytest.CaptureFixture[str]) -> None:
    printed: list[str] = []
    for log in (["a"], ["a", "b"], [], ["a", "b"], ["c", "b", "d"]):
        printed = nodes._print_new(log, printed)
    assert capsys.readouterr().out.split() == ["a", "b", "c", "b", "d"]


def test_checkpoints_that_nodes_do_not_share_are_refused(start: Start, cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(
        TrainJobError, match=r"checkpoints: the nodes do not share '/elsewhere'; choose .* var/ or s3://"
    ):
        start(checkpoints="/elsewhere")
    assert not cluster.requests & {("post", "trainer.kubeflow.org", "trainjobs")}


def test_missing_fold_is_refused_before_a_trainjob_starts(
    cluster: Cluster, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    invalid, client = request(tiny.train.replace(fold=9)), TrainJobClient(cluster.config)
    with pytest.raises(DatasetError, match="fold 9 does not exist"):
        nodes.train(spectrogram_folder, invalid, TWO, tmp_path / "m", "var/c", client)
    assert not cluster.created
