"""What the compiled pipelines request from a cluster. KFP ignores it locally, so it is read from the files."""

import pytest
from helpers.compiled import Graph, read_graph
from helpers.project import ROOT

from components.train.settings import Toleration
from mlops.image import IMAGE
from pipeline import resources
from pipeline.compile import CROSSVAL, TRAINING, compile_graph, set_image
from pipeline.settings import PipelineSettings, load

SETTINGS = load(ROOT / "params.yaml")
TRACKED = {"train", "evaluate", "register", "promote", "deploy", "plan-trials", "aggregate"}
DECODING = {"ingest", "spectrogram-shard", "spectrograms"}
LOCAL = {"check-parameters", "check-plan", "notify"}  # need neither the volume nor S3


def with_resources(**changes: object) -> Graph:
    return read_graph(compile_graph(TRAINING.name, SETTINGS.replace(resources=SETTINGS.resources.replace(**changes))))


def test_steps_run_in_the_released_image_without_root(graph: Graph) -> None:
    assert set(graph.containers) == set(graph.pods) == set(graph.tasks)
    assert {container["image"] for container in graph.containers.values()} == {IMAGE}
    assert IMAGE.startswith("ghcr.io/") and ":" in IMAGE
    assert all(pod.security_context.run_as_non_root for pod in graph.pods.values())


def test_another_image_replaces_every_name_and_nothing_else() -> None:
    for path in (TRAINING, CROSSVAL):
        text = path.read_text(encoding="utf-8")
        changed = read_graph(set_image(text, "registry.example.org/audiocnn:7"))
        assert {each["image"] for each in changed.containers.values()} == {"registry.example.org/audiocnn:7"}
        assert changed.containers["train"]["env"][0]["value"] == "registry.example.org/audiocnn:7"
        assert read_graph(set_image(text, IMAGE)) == read_graph(text)


