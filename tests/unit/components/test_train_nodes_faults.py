"""What may go wrong with a training on several nodes: nodes that fail, an API that is away, missing rights."""

from pathlib import Path

import pytest
from helpers import kubernetes as support_kubernetes
from helpers.kubernetes import Cluster
from helpers.nodes import DIGEST, TWO, Start, shell
from helpers.torchserve import free_ports

from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.training.loop import fingerprint
from components.train import nodes
from components.train.trainer import RBAC, ClusterError, Trainer, TrainJobError
from mlops.provenance import training_code_version
from pipeline.settings import PipelineSettings


@pytest.mark.slow
def test_what_a_real_node_says_before_it_fails_is_the_reason(
    start: Start, cluster: Cluster, spectrogram_folder: Path, tiny: PipelineSettings
) -> None:
    training = fingerprint(tiny.train, SpectrogramSet.open(spectrogram_folder).spec, training_code_version())
    broken = Path("var/checkpoints") / f"{training}.pt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no checkpoint")
    with pytest.raises(TrainJobError, match=rf"failed on node-0: {broken}: cannot resume from this checkpoint"):
        start()
    assert not cluster.jobs


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
        start(TWO.replace(max_hours=1e-6))
    assert len(cluster.deleted) == 1


def test_nodes_that_leave_no_model_share_no_volume(start: Start, cluster: Cluster) -> None:
    cluster.stand_in = shell("true")
    with pytest.raises(TrainJobError, match="do its nodes mount the volume that this pod mounts"):
        start()


def test_an_unknown_runtime_is_named_with_a_way_to_mend_it(start: Start, cluster: Cluster) -> None:
    with pytest.raises(TrainJobError, match=r"no training runtime 'torch': install .* trainjob\.runtime"):
        start(TWO.replace(runtime="torch"))
    assert not cluster.created


def test_a_runtime_that_starts_no_torchrun_is_refused(start: Start, cluster: Cluster) -> None:
    cluster.runtimes["deepspeed-distributed"] = support_kubernetes.runtime("deepspeed")
    with pytest.raises(TrainJobError, match="one of deepspeed"):
        start(TWO.replace(runtime="deepspeed-distributed"))
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
    cluster: Cluster, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
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
