"""The step deploy with two real containers of TorchServe behind one name, and a model store on S3."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from helpers.s3 import new_bucket
from helpers.torchserve import (
    build,
    deploy_settings,
    encode,
    free_ports,
    noise,
    probabilities,
    registered_models,
    requests_under_way,
    with_the_model_of,
)
from helpers.torchserve_container import KEYS, Container

from audiocnn.classifier import Classifier
from components.deploy import rollout
from components.deploy.settings import DeploySettings
from components.deploy.smoke_test import SmokeTestError
from components.deploy.step import DeployError, deploy
from mlops import tracking
from mlops.artifacts import DeploymentRecord
from mlops.storage import open_store
from pipeline.cli.status import collect, render
from pipeline.settings import PipelineSettings
from serving.torchserve import ready, replicas
from serving.torchserve.client import ServingError, TorchServeClient, from_served_version
from serving.torchserve.model_store import ModelStore

pytestmark = [pytest.mark.xdist_group("replicas"), pytest.mark.slow]
NAME = "replicated"
CLIP = encode(noise())


@dataclass(frozen=True)
class Cluster:
    """Two containers, a registry with three versions of one model, and a model store."""

    containers: tuple[Container, Container]
    settings: DeploySettings
    models: dict[int, Classifier]
    folder: Path
    dataset: Path

    @property
    def store(self) -> ModelStore:
        return ModelStore(self.settings.model_store)

    def deploy(self, champion: int) -> DeploymentRecord:
        tracking.set_alias(NAME, "champion", champion)
        return deploy(NAME, self.dataset, self.settings, self.folder / "deployment")

    def served(self) -> list[int]:
        """Return the version that answers at each replica, after comparing the answer with the model's."""
        versions = []
        for container in self.containers:
            answer = container.client.predict(CLIP, NAME)
            versions.append(answer["model"]["version"])
            expected = probabilities(self.models[versions[-1]], CLIP)
            for item in answer["predictions"]:
                assert item["probability"] == pytest.approx(expected[item["class"]], abs=1e-5)
        return versions

    def requests_under_way(self, retry: bool) -> AbstractContextManager[tuple[list[int], list[ServingError]]]:
        """Send requests from four clients in a block; with `retry`, to the other replica too before one fails."""
        orders = [self.containers, self.containers[::-1]] * 2
        streams = [[container.client for container in (order if retry else order[:1])] for order in orders]
        return requests_under_way(streams, NAME, CLIP)

    def registered(self) -> list[list[int]]:
        return [numbers(each.client) for each in self.containers]

    def archives(self) -> list[str]:
        """Return the files of the model store, without the numbers of the releases."""
        files = open_store(self.settings.model_store).list()
        return sorted(re.sub(r"\.\d+\.mar", ".mar", entry.name) for entry in files)


def numbers(client: TorchServeClient) -> list[int]:
    """Return the numbers of the versions that are registered in one TorchServe."""
    return [from_served_version(served.version) for served in client.list_versions(NAME)]


