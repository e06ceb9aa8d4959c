"""Training on several nodes, against a Kubernetes API on loopback that really runs what a TrainJob asks for."""

import dataclasses
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
import support_kubernetes
import yaml
from kfp import dsl, local
from support import ROOT, read_json, vary
from support_kubernetes import Cluster
from support_serving import free_ports

from audiocnn.classifier import Classifier
from audiocnn.dataset import DatasetError, SpectrogramSet
from audiocnn.params import Params, as_dict
from audiocnn.training import fingerprint
from components.image import IMAGE, IMAGE_VARIABLE
from components.revision import software
from components.train import nodes
from components.train.component import train
from components.train.trainer import RBAC, ClusterError, Trainer, TrainJobError
from components.train.trainjob import TrainJobSettings

TWO = TrainJobSettings(nodes=2, gpus_per_node=0)
DIGEST = "0" * 64
Start = Callable[..., Path]
# What a task of its own process does: it waits for the nodes until it is told to stop, or killed.
LAUNCHER = """
import json, sys
from pathlib import Path
from audiocnn import params
from audiocnn.settings import TrainSettings
from components.train import nodes
from components.train.trainjob import TrainJobSettings
nodes.POLL_SECONDS = 0.1
settings = params.parse(TrainSettings, json.loads(sys.argv[2]), "")
asked = TrainJobSettings(nodes=2, gpus_per_node=0)
nodes.train(Path(sys.argv[1]), settings, asked, Path("model"), "var/checkpoints", "{digest}")
"""


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def shell(script: str) -> Callable[[list[str]], list[str]]:
    """In place of a TrainJob's command; $1 is the folder that the model goes to."""
    return lambda command: ["sh", "-c", script, "sh", option(command, "--output")]


def copying(model: Path) -> str:
    """A script that leaves a model without training it, as ever on the first node."""
    return f'[ "$PET_NODE_RANK" != 0 ] || cp -rT {model} "$1"'


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose nodes share this process's working folder, as on a real one they share its var/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nodes, "POLL_SECONDS", 0.1)
    with support_kubernetes.serve(tmp_path) as cluster:
        cluster.secrets["audiocnn-mlflow"] = {"tracking-uri": os.environ["MLFLOW_TRACKING_URI"]}
        yield cluster


@pytest.fixture
def copied(cluster: Cluster, model_folder: Path) -> Cluster:
    """Nodes that take a moment, and copy a model instead of training one."""
    cluster.stand_in = shell(f"echo copying; sleep 0.5; {copying(model_folder)}")
    return cluster


@pytest.fixture
def start(cluster: Cluster, spectrogram_folder: Path, tiny: Params, tmp_path: Path) -> Start:
    """Train on two nodes; the model's folder."""

    def run(asked: TrainJobSettings = TWO, checkpoints: str = "var/checkpoints") -> Path:
        output = tmp_path / "model"
        nodes.train(spectrogram_folder, tiny.train, asked, output, checkpoints, DIGEST, Trainer(cluster.config))
        return output

    return run


@pytest.fixture
def launcher(
    cluster: Cluster, spectrogram_folder: Path, model_folder: Path, tiny: Params, tmp_path: Path
) -> Iterator[subprocess.Popen]:
    """A process that has started the TrainJob of `start`, whose nodes go on once there is a file `go`."""
    cluster.stand_in = shell(f"while [ ! -e go ]; do sleep 0.1; done; {copying(model_folder)}")
    code = LAUNCHER.format(digest=DIGEST)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(spectrogram_folder), json.dumps(as_dict(tiny.train))],
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
    start: Start, cluster: Cluster, tiny: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    output = start()
    assert Classifier.load(output).provenance["train"] == as_dict(tiny.train)
    assert pd.read_csv(output / "history.csv")["epoch"].tolist() == [1, 2]
    assert read_json(output / "run.json")["run_id"]
    said = capsys.readouterr().out
    assert "on 2 x cpu" in said and said.count("epoch 2/2") == 1
    (job,) = cluster.created
    assert job["spec"]["trainer"]["image"] == IMAGE
    assert cluster.deleted == [job["metadata"]["name"]] and not cluster.jobs
    assert not list(Path("var/trainjobs").iterdir()) and not list(Path("var/checkpoints").iterdir())


@pytest.mark.slow
def test_what_a_real_node_says_before_it_fails_is_the_reason(
    start: Start, cluster: Cluster, spectrogram_folder: Path, tiny: Params
) -> None:
    broken = (
        Path("var/checkpoints")
        / f"{fingerprint(tiny.train, SpectrogramSet.open(spectrogram_folder).spec, software())}.pt"
    )
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no checkpoint")
    with pytest.raises(TrainJobError, match=rf"failed on node-0: {broken}: cannot resume from this checkpoint"):
        start()
    assert not cluster.jobs


