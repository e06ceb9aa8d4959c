"""Folders of the steps register, promote and deploy: one record each, register and promote with a page for people."""

from pathlib import Path
from typing import Any, Literal

from audiocnn.config import PositiveInt
from audiocnn.strict_model import StrictModel
from mlops.artifacts.base_folder import RecordFolder
from mlops.artifacts.dataset_folder import DatasetRecord
from mlops.artifacts.evaluation_folder import AuditRecord, Metrics

Outcome = Literal["promote", "keep", "refuse", "wait"]
OUTCOMES: dict[str, str] = {
    "promote": "promoted",
    "keep": "not promoted: no difference to the champion was found",
    "refuse": "refused",
    "wait": "waits for approval",
}


class VersionRecord(StrictModel):
    """The name and number of a registered version, and the MLflow run that trained it."""

    name: str
    version: PositiveInt
    run_id: str


class Registration(VersionRecord):
    """What a version was made of, and how it was evaluated; `registration.json` beside the decision in its MLflow run.

    Attributes:
        registered_at: time, UTC, ISO 8601.
        training: what model.json records of the training: data, recipe, settings, environment (device, precision,
            threads, image, packages) and git revision.
        spectrograms: settings of the front end.
        code_digest: SHA-256 digest of the source files.
        kubeflow_run: id of the Kubeflow run, empty without one.
        kubeflow_url: address of its page, empty if it is not known.
        metrics: on the test fold.
        audit: the accuracy on the audit fold, if there is one.
    """

    registered_at: str
    registered_by: str
    weights_sha256: str
    dataset: DatasetRecord
    training: dict[str, Any]
    spectrograms: dict[str, Any]
    code_digest: str
    kubeflow_run: str
    kubeflow_url: str
    metrics: Metrics
    audit: AuditRecord | None


class RegistrationFolder(RecordFolder[VersionRecord]):
    """A registered version and its model card."""

    step = "register"
    marker, kind, page_name = "version.json", VersionRecord, "card.md"


class DecisionRecord(StrictModel):
    """The decision on one version.

    Attributes:
        outcome: "promote", "keep" (no difference to the champion was found), "refuse" or "wait".
        reasons: one sentence for each reason.
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
    """The decision on one version, its reasons as a page, and a page with challenger and champion side by side."""

    step = "promote"
    marker, kind, page_name = "decision.json", DecisionRecord, "decision.md"

    @property
    def comparison(self) -> Path:
        return self.path / "comparison.html"


class DeploymentRecord(StrictModel):
    """One deployment.

    Attributes:
        version: number of the version that is served.
        previous: number of the version that was served before, None if there was none or it was the same.
        inference, management: addresses of TorchServe's two APIs.
        model_url: address to which clips are sent.
        deployed_at: time, UTC, ISO 8601.
        backend: the runtime of the network on a CPU, such as openvino.
        smoke: the clip, the answer and the duration of the smoke test.
    """

    name: str
    version: PositiveInt
    previous: PositiveInt | None
    inference: str
    management: str
    model_url: str
    deployed_at: str
    backend: str
    smoke: dict[str, Any]


class DeploymentFolder(RecordFolder[DeploymentRecord]):
    """The record of one deployment."""

    step = "deploy"
    marker, kind = "deployment.json", DeploymentRecord
