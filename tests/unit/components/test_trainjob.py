"""The manifest of the TrainJob, verified against Kubeflow Trainer's API models."""

from typing import Any

import pytest
from helpers.trainjobs import round_trip
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.strict_model import SettingsError
from components.train.settings import ResourceSettings, Toleration
from components.train.trainjob_manifest import manifest
from mlops import cluster

COMMAND = ["components.train", "--request", "var/trainjobs/one/request.json"]


def job_of(**settings: Any) -> dict[str, Any]:
    return manifest("one", "registry/audiocnn:7", COMMAND, ResourceSettings(**settings), "ClusterTrainingRuntime")


def template_of(job: dict[str, Any]) -> dict[str, Any]:
    (patch,) = job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == "node"
    found: dict[str, Any] = replicated["template"]["spec"]["template"]
    return found


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = template_of(job)["spec"]
    return found


def test_manifest_has_valid_fields_with_the_settings() -> None:
    job = job_of(nodes=3, gpus_per_node=4, max_hours=1.5)
    assert round_trip(job) == job
    assert (job["apiVersion"], job["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert job["metadata"] == {"name": "one"}  # the namespace is that of the request
    reference = job["spec"]["runtimeRef"]
    assert reference == {
        "apiGroup": "trainer.kubeflow.org",
        "kind": "ClusterTrainingRuntime",
        "name": "torch-distributed",
    }
    assert job["spec"]["activeDeadlineSeconds"] == 5400
    trainer = job["spec"]["trainer"]
    assert trainer["image"] == "registry/audiocnn:7"
    assert trainer["command"] == ["torchrun", "-m", *COMMAND]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (3, 4)
    assert trainer["resourcesPerNode"] == {
        "requests": {"cpu": "4", "memory": "32Gi", "nvidia.com/gpu": "4"},
        "limits": {"memory": "32Gi", "nvidia.com/gpu": "4"},
    }


def test_environment_names_the_image_and_refers_to_secrets() -> None:
    image, *secrets = job_of()["spec"]["trainer"]["env"]
    assert image == {"name": "AUDIOCNN_IMAGE", "value": job_of()["spec"]["trainer"]["image"]}
    environment = {variable["name"]: variable["valueFrom"]["secretKeyRef"] for variable in secrets}
    assert environment == {
        "MLFLOW_TRACKING_URI": {"name": "audiocnn-mlflow", "key": "tracking-uri"},
        "MLFLOW_TRACKING_USERNAME": {"name": "audiocnn-mlflow", "key": "username", "optional": True},
        "MLFLOW_TRACKING_PASSWORD": {"name": "audiocnn-mlflow", "key": "password", "optional": True},
        "AWS_ACCESS_KEY_ID": {"name": "audiocnn-s3", "key": "access-key-id", "optional": True},
        "AWS_SECRET_ACCESS_KEY": {"name": "audiocnn-s3", "key": "secret-access-key", "optional": True},
        "AWS_ENDPOINT_URL": {"name": "audiocnn-s3", "key": "endpoint-url", "optional": True},
    }
    # The API refuses patches of the environment of the container `node`.
    (container,) = pod_of(job_of())["containers"]
    assert "env" not in container


def test_pods_mount_the_volumes_and_run_without_root() -> None:
    pod = pod_of(job_of())
    (container,) = pod["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume.pop("name"): volume for volume in pod["volumes"]}
    assert container["name"] == "node" and mounted == {"state": "/app/var", "shared-memory": "/dev/shm"}
    assert volumes["state"] == {"persistentVolumeClaim": {"claimName": cluster.STATE_CLAIM}}
    assert volumes["shared-memory"] == {"emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}
    assert pod["securityContext"] == {"runAsNonRoot": True}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_sidecar_injection_is_disabled() -> None:
    assert template_of(job_of())["metadata"] == {"labels": {"sidecar.istio.io/inject": "false"}}


def test_pods_run_on_the_chosen_nodes_with_the_chosen_gpus() -> None:
    job = job_of(
        nodes=2,
        gpu="amd.com/gpu",
        node_selector={"example.org/pool": "gpus"},
        tolerations=(Toleration(key="gpus", operator="Equal", value="yes", effect="NoExecute"),),
        image_pull_secrets=("registry",),
    )
    assert round_trip(job) == job
    assert job["spec"]["trainer"]["resourcesPerNode"]["limits"]["amd.com/gpu"] == "1"
    pod = pod_of(job)
    assert pod["nodeSelector"] == {"example.org/pool": "gpus"} and pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["tolerations"] == [{"key": "gpus", "operator": "Equal", "value": "yes", "effect": "NoExecute"}]


def test_nodes_without_gpus_request_none() -> None:
    job = job_of(nodes=2, gpus_per_node=0)
    resources = job["spec"]["trainer"]["resourcesPerNode"]
    assert round_trip(job) == job and job["spec"]["trainer"]["numProcPerNode"] == 1
    assert resources["requests"] == resources["limits"] == {"cpu": "4", "memory": "32Gi"}
    assert "tolerations" not in pod_of(job)


@given(
    nodes=st.integers(1, 10_000),
    gpus_per_node=st.integers(0, 64),
    cpu_per_node=st.from_regex(r"\A[1-9][0-9]{0,3}m?\Z"),
    memory_per_node=st.from_regex(r"\A[1-9][0-9]{0,3}(Mi|Gi|G)\Z"),
    max_hours=st.floats(0, 9_999, exclude_min=True),
)
def test_valid_settings_make_a_valid_manifest(**settings: Any) -> None:
    job = job_of(**settings)
    assert round_trip(job) == job
    trainer = job["spec"]["trainer"]
    assert trainer["numNodes"] * trainer["numProcPerNode"] == settings["nodes"] * max(1, settings["gpus_per_node"])
    assert job["spec"]["activeDeadlineSeconds"] >= 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nodes", 0),
        ("gpus_per_node", -1),
        ("cpu_per_node", "four"),
        ("cpu_per_node", "4Gi"),
        ("memory_per_node", "32 GB"),
        ("memory_per_node", "500m"),
        ("memory_per_node", "0Gi"),
        ("runtime", ""),
        ("max_hours", 0),
        ("max_hours", float("nan")),
        ("nodes", 1.5),
        ("node", 2),
    ],
)
def test_invalid_setting_is_named(key: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"params.yaml: .*{key}"):
        ResourceSettings.parse({**ResourceSettings().to_dict(), key: value}, "params.yaml")


def test_integral_doubles_from_kubeflow_are_accepted() -> None:
    assert ResourceSettings.parse({**ResourceSettings().to_dict(), "nodes": 2.0}, "x").nodes == 2
