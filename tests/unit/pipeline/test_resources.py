"""What the compiled pipelines request from a cluster. KFP ignores it locally, so it is read from the files."""

from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec import pipeline_spec_pb2

from mlops.image import IMAGE
from pipeline import resources
from pipeline.compile import CROSSVAL, TRAINING

TRACKED = ("train", "evaluate", "register", "promote", "deploy")
COMPUTING = ("spectrogram-shard", "spectrograms")
STEPS = ("ingest", *COMPUTING, *TRACKED)


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(TRAINING.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def containers(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the container of each step; parsing it as Kubeflow does finds misspelt fields."""
    spec = json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    executors = json_format.MessageToDict(spec.deployment_spec)["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


@pytest.fixture(scope="module")
def pods(documents: list[dict[str, Any]]) -> dict[str, KubernetesExecutorConfig]:
    """Return the pod configuration of each step."""
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {
        name.removeprefix("exec-"): json_format.ParseDict(config, KubernetesExecutorConfig())
        for name, config in executors.items()
    }


def environment(pod: KubernetesExecutorConfig) -> dict[str, tuple[str, bool]]:
    """Return for each environment variable its secret, and whether that is optional."""
    return {
        pair.env_var: (secret.secret_name, secret.optional)
        for secret in pod.secret_as_env
        for pair in secret.key_to_env
    }


def test_steps_run_in_the_project_image_without_root(
    containers: dict[str, dict[str, Any]], pods: dict[str, KubernetesExecutorConfig]
) -> None:
    assert set(containers) == set(pods) == set(STEPS)
    assert {container["image"] for container in containers.values()} == {IMAGE}
    assert all(pod.security_context.run_as_non_root for pod in pods.values())


def test_steps_request_cpu_and_memory(containers: dict[str, dict[str, Any]]) -> None:
    for name, container in containers.items():
        requested = set(container["resources"])
        assert {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"} <= requested, name


def test_only_train_requests_a_gpu_and_tolerates_its_taint(
    containers: dict[str, dict[str, Any]], pods: dict[str, KubernetesExecutorConfig]
) -> None:
    accelerators = {name: container["resources"].get("accelerator") for name, container in containers.items()}
    assert accelerators.pop("train") == {
        "count": "1",
        "type": "nvidia.com/gpu",
        "resourceCount": "1",
        "resourceType": "nvidia.com/gpu",
    }
    assert set(accelerators.values()) == {None}
    (toleration,) = pods["train"].tolerations
    assert (toleration.key, toleration.operator, toleration.effect) == ("nvidia.com/gpu", "Exists", "NoSchedule")


def test_only_train_gets_the_image_name(documents: list[dict[str, Any]]) -> None:
    executors = documents[0]["deploymentSpec"]["executors"]
    images = {name: item["container"]["env"] for name, item in executors.items() if "env" in item["container"]}
    assert images == {"exec-train": [{"name": "AUDIOCNN_IMAGE", "value": IMAGE}]}


def test_training_on_several_nodes_is_off_by_default(documents: list[dict[str, Any]]) -> None:
    parameter = documents[0]["root"]["inputDefinitions"]["parameters"]["trainjob"]
    assert parameter["defaultValue"]["nodes"] == 1 and parameter["isOptional"]


def test_train_has_shared_memory(pods: dict[str, KubernetesExecutorConfig]) -> None:
    (mount,) = pods["train"].empty_dir_mounts
    assert (mount.mount_path, mount.medium, mount.size_limit) == ("/dev/shm", "Memory", "8Gi")


def test_downloads_cache_and_checkpoints_are_on_the_volume(pods: dict[str, KubernetesExecutorConfig]) -> None:
    mounted = {name: [(m.constant, m.mount_path) for m in pod.pvc_mount] for name, pod in pods.items()}
    kept = [(resources.STATE_CLAIM, resources.STATE_FOLDER)]
    assert {name: mounts for name, mounts in mounted.items() if mounts} == dict.fromkeys(
        ("ingest", *COMPUTING, "train"), kept
    )


def test_a_preempted_training_is_retried(documents: list[dict[str, Any]]) -> None:
    tasks = documents[0]["root"]["dag"]["tasks"]
    assert tasks["train"]["retryPolicy"]["maxRetryCount"] == 2
    assert [name for name, task in tasks.items() if "retryPolicy" in task] == ["train"]


def test_credentials_come_from_secrets(pods: dict[str, KubernetesExecutorConfig]) -> None:
    s3 = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"}
    login = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    for name, pod in pods.items():
        found = environment(pod)
        assert {key: found.pop(key) for key in s3} == dict.fromkeys(s3, ("audiocnn-s3", True))
        if name == "ingest":
            assert found.pop("AUDIOCNN_DVC_REMOTE") == ("audiocnn-s3", True)
        if name == "deploy":
            serving = {"AUDIOCNN_MODEL_STORE", "AUDIOCNN_INFERENCE_KEYS"}
            assert {key: found.pop(key) for key in serving} == dict.fromkeys(serving, ("audiocnn-torchserve", True))
        if name not in TRACKED:
            assert found == {}
            continue
        # Required: without the address the runs would be lost with the pod.
        assert found.pop("MLFLOW_TRACKING_URI") == ("audiocnn-mlflow", False)
        assert found == dict.fromkeys(login, ("audiocnn-mlflow", True))


def test_only_deploy_has_the_label_that_opens_the_management_api(pods: dict[str, KubernetesExecutorConfig]) -> None:
    labels = {name: dict(pod.pod_metadata.labels) for name, pod in pods.items()}
    assert {name: found for name, found in labels.items() if found} == {"deploy": {"audiocnn-step": "deploy"}}


def test_kfp_caches_only_steps_without_side_effects(documents: list[dict[str, Any]]) -> None:
    tasks = dict(documents[0]["root"]["dag"]["tasks"])
    for group in ("comp-for-loop-1", "comp-condition-2"):
        tasks |= documents[0]["components"][group]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert cached == {"spectrograms", "train", "evaluate"}
    assert "code_digest" in tasks["train"]["inputs"]["parameters"]


def test_the_kubeflow_ui_shows_titles(documents: list[dict[str, Any]]) -> None:
    tasks = documents[0]["root"]["dag"]["tasks"]
    titles = {task["taskInfo"]["name"] for task in tasks.values()}
    assert {"Ingest clips", "Gather spectrograms", "Train", "Decide on promotion"} <= titles
    assert documents[0]["pipelineInfo"]["displayName"] == "Audio CNN: training"


@pytest.fixture(scope="module")
def crossval() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(CROSSVAL.read_text(encoding="utf-8")))


def executors(documents: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the containers and the pod configurations of the steps."""
    platform = documents[1]["platforms"]["kubernetes"]
    return documents[0]["deploymentSpec"]["executors"], platform["deploymentSpec"]["executors"]


def test_both_pipelines_request_the_same_for_a_step(
    documents: list[dict[str, Any]], crossval: list[dict[str, Any]]
) -> None:
    for one, other in zip(executors(documents), executors(crossval), strict=True):
        shared = set(one) & set(other)
        assert {f"exec-{name}" for name in ("ingest", *COMPUTING, "train", "evaluate")} == shared
        assert {name: one[name] for name in shared} == {name: other[name] for name in shared}


def test_a_preempted_fold_is_retried(crossval: list[dict[str, Any]]) -> None:
    tasks = crossval[0]["components"]["comp-for-loop-2"]["dag"]["tasks"]
    assert set(tasks) == {"train", "evaluate"} and tasks["train"]["retryPolicy"]["maxRetryCount"] == 2


def test_plan_and_aggregate_are_light_and_never_cached(
    crossval: list[dict[str, Any]],
) -> None:
    json_format.ParseDict(crossval[0], pipeline_spec_pb2.PipelineSpec())
    containers, pods = executors(crossval)
    for name in ("plan-trials", "aggregate"):
        container, pod = (
            containers[f"exec-{name}"]["container"],
            json_format.ParseDict(pods[f"exec-{name}"], KubernetesExecutorConfig()),
        )
        assert container["image"] == IMAGE and "accelerator" not in container["resources"]
        assert container["resources"]["resourceMemoryLimit"] == resources.LIGHT.memory_limit
        assert pod.security_context.run_as_non_root
        assert environment(pod)["MLFLOW_TRACKING_URI"] == ("audiocnn-mlflow", False)
        assert "enableCache" not in crossval[0]["root"]["dag"]["tasks"][name].get("cachingOptions", {})


def test_aggregate_deletes_checkpoints_on_the_volume(crossval: list[dict[str, Any]]) -> None:
    _, pods = executors(crossval)
    assert pods["exec-aggregate"]["pvcMount"] == pods["exec-train"]["pvcMount"]