@pytest.fixture(scope="module")
def cluster(dataset: Path, s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    models = registered_models(folder, NAME, dataset)
    inference, management, metrics = free_ports(3)
    with pytest.MonkeyPatch.context() as patch:
        store = f"{new_bucket(s3_server, patch)}/models"
        patch.setenv("AUDIOCNN_INFERENCE_KEYS", KEYS)
        patch.setattr(replicas, "resolve", lambda host: {"replicas.test": ["127.0.0.2", "127.0.0.3"]}[host])
        containers = tuple(
            Container(address, (inference, management, metrics), folder, store)
            for address in ("127.0.0.2", "127.0.0.3")
        )
        settings = deploy_settings(
            folder / "state",
            start=False,
            inference=f"http://sounds.test:{inference}",
            management=f"http://replicas.test:{management}",
            model_store=store,
            backend="torch",
        )
        try:
            for container in containers:
                container.start()
            for container in containers:
                container.wait_until_started()
            yield Cluster(containers, settings, models, folder, dataset)
        finally:
            for container in containers:
                container.kill()


def test_containers_without_a_model_run_and_are_not_ready(cluster):
    for container in cluster.containers:
        assert container.client.health() == "Healthy"
        assert "no model is registered" in ready.problem(container.client)
    assert cluster.archives() == []


def test_first_deploy_reaches_every_replica(cluster):
    record = cluster.deploy(champion=1)
    assert cluster.served() == [1, 1]
    assert [ready.problem(container.client) for container in cluster.containers] == ["", ""]
    assert (record.version, record.previous) == (1, None)
    assert record.model_url == f"{cluster.settings.inference}/predictions/{NAME}"
    index = cluster.store.index()
    assert (index.name, index.version, index.served_version) == (NAME, 1, index.archive[len(NAME) + 1 : -len(".mar")])
    assert cluster.archives() == ["index.json", f"{NAME}-1.mar"]


def test_repeated_deploy_changes_nothing(cluster):
    cluster.deploy(champion=1)
    before = list(open_store(cluster.settings.model_store).list()), workers(cluster)
    cluster.deploy(champion=1)
    assert (list(open_store(cluster.settings.model_store).list()), workers(cluster)) == before


def workers(cluster) -> list[list[int]]:
    return [
        [pid for served in each.client.list_versions(NAME) for pid in served.worker_pids.values()]
        for each in cluster.containers
    ]


@pytest.mark.parametrize(("key", "status"), [("new-key", 200), ("old-key", 200), ("other", 401), (None, 401)])
def test_requests_need_one_of_the_keys(cluster, key, status):
    url = cluster.containers[0].client.prediction_url(NAME)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    response = requests.post(url, data=CLIP, headers={"Content-Type": "audio/wav", **headers}, timeout=30)
    assert response.status_code == status


def test_wrong_key_is_reported_with_the_variable_to_set(cluster):
    client = cluster.containers[0].client
    client.key = "other"
    with pytest.raises(ServingError, match="refuses the key; set AUDIOCNN_INFERENCE_KEYS"):
        client.predict(CLIP, NAME)


def test_no_request_fails_while_all_replicas_switch(cluster):
    with cluster.requests_under_way(retry=False) as (answers, failures):
        record = cluster.deploy(champion=2)
    assert failures == []
    assert set(answers) == {1, 2}
    assert (record.version, record.previous) == (2, 1)
    assert (cluster.served(), cluster.registered()) == ([2, 2], [[2], [2]])
    assert cluster.archives() == ["index.json", f"{NAME}-2.mar"]


def test_version_that_fails_on_one_replica_is_removed_from_all(cluster, tmp_path):
    index = build(cluster.folder / "3", NAME, 3, tmp_path)
    wrong = tmp_path / index.archive
    with_the_model_of(cluster.folder / "1", wrong)
    cluster.store.put(wrong)
    second = cluster.containers[1].client
    rollout.ensure_registered(second, index)
    with pytest.raises(SmokeTestError, match="version 3: the served probabilities differ"):
        cluster.deploy(champion=3)
    assert (cluster.served(), cluster.registered()) == ([2, 2], [[2], [2]])
    assert cluster.store.index().version == 2
    assert f"{NAME}-3.mar" not in cluster.archives()


def test_replica_that_dies_during_a_deploy_serves_again_by_itself(cluster, tiny: PipelineSettings, monkeypatch):
    cluster.deploy(champion=2)
    first, second = cluster.containers
    register = rollout.ensure_registered

    def register_then_kill(client, index) -> None:
        if client.management == second.client.management:
            assert second.kill_torchserve() != 0
        register(client, index)

    settings = tiny.replace(deploy=cluster.settings, register=tiny.register.replace(name=NAME))
    with cluster.requests_under_way(retry=True) as (answers, failures):
        with monkeypatch.context() as patch:
            patch.setattr(rollout, "ensure_registered", register_then_kill)
            refused = rf"at http://{second.address}:\d+ cannot be reached \(Connection refused"
            with pytest.raises(ServingError, match=refused):
                cluster.deploy(champion=3)
        # The other one serves the previous version alone. The alias stays, and status reports the difference.
        assert numbers(first.client) == [2]
        assert tracking.version_by_alias(NAME, "champion").number == 3
        assert cluster.store.index().version == 2
        text = render(collect(settings))
        assert f"{first.client.prediction_url(NAME)}: Healthy, serves version 2" in text
        assert f"TorchServe at {second.client.inference} cannot be reached" in text
        assert "the champion, version 3, is not served everywhere; run `audiocnn deploy`" in text
        # Started with an empty folder, it serves what the index names.
        second.start()
        second.wait_until_started()
        assert cluster.served() == [2, 2]
        assert ready.problem(second.client) == ""
        cluster.deploy(champion=3)
    assert failures == [] and set(answers) == {2, 3}
    assert (cluster.served(), cluster.registered()) == ([3, 3], [[3], [3]])
    assert "not served everywhere" not in render(collect(settings))


def test_a_container_with_a_worker_that_hangs_ends_and_serves_again(cluster):
    cluster.deploy(champion=3)
    container = cluster.containers[1]
    assert container.suspend_worker() == 2
    assert "error: TorchServe hangs: no answer to 2 requests" in container.log
    container.start()
    container.wait_until_started()
    assert cluster.served() == [3, 3]


def test_unreachable_replica_is_named_and_changes_nothing(cluster, monkeypatch):
    cluster.deploy(champion=3)
    missing = Container("127.0.0.4", cluster.containers[0].ports, cluster.folder, "")
    monkeypatch.setattr(replicas, "resolve", lambda host: ["127.0.0.2", "127.0.0.3", missing.address])
    with pytest.raises(ServingError, match=rf"TorchServe at {missing.client.management} cannot be reached"):
        cluster.deploy(champion=2)
    assert (cluster.served(), cluster.registered()) == ([3, 3], [[3], [3]])
    assert cluster.archives() == ["index.json", f"{NAME}-3.mar"]


def test_store_of_another_model_is_refused(cluster, tmp_path):
    index = cluster.store.index()
    cluster.store.write_index(index.replace(name="other"))
    try:
        with pytest.raises(DeployError, match=r"is the model store of 'other', and each model needs its own"):
            cluster.deploy(champion=3)
    finally:
        cluster.store.write_index(index)
    assert cluster.served() == [3, 3]


def test_damaged_archive_is_not_served(cluster, tmp_path):
    index = cluster.store.index()
    store = ModelStore(str(tmp_path / "store"))
    store.write_index(index)
    (tmp_path / "store" / index.archive).write_bytes(b"damaged")
    container = Container("127.0.0.4", cluster.containers[0].ports, tmp_path, store.address)
    container.start()
    assert container.process.wait(60) == 2
    assert container.log.strip() == f"error: {index.archive}: its SHA-256 differs from that in index.json; deploy again"


def test_no_key_is_in_the_logs(cluster):
    for container in cluster.containers:
        assert "[start] serves" in container.log
        assert not [secret for secret in (*KEYS.split(), "very-secret") if secret in container.log]


def test_stopped_container_ends_with_all_of_its_processes(cluster):
    first = cluster.containers[0]
    assert first.stop() == 143
    with pytest.raises(ServingError, match="cannot be reached"):
        first.client.list_models()
