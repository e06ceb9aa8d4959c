"""One real TorchServe for all tests of serving; the mark xdist_group("torchserve") keeps them on one worker."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from helpers.ffmpeg import put_on_path
from helpers.gateway import RunningGateway, gateway
from helpers.torchserve import build, deploy_settings, small_model

from audiocnn.classifier import Classifier
from components.deploy.settings import DeploySettings
from serving.torchserve import server as torchserve
from serving.torchserve.client import TorchServeClient
from serving.torchserve.settings import ARCHIVE_FOLDER

NAME = "sounds"


@dataclass(frozen=True)
class RunningTorchServe:
    """A TorchServe that serves version 1 of the model `sounds`."""

    settings: DeploySettings
    client: TorchServeClient
    classifier: Classifier
    model_folder: Path
    version: str  # in TorchServe

    @property
    def model_store(self) -> Path:
        return Path(self.settings.state) / ARCHIVE_FOLDER

    @property
    def url(self) -> str:
        return self.client.prediction_url(NAME)

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {torchserve.inference_key(Path(self.settings.state))}"}

    def answer(self, clip: bytes, **options: str) -> dict:
        fields = {name: (None, value) for name, value in options.items()}
        files = {"data": ("clip", clip), **fields}
        return requests.post(self.url, files=files, headers=self.authorization, timeout=60).json()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTorchServe]:
    folder = tmp_path_factory.mktemp("torchserve")
    settings = deploy_settings(folder / "state", max_batch_delay_ms=100)
    classifier = small_model(folder / "model", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DB_PASS", "secret")  # the tests set MLFLOW_TRACKING_URI too
        torchserve.start(settings)
    try:
        client = TorchServeClient.from_settings(settings)
        store = Path(settings.state) / ARCHIVE_FOLDER
        index = build(folder / "model", NAME, 1, store, max_batch_delay_ms=100)
        client.register(index)
        yield RunningTorchServe(settings, client, classifier, folder / "model", index.served_version)
    finally:
        torchserve.stop(Path(settings.state))


@pytest.fixture(scope="module")
def served(running: RunningTorchServe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    origins, folder = ["https://sounds.example.org"], tmp_path_factory.mktemp("gateway")
    with pytest.MonkeyPatch.context() as patch:
        put_on_path(folder, patch)
        with gateway(folder, running.settings, NAME, cors_origins=origins) as started:
            yield started
