"""Training on several nodes, against a Kubernetes API on loopback that really runs what a TrainJob asks for."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers.kubernetes import Cluster
from helpers.mlflow import start as begun
from helpers.networks import replace_settings
from helpers.nodes import DIGEST, TWO, Start, copying, shell
from helpers.project import ROOT, read_json
from helpers.train import run_of
from kfp import dsl, local

from audiocnn.classifier import Classifier
from audiocnn.data.clips import DatasetError
from components.train import nodes
from components.train.component import train
from components.train.settings import TrainJobSettings
from components.train.step import ParentRun
from components.train.trainer import RBAC, Trainer, TrainJobError
from mlops.image import IMAGE, IMAGE_VARIABLE
from pipeline.settings import PipelineSettings

# What a task of its own process does: it waits for the nodes until it is told to stop, or killed.
LAUNCHER = """
import json, sys
from pathlib import Path
from audiocnn import params
from audiocnn.settings import TrainSettings
from components.train import nodes
from components.train.trainjob import TrainJobSettings
nodes.POLL_SECONDS = 0.1
settings = TrainSettings.parse(json.loads(sys.argv[2]), "")
asked = TrainJobSettings(nodes=2, gpus_per_node=0)
nodes.train(Path(sys.argv[1]), settings, asked, Path("model"), "var/checkpoints", "{digest}")
"""


@pytest.fixture
def launcher(
    cluster: Cluster, spectrogram_folder: Path, model_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> Iterator[subprocess.Popen]:
    """A process that has started the TrainJob of `start`, whose nodes go on once there is a file `go`."""
    cluster.stand_in = shell(f"while [ ! -e go ]; do sleep 0.1; done; {copying(model_folder)}")
    code = LAUNCHER.format(digest=DIGEST)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(spectrogram_folder), json.dumps(tiny.train.to_dict())],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KUBECONFIG": str(cluster.kubeconfig(tmp_path / "kubeconfig"))},
    )
    wait_for(lambda: cluster.jobs and ("list", "", "pods") in cluster.asked, process)
    yield process
    process.kill()
    process.wait()


def wait_for(condition: Callable[[], object], process: subprocess.Popen) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_the_model_that_two_nodes_trained_comes_back(
    start: Start, cluster: Cluster, tiny: PipelineSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    output = start()
    assert Classifier.load(output).provenance["train"] == tiny.train.to_dict()
    assert pd.read_csv(output / "history.csv")["epoch"].tolist() == [1, 2]
    assert read_json(output / "run.json")["run_id"]
    said = capsys.readouterr().out
    assert "on 2 x cpu" in said and said.count("epoch 2/2") == 1
    (job,) = cluster.created
    assert job["spec"]["trainer"]["image"] == IMAGE
    assert cluster.deleted == [job["metadata"]["name"]] and not cluster.jobs
    assert not list(Path("var/trainjobs").iterdir()) and not list(Path("var/checkpoints").iterdir())


def test_kubeflow_runs_it_in_the_image_that_the_task_itself_has(
    copied: Cluster, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("KUBECONFIG", str(copied.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setenv(IMAGE_VARIABLE, "registry.example.org/audiocnn:7")
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"), raise_on_error=True)

    @dsl.pipeline
    def alone(settings: dict, trainjob: dict, parent: str) -> dsl.Model:
        importer = dsl.importer(artifact_uri=str(spectrogram_folder), artifact_class=dsl.Dataset, reimport=False)
        task = train(
            spectrograms=importer.output,
            settings=settings,
            checkpoints="var/checkpoints",
            code_digest=DIGEST,
            trainjob=trainjob,
            parent=parent,
            trial="a trial",
        )
        return task.outputs["model"]

    model = alone(settings=tiny.train.to_dict(), trainjob=TWO.to_dict(), parent="a1b2").output
    assert Classifier.load(Path(model.path)).classes and model.metadata["fold"] == 2
    (job,) = copied.created
    assert job["spec"]["trainer"]["image"] == "registry.example.org/audiocnn:7"
    assert job["spec"]["trainer"]["numNodes"] == 2
    assert job["spec"]["trainer"]["command"][-2:] == ["--parent=a1b2", "--trial=a trial"]


@pytest.mark.slow
def test_one_of_many_is_one_of_many_on_its_node_too(
    cluster: Cluster, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    member, one = ParentRun(begun().run_id, "max_lr = 0.1"), TWO.replace(nodes=1)
    trainer = Trainer(cluster.config)
    nodes.train(spectrogram_folder, tiny.train, one, tmp_path / "model", "var/c", DIGEST, trainer, member)
    tags = run_of(tmp_path / "model").data.tags
    assert (tags["mlflow.parentRunId"], tags["trial"]) == (member.parent, "max_lr = 0.1")


def test_it_asks_for_what_the_roles_allow_and_they_allow_no_more(start: Start, copied: Cluster) -> None:
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
    trainers_own = ("get", "", "configmaps")  # its version; Trainer's installation opens that to all
    asked = {("create" if verb == "post" else verb, group, resource) for verb, group, resource in copied.asked}
    assert asked == allowed | {trainers_own}


def test_what_it_hands_over_is_named_after_what_it_depends_on(
    copied: Cluster, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    def name(changes: dict[str, object], asked: TrainJobSettings, digest: str, member: ParentRun | None = None) -> str:
        train, trainer = replace_settings(tiny.train, **changes), Trainer(copied.config)
        nodes.train(spectrogram_folder, train, asked, tmp_path / "model", "var/c", digest, trainer, member)
        return copied.deleted[-1]

    first = name({}, TWO, DIGEST)
    assert name({"checkpoint_minutes": 1.0}, TWO, DIGEST) == first
    others = [
        name({"seed": 7}, TWO, DIGEST),
        name({}, TWO.replace(nodes=3), DIGEST),
        name({}, TWO, "1" * 64),
        name({}, TWO, DIGEST, ParentRun("a")),
        name({}, TWO, DIGEST, ParentRun("a", "b")),
    ]
    assert len({first, *others}) == 6 and all(len(each) < 40 for each in (first, *others))


def test_a_killed_task_goes_on_with_its_trainjob_when_it_is_tried_again(
    launcher: subprocess.Popen, start: Start, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher.kill()
    launcher.wait()
    assert list(cluster.jobs) and Path("var/trainjobs").is_dir()
    Path("go").touch()
    assert Classifier.load(start()).classes
    assert len(cluster.created) == 1 and "going on with TrainJob" in capsys.readouterr().out
    assert len(cluster.deleted) == 1


def test_a_task_that_is_told_to_stop_gives_its_nodes_back(launcher: subprocess.Popen, cluster: Cluster) -> None:
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(60) != 0
    assert not cluster.jobs and len(cluster.deleted) == 1
    assert not list(Path("var/trainjobs").iterdir())


def test_a_log_is_shown_once_and_that_of_a_replaced_pod_from_its_start(capsys: pytest.CaptureFixture[str]) -> None:
    log = nodes._Log()
    for lines in (["a"], ["a", "b"], [], ["a", "b"], ["c", "b", "d"]):
        log.show(lines)
    assert capsys.readouterr().out.split() == ["a", "b", "c", "b", "d"]


def test_checkpoints_have_to_be_where_the_nodes_see_them(start: Start, cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(TrainJobError, match=r"checkpoints: '/elsewhere' is not shared .* var/, or s3://"):
        start(checkpoints="/elsewhere")
    assert not cluster.asked & {("post", "trainer.kubeflow.org", "trainjobs")}


def test_a_fold_that_is_not_there_costs_no_node(
    cluster: Cluster, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    train = replace_settings(tiny.train, fold=9)
    with pytest.raises(DatasetError, match="there is no fold 9"):
        nodes.train(spectrogram_folder, train, TWO, tmp_path / "m", "var/c", DIGEST, Trainer(cluster.config))
    assert not cluster.created
