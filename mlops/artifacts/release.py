"""Folders of the steps register, promote and deploy: one record each, register and promote with a page for people."""

from typing import Any, Literal

from audiocnn.config import PositiveInt
from audiocnn.strict_model import StrictModel
from mlops.artifacts.base_folder import RecordFolder

Outcome = Literal["promote", "keep", "refuse", "wait"]


class VersionRecord(StrictModel):
    """The name and number of a registered version, and the MLflow run that trained it."""

    name: str
    version: PositiveInt
    run_id: str


class RegistrationFolder(RecordFolder[VersionRecord]):
    """A registered version and its model card."""

    step = "register"
    marker, kind, page_name = "version.json", VersionRecord, "card.md"


class DecisionRecord(StrictModel):
    """The decision on one version.

    Attributes:
        outcome: "promote", "keep" (no difference to the champion was found), "refuse" or "wait".
        reasons: one sentence for each reason.
        name: name of the registered model.
        challenger: number of the version that was judged.
        champion: number of the version under the alias `champion` at that time, None if there was none.
        comparison: the comparison with the champion (see `components.promote.policy.Comparison`), None without one.
        policy: the block `promote` of the settings.
        decided_at: time, UTC, ISO 8601.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    name: str
    challenger: PositiveInt
    champion: PositiveInt | None
    comparison: dict[str, float] | None
    policy: dict[str, Any]
    decided_at: str


class DecisionFolder(RecordFolder[DecisionRecord]):
    """The decision on one version, and its reasons as a page."""

    step = "promote"
    marker, kind, page_name = "decision.json", DecisionRecord, "decision.md"


class DeploymentRecord(StrictModel):
    """One deployment.

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


class DeploymentFolder(RecordFolder[DeploymentRecord]):
    """The record of one deployment."""

    step = "deploy"
    marker, kind = "deployment.json", DeploymentRecord