def test_kubeflow_runs_it_in_the_image_that_the_task_itself_has(
    copied: Cluster, spectrogram_folder: Path, tiny: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("KUBECONFIG", str(copied.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setenv(IMAGE_VARIABLE, "registry.example.org/audiocnn:7")
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"), raise_on_error=True)

    @dsl.pipeline
    def alone(settings: dict, trainjob: dict) -> dsl.Model:
        importer = dsl.importer(artifact_uri=str(spectrogram_folder), artifact_class=dsl.Dataset, reimport=False)
        task = train(
            spectrograms=importer.output,
            settings=settings,
            checkpoints="var/checkpoints",
            code_digest=DIGEST,
            trainjob=trainjob,
        )
        return task.outputs["model"]

    model = alone(settings=as_dict(tiny.train), trainjob=as_dict(TWO)).output
    assert Classifier.load(Path(model.path)).classes and model.metadata["fold"] == 2
    (job,) = copied.created
    assert job["spec"]["trainer"]["image"] == "registry.example.org/audiocnn:7"
    assert job["spec"]["trainer"]["numNodes"] == 2


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
    copied: Cluster, spectrogram_folder: Path, tiny: Params, tmp_path: Path
) -> None:
    def name(changes: dict[str, object], asked: TrainJobSettings, digest: str) -> str:
        train = vary(tiny.train, **changes)
        nodes.train(spectrogram_folder, train, asked, tmp_path / "model", "var/c", digest, Trainer(copied.config))
        return copied.deleted[-1]

    first = name({}, TWO, DIGEST)
    assert name({"checkpoint_minutes": 1.0}, TWO, DIGEST) == first
    others = [
        name({"seed": 7}, TWO, DIGEST),
        name({}, dataclasses.replace(TWO, nodes=3), DIGEST),
        name({}, TWO, "1" * 64),
    ]
    assert len({first, *others}) == 4 and all(len(each) < 40 for each in (first, *others))


def test_a_failed_node_is_named_with_what_it_said(
    start: Start, cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "echo loading; sleep 1; echo 'error: the disk is full' >&2; exit 2"
    cluster.stand_in = shell(f'if [ "$PET_NODE_RANK" = 1 ]; then {said}; fi; echo waiting for others; sleep 60')
    with pytest.raises(TrainJobError, match=r"^TrainJob audiocnn-\w+ failed on node-1: the disk is full$"):
        start()
    shown = capsys.readouterr().out
    assert "waiting for others" in shown and "node-1: loading" in shown
    assert len(cluster.deleted) == 1 and not (tmp_path / "model").exists()


def test_a_node_that_fails_without_a_word_leaves_the_clusters_own_reason(start: Start, cluster: Cluster) -> None:
    cluster.stand_in = shell("exit 137")
    with pytest.raises(TrainJobError, match="failed on node-0: JobsFailed: jobset failed"):
        start()


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


def test_a_failed_trainjob_that_was_left_behind_makes_room(start: Start, copied: Cluster) -> None:
    works, copied.stand_in = copied.stand_in, shell("exit 1")
    copied.refuses["delete", "trainjobs"] = [500]
    with pytest.raises(TrainJobError, match="failed on node-0"):
        start()
    assert copied.jobs and not copied.deleted
    copied.stand_in = works
    start()
    assert len(copied.created) == 2 and len(copied.deleted) == 2


def test_an_api_that_is_away_for_a_while_does_not_end_the_training(start: Start, copied: Cluster) -> None:
    copied.refuses["get", "trainjobs"] = [503, 500, 429]
    start()
    assert not copied.refuses["get", "trainjobs"] and len(copied.created) == 1


def test_an_api_that_stays_away_is_named_and_the_trainjob_stays_for_the_next_try(
    start: Start, copied: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nodes, "PATIENCE_SECONDS", 0.3)
    copied.refuses |= {("get", "trainjobs"): [503] * 100, ("delete", "trainjobs"): [503] * 100}
    with pytest.raises(ClusterError, match=rf"the Kubernetes API at {copied.url} answers 503"):
        start()
    assert len(copied.jobs) == 1 and "cannot be deleted" in capsys.readouterr().out
    copied.refuses.clear()
    start()
    assert len(copied.created) == 1 and not copied.jobs


def test_a_trainjob_that_somebody_deletes_is_told(start: Start, cluster: Cluster, tmp_path: Path) -> None:
    cluster.stand_in = shell("sleep 60")
    cluster.refuses["get", "trainjobs"] = [404]
    with pytest.raises(TrainJobError, match=r"was deleted while it ran; start again"):
        start()


def test_one_that_takes_too_long_is_ended(start: Start, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PATIENCE_SECONDS", 1.0)
    cluster.stand_in = shell("sleep 60")
    with pytest.raises(TrainJobError, match=r"did not end in its time \(trainjob\.max_hours\)"):
        start(dataclasses.replace(TWO, max_hours=1e-6))
    assert len(cluster.deleted) == 1


def test_nodes_that_leave_no_model_share_no_volume(start: Start, cluster: Cluster) -> None:
    cluster.stand_in = shell("true")
    with pytest.raises(TrainJobError, match="do its nodes mount the volume that this pod mounts"):
        start()


def test_a_log_is_shown_once_and_that_of_a_replaced_pod_from_its_start(capsys: pytest.CaptureFixture[str]) -> None:
    log = nodes._Log()
    for lines in (["a"], ["a", "b"], [], ["a", "b"], ["c", "b", "d"]):
        log.show(lines)
    assert capsys.readouterr().out.split() == ["a", "b", "c", "b", "d"]


def test_an_unknown_runtime_is_named_with_a_way_to_mend_it(start: Start, cluster: Cluster) -> None:
    with pytest.raises(TrainJobError, match=r"no training runtime 'torch': install .* trainjob\.runtime"):
        start(dataclasses.replace(TWO, runtime="torch"))
    assert not cluster.created


def test_a_runtime_that_starts_no_torchrun_is_refused(start: Start, cluster: Cluster) -> None:
    cluster.runtimes["deepspeed-distributed"] = support_kubernetes.runtime("deepspeed")
    with pytest.raises(TrainJobError, match="one of deepspeed"):
        start(dataclasses.replace(TWO, runtime="deepspeed-distributed"))
    assert not cluster.created


@pytest.mark.parametrize(("verb", "resource"), [("get", "trainingruntimes"), ("post", "trainjobs")])
def test_missing_rights_are_named_with_the_file_that_grants_them(
    start: Start, cluster: Cluster, verb: str, resource: str
) -> None:
    cluster.refuses[verb, resource] = [403]
    with pytest.raises(ClusterError, match=rf"may not do so in namespace team; grant it {RBAC}"):
        start()


def test_what_the_api_says_to_a_refused_trainjob_is_passed_on(start: Start, cluster: Cluster) -> None:
    cluster.refuses["post", "trainjobs"] = [422]
    with pytest.raises(ClusterError, match="the TrainJob cannot be created: trainjobs is out of order"):
        start()


def test_a_trainer_that_would_lose_the_volumes_is_refused(start: Start, cluster: Cluster) -> None:
    cluster.unknown, cluster.stand_in = ("runtimePatches",), shell("sleep 60")
    with pytest.raises(TrainJobError, match=r"knows no runtimePatches; install version 2\.3"):
        start()
    assert not cluster.jobs


def test_an_api_that_does_not_answer_is_one_sentence(
    cluster: Cluster, spectrogram_folder: Path, tiny: Params, tmp_path: Path
) -> None:
    config = cluster.config
    config.client_configuration.host = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(ClusterError, match=r"at http://127\.0\.0\.1:\d+ does not answer; is it up\?$") as raised:
        nodes.train(spectrogram_folder, tiny.train, TWO, tmp_path / "m", "var/c", DIGEST, Trainer(config))
    assert "\n" not in str(raised.value)


def test_without_a_cluster_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match=r"no Kubernetes cluster here .* set trainjob\.nodes to 1"):
        Trainer()


def test_checkpoints_have_to_be_where_the_nodes_see_them(start: Start, cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(TrainJobError, match=r"checkpoints: '/elsewhere' is not shared .* var/, or s3://"):
        start(checkpoints="/elsewhere")
    assert not cluster.asked & {("post", "trainer.kubeflow.org", "trainjobs")}


def test_a_fold_that_is_not_there_costs_no_node(
    cluster: Cluster, spectrogram_folder: Path, tiny: Params, tmp_path: Path
) -> None:
    train = vary(tiny.train, fold=9)
    with pytest.raises(DatasetError, match="there is no fold 9"):
        nodes.train(spectrogram_folder, train, TWO, tmp_path / "m", "var/c", DIGEST, Trainer(cluster.config))
    assert not cluster.created
