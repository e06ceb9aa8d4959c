"""A TorchServe whose served version tests can change."""

from pathlib import Path

from helpers.torchserve import build, deploy_settings, small_model
from serving.torchserve.client import TorchServeClient
from serving.torchserve.settings import ARCHIVE_FOLDER

NAME = "sounds"


class Served:
    """A TorchServe for the model `sounds`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = deploy_settings(folder / "state")
        self.client = TorchServeClient.from_settings(self.settings)

    def serve(self, version: int) -> None:
        """Register a version with its own random weights, and make it the default."""
        small_model(self.folder / str(version), seed=version)
        store = Path(self.settings.state) / ARCHIVE_FOLDER
        index = build(self.folder / str(version), NAME, version, store)
        self.client.register(index)
        self.client.set_default(NAME, index.served_version)
