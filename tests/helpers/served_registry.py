"""A registry with decided versions and a real TorchServe, to which the commands of `audiocnn` are given."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import pytest
from click.testing import Result
from typer.testing import CliRunner

from components.deploy.settings import DeploySettings
from helpers import registry
from helpers.project import ROOT
from helpers.torchserve import deploy_settings, free_ports
from mlops import tracking
from mlops.artifacts import Outcome
from mlops.tracking import champion, history, outside_changes
from pipeline.cli import app
from serving.supervision.endpoint import stop
from serving.torchserve.client import TorchServeClient, from_served_version


@dataclass
class ServedRegistry:
    """A registered model and the TorchServe to which its champion is deployed."""

    name: str
    folder: Path
    data: registry.Data
    settings: DeploySettings
    gateway_port: int = field(default_factory=lambda: free_ports(1)[0])
    candidates: dict[int, registry.Candidate] = field(default_factory=dict)

    @property
    def client(self) -> TorchServeClient:
        return TorchServeClient.from_settings(self.settings)

    @property
    def mlflow(self) -> mlflow.MlflowClient:
        return tracking.connect().client

    def register(self, outcome: Outcome | None = None) -> int:
        """Register a version, with a decision of the step promote unless `outcome` is None; return its number."""
        number = len(self.candidates) + 1
        # The length of the path is the seed of the weights.
        made = registry.candidate(self.folder / f"model-{number:0{number}d}", self.name, self.data)
        self.candidates[number] = made
        if outcome is not None:
            before = self.champion() if outcome == "wait" else None
            registry.record_decision(self.name, number, outcome, before, ["accuracy is 12.5 %, below 60 %"])
            status = {"wait": "pending", "promote": "approved"}.get(outcome, "rejected")
            tracking.tag_version(self.name, number, {tracking.STATUS_TAG: status})
        assert made.version.number == number
        return number

    def call(self, *arguments: str) -> Result:
        """Run a command with this model and this TorchServe."""
        options = ["--params", str(ROOT / "params.yaml"), "--set", f"register.name={self.name}"]
        options += ["--set", f"gateway.port={self.gateway_port}"]
        for key in ("inference", "management", "metrics", "state"):
            options += ["--set", f"deploy.{key}={getattr(self.settings, key)}"]
        return CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)

    def run(self, *arguments: str) -> Result:
        """Run a command that succeeds."""
        result = self.call(*arguments)
        assert result.exit_code == 0, result.output
        return result

    def champion(self) -> int | None:
        version = tracking.version_by_alias(self.name, champion.CHAMPION)
        return None if version is None else version.number

    def served(self) -> int | None:
        return from_served_version(self.client.default_version(self.name) or "")

    def state(self) -> tuple[int | None, int | None]:
        """Return the champion and the served version."""
        return self.champion(), self.served()

    def move_alias(self, number: int) -> None:
        """Move the alias like MLflow's page."""
        self.mlflow.set_registered_model_alias(self.name, champion.CHAMPION, str(number))

    def changes(self) -> list[tuple[str, int | None, int | None]]:
        """Return kind, version before and version after of every entry of the history."""
        return [(entry.kind, entry.version_from, entry.version_to) for entry in history.entries(self.name)]

    def page(self, number: int) -> str:
        return str(self.mlflow.get_model_version(self.name, str(number)).description)


@contextmanager
def served_registry(name: str, folder: Path) -> Iterator[ServedRegistry]:
    """Create a registry without versions; TorchServe is started by the first command that deploys."""
    made = ServedRegistry(name, folder, registry.write_data(folder / "data"), deploy_settings(folder / "state"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # var/deployment
        # A test does not wait before it moves the alias back to where it was.
        patch.setattr(outside_changes, "UNDER_WAY", 0.0)
        try:
            yield made
        finally:
            stop(Path(made.settings.state))
