"""One real TorchServe for all tests of serving; their mark xdist_group("torchserve") keeps them on one worker."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.torchserve import deploy_settings, small_model

from audiocnn.classifier import Classifier
from components.deploy.settings import DeploySettings
from serving.torchserve import archive
from serving.torchserve import server as process
from serving.torchserve.client import TorchServe

NAME = "sounds"


@dataclass(frozen=True)
class Running:
    """A TorchServe that serves version 1 of the model `sounds`."""

    settings: DeploySettings
    server: TorchServe
    classifier: Classifier
    model: Path

    @property
    def store(self) -> Path:
        return Path(self.settings.state) / process.STORE

    @property
    def url(self) -> str:
        return self.server.url(NAME)

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {process.inference_key(Path(self.settings.state))}"}


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("torchserve")
    settings = deploy_settings(folder / "state", max_batch_delay_ms=100)
    classifier = small_model(folder / "model", seed=1)
    process.start(settings)
    try:
        server = TorchServe.of(settings)
        mar = archive.build(folder / "model", NAME, 1, Path(settings.state) / process.STORE)
        server.register(mar.name, NAME, "1.0", batch_size=8, max_batch_delay_ms=100, workers=1)
        yield Running(settings, server, classifier, folder / "model")
    finally:
        process.stop(Path(settings.state))
