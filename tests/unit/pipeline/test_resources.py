"""What the compiled training pipeline asks of a cluster: KFP ignores it locally, so it is read out of the file."""

from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec import pipeline_spec_pb2

from mlops.image import IMAGE
from pipeline import resources as kubernetes
from pipeline.cli.experiments import CROSSVAL
from pipeline.run import TRAINING

TRACKED = ("train", "evaluate", "register", "promote", "deploy")
COMPUTING = ("spectrogram-shard", "spectrograms")
STEPS = ("ingest", *COMPUTING, *TRACKED)


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(TRAINING.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def containers(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Step -> what it asks of its container; parsing it as Kubeflow does finds every misspelt field."""
    spec = json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    executors = json_format.MessageToDict(spec.deployment_spec)["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


@pytest.fixture(scope="module")
def pods(documents: list[dict[str, Any]]) -> dict[str, KubernetesExecutorConfig]:
    """Step -> what it asks of its pod."""
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {
        name.removeprefix("exec-"): json_format.ParseDict(config, KubernetesExecutorConfig())
        for name, config in executors.items()
    }


def environment(pod: KubernetesExecutorConfig) -> dict[str, tuple[str, bool]]:
    """Variable -> the secret that it comes from, and whether that may be absent."""
    return {
        pair.env_var: (secret.secret_name, secret.optional)
        for secret in pod.secret_as_env
        for pair in secret.key_to_env
    }


def test_every_step_runs_in_the_project_image_without_root(
    containers: dict[str, dict[str, Any]], pods: dict[str, KubernetesExecutorConfig]
) -> None:
    assert set(containers) == set(pods) == set(STEPS)
    assert {container["image"] for container in containers.values()} == {IMAGE}
    assert all(pod.security_context.run_as_non_root for pod in pods.values())


def test_every_step_reserves_what_it_needs(containers: dict[str, dict[str, Any]]) -> None:
    for name, container in containers.items():
        resources = container["resources"]
        assert {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"} <= set(resources), name


def test_train_alone_gets_a_gpu_on_nodes_that_are_kept_for_those_who_ask(
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


def test_train_alone_knows_the_image_for_pods_of_its_own(documents: list[dict[str, Any]]) -> None:
    executors = documents[0]["deploymentSpec"]["executors"]
    told = {name: item["container"]["env"] for name, item in executors.items() if "env" in item["container"]}
    assert told == {"exec-train": [{"name": "AUDIOCNN_IMAGE", "value": IMAGE}]}


def test_training_on_several_nodes_is_off_by_default(documents: list[dict[str, Any]]) -> None:
    parameter = documents[0]["root"]["inputDefinitions"]["parameters"]["trainjob"]
    assert parameter["defaultValue"]["nodes"] == 1 and parameter["isOptional"]


def test_train_has_shared_memory_for_workers_that_exchange_batches(pods: dict[str, KubernetesExecutorConfig]) -> None:
    (mount,) = pods["train"].empty_dir_mounts
    assert (mount.mount_path, mount.medium, mount.size_limit) == ("/dev/shm", "Memory", "8Gi")


def test_downloads_the_cache_and_the_checkpoints_outlive_the_pod(pods: dict[str, KubernetesExecutorConfig]) -> None:
    mounted = {name: [(m.constant, m.mount_path) for m in pod.pvc_mount] for name, pod in pods.items()}
    kept = [(kubernetes.STATE_CLAIM, kubernetes.STATE_FOLDER)]
    assert {name: mounts for name, mounts in mounted.items() if mounts} == dict.fromkeys(
        ("ingest", *COMPUTING, "train"), kept
    )


def test_a_preempted_training_is_tried_again(documents: list[dict[str, Any]]) -> None:
    tasks = documents[0]["root"]["dag"]["tasks"]
    assert tasks["train"]["retryPolicy"]["maxRetryCount"] == 2
    assert [name for name, task in tasks.items() if "retryPolicy" in task] == ["train"]


def test_credentials_come_from_secrets_to_the_steps_that_use_them(pods: dict[str, KubernetesExecutorConfig]) -> None:
    s3 = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"}
    login = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    for name, pod in pods.items():
        found = environment(pod)
        assert {key: found.pop(key) for key in s3} == dict.fromkeys(s3, ("audiocnn-s3", True))
        if name == "ingest":
            assert found.pop("AUDIOCNN_DVC_REMOTE") == ("audiocnn-s3", True)
        if name not in TRACKED:
            assert found == {}
            continue
        # Without the address runs would vanish with the pod: it has to be there.
        assert found.pop("MLFLOW_TRACKING_URI") == ("audiocnn-mlflow", False)
        assert found == dict.fromkeys(login, ("audiocnn-mlflow", True))


def test_kfp_takes_only_what_depends_on_its_inputs_alone_from_its_cache(documents: list[dict[str, Any]]) -> None:
    tasks = dict(documents[0]["root"]["dag"]["tasks"])
    for group in ("comp-for-loop-1", "comp-condition-2"):
        tasks |= documents[0]["components"][group]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert cached == {"spectrograms", "train", "evaluate"}
    assert "code_digest" in tasks["train"]["inputs"]["parameters"]


def test_people_read_titles_in_the_page(documents: list[dict[str, Any]]) -> None:
    tasks = documents[0]["root"]["dag"]["tasks"]
    titles = {task["taskInfo"]["name"] for task in tasks.values()}
    assert {"Ingest clips", "Gather spectrograms", "Train", "Champion or not"} <= titles
    assert documents[0]["pipelineInfo"]["displayName"] == "Audio CNN: training"


@pytest.fixture(scope="module")
def crossval() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(CROSSVAL.read_text(encoding="utf-8")))


def executors(documents: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Step -> its container, and step -> what it asks of its pod, as the file has them."""
    platform = documents[1]["platforms"]["kubernetes"]
    return documents[0]["deploymentSpec"]["executors"], platform["deploymentSpec"]["executors"]


def test_a_step_asks_for_the_same_in_a_cross_validation_as_in_a_training(
    documents: list[dict[str, Any]], crossval: list[dict[str, Any]]
) -> None:
    for one, other in zip(executors(documents), executors(crossval), strict=True):
        shared = set(one) & set(other)
        assert {f"exec-{name}" for name in ("ingest", *COMPUTING, "train", "evaluate")} == shared
        assert {name: one[name] for name in shared} == {name: other[name] for name in shared}


def test_a_fold_that_was_preempted_is_tried_again(crossval: list[dict[str, Any]]) -> None:
    tasks = crossval[0]["components"]["comp-for-loop-2"]["dag"]["tasks"]
    assert set(tasks) == {"train", "evaluate"} and tasks["train"]["retryPolicy"]["maxRetryCount"] == 2


def test_plan_and_pool_are_light_reach_mlflow_and_are_never_taken_from_the_cache(
    crossval: list[dict[str, Any]],
) -> None:
    json_format.ParseDict(crossval[0], pipeline_spec_pb2.PipelineSpec())
    containers, pods = executors(crossval)
    for name in ("plan", "pool"):
        container, pod = (
            containers[f"exec-{name}"]["container"],
            json_format.ParseDict(pods[f"exec-{name}"], KubernetesExecutorConfig()),
        )
        assert container["image"] == IMAGE and "accelerator" not in container["resources"]
        assert container["resources"]["resourceMemoryLimit"] == kubernetes.LIGHT.memory_limit
        assert pod.security_context.run_as_non_root
        assert environment(pod)["MLFLOW_TRACKING_URI"] == ("audiocnn-mlflow", False)
        assert "enableCache" not in crossval[0]["root"]["dag"]["tasks"][name].get("cachingOptions", {})
