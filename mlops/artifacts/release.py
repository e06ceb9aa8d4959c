"""Folders of the steps register, promote and deploy."""

from pathlib import Path
from typing import Any, Literal

from audiocnn.config import PositiveInt
from audiocnn.strict_model import StrictModel
from mlops.artifacts.base_folder import Folder

VERSION = "version.json"
DECISION = "decision.json"
DEPLOYMENT = "deployment.json"
Outcome = Literal["promote", "refuse", "wait"]


class VersionRecord(StrictModel):
    """Content of `version.json`: the name and number of a registered version, and the MLflow run that trained it."""

    name: str
    version: PositiveInt
    run_id: str


class RegistrationFolder(Folder):
    """A registered version and its model card."""

    step = "register"
    marker = VERSION

    def record(self) -> VersionRecord:
        """Read `version.json`."""
        return self.read_record(VERSION, VersionRecord)

    @property
    def card(self) -> Path:
        """The model card, Markdown."""
        return self.path / "card.md"

    def write(self, record: VersionRecord, card: str) -> None:
        """Write `version.json` and the model card."""
        self.write_record(VERSION, record)
        self.card.write_text(card, encoding="utf-8")


class DecisionRecord(StrictModel):
    """Content of `decision.json`.

    Attributes:
        outcome: "promote", "refuse" or "wait".
        reasons: one clause for each reason.
        name: name of the registered model.
        challenger: number of the version that was judged.
        champion: number of the version under the alias `champion` at that time, None if there was none.
        paired: the paired comparison with the champion (see `audiocnn.evaluation.PairedComparison`), None without one.
        policy: the block `promote` of the settings.
        decided_at: time, UTC, ISO 8601.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    name: str
    challenger: PositiveInt
    champion: PositiveInt | None
    paired: dict[str, float] | None
    policy: dict[str, Any]
    decided_at: str


class DecisionFolder(Folder):
    """The decision on one version."""

    step = "promote"
    marker = DECISION

    def record(self) -> DecisionRecord:
        """Read `decision.json`."""
        return self.read_record(DECISION, DecisionRecord)

    @property
    def page(self) -> Path:
        """The decision as Markdown."""
        return self.path / "decision.md"

    def write(self, record: DecisionRecord, page: str) -> None:
        """Write `decision.json` and the Markdown page."""
        self.write_record(DECISION, record)
        self.page.write_text(page, encoding="utf-8")


class DeploymentRecord(StrictModel):
    """Content of `deployment.json`.

    Attributes:
        name: name of the registered model.
        version: number of the version that is served.
        previous: number of the version that was served before, None if there was none or it was the same.
        inference, management: addresses of TorchServe's two APIs.
        model_url: address to which clips are sent.
        deployed_at: time, UTC, ISO 8601.
        smoke: the clip, the answer and the duration of the smoke test.
    """

    name: str
    version: PositiveInt
    previous: PositiveInt | None
    inference: str
    management: str
    model_url: str
    deployed_at: str
    smoke: dict[str, Any]


class DeploymentFolder(Folder):
    """The record of one deployment."""

    step = "deploy"
    marker = DEPLOYMENT

    def record(self) -> DeploymentRecord:
        """Read `deployment.json`."""
        return self.read_record(DEPLOYMENT, DeploymentRecord)

    def write(self, record: DeploymentRecord) -> None:
        """Write `deployment.json`."""
        self.write_record(DEPLOYMENT, record)
