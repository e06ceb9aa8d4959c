"""From a version of a model to its data, code and computer, and back from each of them to the versions."""

from collections.abc import Mapping
from typing import Any

from mlops.kubeflow_run import RUN_TAG
from mlops.tracking.connection import TrackingError, connect
from mlops.tracking.records import read_records
from mlops.tracking.registry import list_versions
from mlops.tracking.runs import DIFF_FILE
from mlops.tracking.version import Version

BATCH = 100  # runs in one search


def lineage(version: Version) -> dict[str, Any]:
    """Return what a version was made of: nested JSON values.

    Raises:
        TrackingError: the version has no record of it, or MLflow does not answer.
    """
    records = read_records(version)
    registration = records.registration
    if registration is None:
        raise TrackingError(
            f"{version} has no record of its lineage: it was registered by release 0.1.0, or its registration.json "
            "was deleted or damaged"
        )
    connection = connect()
    client, training = connection.client, registration.training
    files = connection.call(client.list_artifacts, version.run_id)
    environment = dict(training.get("environment", {}))
    return {
        "model": version.name,
        "version": version.number,
        "registered": {"at": registration.registered_at, "by": registration.registered_by},
        "weights_sha256": registration.weights_sha256,
        "data": {
            "source": registration.dataset.source,
            "digest": registration.dataset.digest,
            "origin": registration.dataset.origin,
            "clips": registration.dataset.clips,
            "test_fold": training["dataset"]["test_fold"],
        },
        "code": {
            "git_revision": training["git_revision"],
            "diff": f"runs:/{version.run_id}/{DIFF_FILE}" if DIFF_FILE in [file.path for file in files] else "",
            "code_digest": registration.code_digest,
            "lock_sha256": environment.pop("lock", ""),
            "image": environment.pop("image", ""),
        },
        "runs": {
            "mlflow": version.run_id,
            "kubeflow": registration.kubeflow_run,
            "kubeflow_page": registration.kubeflow_url,
        },
        "computed_on": environment,
        "settings": {
            "recipe": training.get("recipe", ""),
            "ingest": registration.dataset.settings,
            "train": training["train"],
            "spectrograms": registration.spectrograms,
        },
        "decision": {} if records.decision is None else records.decision.to_dict(),
    }


def find_by_lineage(name: str, *, data: str = "", git: str = "", image: str = "", run: str = "") -> list[Version]:
    """Return the versions of a model that were made of this data, code, image or run, oldest first.

    Args:
        data: beginning of the digest of the data set.
        git: beginning of the git revision.
        image: name of the container image.
        run: id of the MLflow run of the training, or of the Kubeflow run.
    """
    found = list_versions(name)
    runs = _runs({version.run_id for version in found})

    def matches(version: Version) -> bool:
        if version.run_id not in runs:
            return False
        tags, params = runs[version.run_id]
        return (
            tags.get("dataset_digest", "").startswith(data)
            and tags.get("git_revision", "").startswith(git)
            and image in ("", params.get("environment.image"))
            and run in ("", version.run_id, tags.get(RUN_TAG))
        )

    return [version for version in found if matches(version)]


def _runs(ids: set[str]) -> dict[str, tuple[Mapping[str, str], Mapping[str, str]]]:
    """Return the tags and the parameters of runs by id, without those that do not exist."""
    connection = connect()
    client = connection.client
    experiments = [item.experiment_id for item in connection.call(client.search_experiments)]
    ordered, runs = sorted(ids), {}
    for start in range(0, len(ordered), BATCH):
        listed = ", ".join(f"'{run_id}'" for run_id in ordered[start : start + BATCH])
        for run in connection.call(client.search_runs, experiments, f"attributes.run_id IN ({listed})"):
            runs[str(run.info.run_id)] = (run.data.tags, run.data.params)
    return runs
