"""A small model, the handler that has loaded it, and the Kubernetes manifests."""

import pytest
from helpers.handler import make_context
from helpers.manifests import OVERLAYS, Overlays, checkout, render
from helpers.torchserve import small_model

from serving.torchserve.handler import AudioCNNHandler


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("handler") / "model"
    return folder, small_model(folder, seed=1)


@pytest.fixture(scope="module")
def handler(model):
    handler = AudioCNNHandler()
    handler.initialize(make_context(model[0]))
    return handler


@pytest.fixture(scope="session")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> Overlays:
    folder = checkout(tmp_path_factory.mktemp("manifests"))
    return {name: render(folder / name) for name in OVERLAYS}
