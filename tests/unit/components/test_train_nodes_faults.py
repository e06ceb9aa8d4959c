"""Faults of trainings on several nodes: failing nodes, API outages, missing permissions."""

from pathlib import Path

import pytest
from helpers.kubernetes import Cluster
from helpers.nodes import TWO, Start, shell
from helpers.torchserve import free_ports
from helpers.trainjobs import runtime
from tenacity import stop_after_delay

from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.training.checkpoint import fingerprint
from components.train import nodes
from components.train.trainjob_client import RBAC, KubernetesError, TrainJobClient, TrainJobError
from mlops.artifacts import TrainingRequest
from mlops.provenance import training_code_version
from pipeline.settings import PipelineSettings


@pytest.mark.slow
def test_error_message_of_a_real_node_is_the_reason(
    start: Start, cluster: Cluster, spectrogram_folder: Path, tiny: PipelineSettings
) -> None:
    training = fingerprint(tiny.train, SpectrogramSet.open(spectrogram_folder).spec, training_code_version())
    damaged = Path("var/checkpoints") / f"{training}.state"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no checkpoint")
    with pytest.raises(TrainJobError, match=rf"failed on node-0: {damaged}: cannot resume from this checkpoint"):
        start()
    assert not cluster.jobs


def test_failed_node_is_named_with_its_error_message(
    start: Start, cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fail = "echo loading; while [ ! -e read ]; do sleep 0.1; done; echo 'error: the disk is full' >&2; exit 2"
    cluster.replace_command = shell(f'if [ "$PET_NODE_RANK" = 1 ]; then {fail}; fi; echo waiting for others; sleep 60')

    def get_pods_log(pod: str) -> tuple[int, str]:
        status, log = Cluster.get_pods_log(cluster, pod)
        if "waiting for others" in log:
            (tmp_path / "read").touch()
        return status, log

    cluster.get_pods_log = get_pods_log
    with pytest.raises(TrainJobError, match=r"^TrainJob audiocnn-\w+ failed on node-1: the disk is full$"):
        start()
    printed = capsys.readouterr().out
    assert "waiting for others" in printed and "node-1: loading" in printed
    assert len(cluster.deleted) == 1 and not (tmp_path / "model").exists()


def test_failed_node_without_an_error_message_is_named(start: Start, cluster: Cluster) -> None:
    cluster.replace_command = shell("exit 137")
    with pytest.raises(TrainJobError, match=r"without an error message; see .* above and resources\.max_hours"):
        start()


def test_failed_trainjob_of_an_earlier_attempt_is_deleted_for_the_next(start: Start, copying_cluster: Cluster) -> None:
    works, copying_cluster.replace_command = copying_cluster.replace_command, shell("exit 1")
    copying_cluster.failures["delete", "trainjobs"] = [500]
    with pytest.raises(TrainJobError, match="failed on node-0"):
        start()
    assert copying_cluster.jobs and not copying_cluster.deleted
    copying_cluster.replace_command = works
    with pytest.raises(TrainJobError, match="failed earlier and is being deleted; run the step train again"):
        start()
    start()
    assert len(copying_cluster.created) == 2 and len(copying_cluster.deleted) == 2


def test_short_api_outage_does_not_end_the_training(start: Start, copying_cluster: Cluster) -> None:
    copying_cluster.failures["get", "trainjobs"] = [503, 500, 429]
    start()
    assert not copying_cluster.failures["get", "trainjobs"] and len(copying_cluster.created) == 1


def test_lasting_api_outage_keeps_the_trainjob_for_a_retry(
    start: Start, copying_cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TrainJobClient.get.retry, "stop", stop_after_delay(0.3))
    copying_cluster.failures |= {("get", "trainjobs"): [503] * 100, ("delete", "trainjobs"): [503] * 100}
    with pytest.raises(KubernetesError, match=rf"the Kubernetes API at {copying_cluster.url} answers 503"):
        start()
    assert len(copying_cluster.jobs) == 1 and "cannot be deleted" in capsys.readouterr().out
    copying_cluster.failures.clear()
    start()
    assert len(copying_cluster.created) == 1 and not copying_cluster.jobs


def test_deleted_trainjob_is_an_error(start: Start, cluster: Cluster, tmp_path: Path) -> None:
    cluster.replace_command = shell("sleep 60")
    cluster.failures["get", "trainjobs"] = [404]
    with pytest.raises(TrainJobError, match=r"was deleted while it ran; start it again"):
        start()


def test_error_for_a_missing_model_names_the_volume(start: Start, cluster: Cluster) -> None:
    cluster.replace_command = shell("true")
    with pytest.raises(TrainJobError, match="mount this pod's volume on its nodes"):
        start()


def test_unknown_runtime_is_refused(start: Start, cluster: Cluster) -> None:
    with pytest.raises(TrainJobError, match=r"trainjob\.runtime: training runtime 'torch' does not exist; install"):
        start(TWO.replace(runtime="torch"))
    assert not cluster.created


def test_runtime_of_another_framework_is_refused(start: Start, cluster: Cluster) -> None:
    cluster.runtimes["deepspeed-distributed"] = runtime("deepspeed")
    with pytest.raises(TrainJobError, match="is for deepspeed; choose one for torch"):
        start(TWO.replace(runtime="deepspeed-distributed"))
    assert not cluster.created


@pytest.mark.parametrize(("verb", "resource"), [("get", "trainingruntimes"), ("post", "trainjobs")])
def test_missing_permissions_name_the_file_that_grants_them(
    start: Start, cluster: Cluster, verb: str, resource: str
) -> None:
    cluster.failures[verb, resource] = [403]
    with pytest.raises(KubernetesError, match=rf"lacks permissions in namespace team; apply {RBAC}"):
        start()


def test_message_of_the_api_is_passed_on(start: Start, cluster: Cluster) -> None:
    cluster.failures["post", "trainjobs"] = [422]
    with pytest.raises(KubernetesError, match="TrainJob cannot be created: trainjobs is out of order"):
        start()


def test_trainer_that_drops_the_volumes_is_refused(start: Start, cluster: Cluster) -> None:
    cluster.unknown_fields, cluster.replace_command = ("runtimePatches",), shell("sleep 60")
    with pytest.raises(TrainJobError, match=r"does not support runtimePatches; install version 2\.3"):
        start()
    assert not cluster.jobs


def test_unreachable_api_is_one_sentence(
    cluster: Cluster, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    config = cluster.config
    config.client_configuration.host = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(
        KubernetesError, match=r"at http://127\.0\.0\.1:\d+ does not answer; check the network and the address$"
    ) as raised:
        request = TrainingRequest(recipe="demo", settings=tiny.train)
        nodes.train(spectrogram_folder, request, TWO, tmp_path / "m", "var/c", TrainJobClient(config))
    assert "\n" not in str(raised.value)


def test_missing_cluster_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(KubernetesError, match=r"no Kubernetes cluster is configured .* set resources\.nodes to 1"):
        TrainJobClient()