def test_tasks_request_cpu_and_memory_and_have_a_time_limit(graph: Graph) -> None:
    for name, container in graph.containers.items():
        requested = set(container["resources"])
        assert {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"} <= requested, name
    limits = {name: pod.active_deadline_seconds / 3600 for name, pod in graph.pods.items()}
    assert limits.pop("train") == 25, "an hour more than a TrainJob"
    assert {limits.pop(name) for name in DECODING} == {12} and set(limits.values()) == {1}


def test_tasks_that_use_the_network_are_retried(graph: Graph) -> None:
    retried = {name: task.retry_policy.max_retry_count for name, task in graph.tasks.items()}
    assert retried == {name: 0 if name in LOCAL else 2 for name in graph.tasks}
    assert graph.tasks["train"].retry_policy.backoff_duration.seconds == 60


def test_only_train_requests_gpus_and_tolerates_their_taint(graph: Graph) -> None:
    found = {name: container["resources"].get("accelerator") for name, container in graph.containers.items()}
    assert found.pop("train")["resourceType"] == "nvidia.com/gpu" and set(found.values()) == {None}
    (toleration,) = graph.pods["train"].tolerations
    assert (toleration.key, toleration.operator, toleration.effect) == ("nvidia.com/gpu", "Exists", "NoSchedule")
    assert not any(pod.tolerations for name, pod in graph.pods.items() if name != "train")


def test_the_number_of_gpus_follows_from_the_parameters(training: Graph) -> None:
    # Kubeflow reads a parameter that is a number as empty text here, so a task returns it as text.
    output = "{{$.inputs.parameters['pipelinechannel--check-parameters-Output']}}"
    assert training.containers["train"]["resources"]["accelerator"]["resourceCount"] == output
    given = training.tasks["train"].inputs.parameters["pipelinechannel--check-parameters-Output"]
    assert given.task_output_parameter.producer_task == "check-parameters"


@pytest.mark.parametrize(("gpus_per_node", "count"), [(8, "1"), (1, "1"), (0, "0")])
def test_a_training_of_a_cross_validation_has_one_gpu_or_none(gpus_per_node: int, count: str) -> None:
    settings = SETTINGS.replace(resources=SETTINGS.resources.replace(gpus_per_node=gpus_per_node))
    graph = read_graph(compile_graph(CROSSVAL.name, settings))
    assert graph.containers["train"]["resources"]["accelerator"]["resourceCount"] == count


def test_the_block_resources_chooses_nodes_and_gpus() -> None:
    taint = Toleration(key="gpus", operator="Equal", value="yes", effect="NoExecute")
    graph = with_resources(
        gpu="amd.com/gpu", node_selector={"example.org/pool": "gpus"}, tolerations=(taint,), max_hours=2.5
    )
    assert graph.containers["train"]["resources"]["accelerator"]["resourceType"] == "amd.com/gpu"
    pod = graph.pods["train"]
    assert dict(pod.node_selector.labels) == {"example.org/pool": "gpus"} and pod.active_deadline_seconds == 12600
    (toleration,) = pod.tolerations
    assert (toleration.key, toleration.value, toleration.effect) == ("gpus", "yes", "NoExecute")


@pytest.mark.parametrize(("memory", "request_of_memory"), [("64Gi", "8Gi"), ("900M", "900M")])
def test_the_block_resources_chooses_cpus_and_memory(memory: str, request_of_memory: str) -> None:
    graph = with_resources(cpu_per_node="500m", memory_per_node=memory)
    requested = graph.containers["train"]["resources"]
    assert (requested["resourceCpuRequest"], requested["resourceMemoryLimit"]) == ("500m", memory)
    assert requested["resourceMemoryRequest"] == request_of_memory


def test_every_pod_uses_the_secrets_of_the_registry(training: Graph) -> None:
    graph = with_resources(image_pull_secrets=("one", "two"))
    used = {tuple(secret.secret_name for secret in pod.image_pull_secret) for pod in graph.pods.values()}
    assert used == {("one", "two")}
    assert not any(pod.image_pull_secret for pod in training.pods.values())


def test_compiling_for_the_default_resources_gives_the_committed_file() -> None:
    assert compile_graph(TRAINING.name, SETTINGS) == TRAINING.read_text(encoding="utf-8")
    assert "birds" in compile_graph(TRAINING.name, named(SETTINGS, "birds"))


def named(settings: PipelineSettings, model: str) -> PipelineSettings:
    return settings.replace(register=settings.register.replace(name=model))


def test_only_train_gets_the_image_name(graph: Graph) -> None:
    variables = {name: container["env"] for name, container in graph.containers.items() if "env" in container}
    assert variables == {"train": [{"name": "AUDIOCNN_IMAGE", "value": IMAGE}]}


def test_train_has_shared_memory(graph: Graph) -> None:
    (mount,) = graph.pods["train"].empty_dir_mounts
    assert (mount.mount_path, mount.medium, mount.size_limit) == ("/dev/shm", "Memory", "8Gi")


def test_downloads_cache_and_checkpoints_are_on_the_volume(graph: Graph) -> None:
    mounted = {name: [(m.constant, m.mount_path) for m in pod.pvc_mount] for name, pod in graph.pods.items()}
    kept = [(resources.STATE_CLAIM, resources.STATE_FOLDER)]
    users = (DECODING | {"train", "deploy", "aggregate"}) & set(graph.pods)  # aggregate deletes checkpoints
    assert {name: mounts for name, mounts in mounted.items() if mounts} == dict.fromkeys(users, kept)


def test_credentials_come_from_secrets(graph: Graph) -> None:
    s3 = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"}
    login = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    serving = {"AUDIOCNN_MODEL_STORE", "AUDIOCNN_INFERENCE_KEYS"}
    for name in graph.pods:
        expected: dict[str, tuple[str, bool]] = {}
        if name not in LOCAL:
            expected |= dict.fromkeys(s3, ("audiocnn-s3", True))
        if name in TRACKED:  # the address is required: without it the runs would be lost with the pod
            expected |= {"MLFLOW_TRACKING_URI": ("audiocnn-mlflow", False)}
            expected |= dict.fromkeys(login, ("audiocnn-mlflow", True))
        if name == "ingest":
            expected["AUDIOCNN_DVC_REMOTE"] = ("audiocnn-s3", True)
        if name == "deploy":
            expected |= dict.fromkeys(serving, ("audiocnn-torchserve", True))
        if name == "register":
            expected["AUDIOCNN_SIGNING_KEY"] = ("audiocnn-signing", True)
        if name in ("promote", "deploy"):
            expected["AUDIOCNN_VERIFY_KEY"] = ("audiocnn-signing", True)
        if name == "notify":
            expected["AUDIOCNN_WEBHOOK_URL"] = ("audiocnn-notify", True)
        assert graph.environment(name) == expected, name


def test_labels_open_the_management_api_to_deploy_and_the_api_of_kubeflow_to_notify(training: Graph) -> None:
    labels = {name: dict(pod.pod_metadata.labels) for name, pod in training.pods.items()}
    assert {name: found for name, found in labels.items() if found} == {
        "deploy": {"audiocnn-step": "deploy"},
        "notify": {"access-ml-pipeline": "true"},
    }


def test_both_pipelines_request_the_same_for_a_step(training: Graph, crossval: Graph) -> None:
    shared = set(training.pods) & set(crossval.pods)
    assert shared == DECODING | {"notify", "train", "evaluate"}
    for name in shared:
        assert training.pods[name] == crossval.pods[name], name
        one, other = (dict(graph.containers[name]["resources"]) for graph in (training, crossval))
        for requested in (one, other):
            requested.pop("accelerator", None)  # a training's number of GPUs is a parameter
        assert one == other, name
