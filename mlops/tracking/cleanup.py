"""Removal of old versions of a registered model, with their files.

MLflow keeps the files of a version that is deleted, and `mlflow gc` does not find them either: they belong to the
MLflow model behind the version, which is not deleted with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops.tracking import history
from mlops.tracking.champion import champions_of
from mlops.tracking.connection import Connection, connect
from mlops.tracking.manifest import artifacts
from mlops.tracking.registry import STATUS_TAG, list_versions
from mlops.tracking.runs import user
from mlops.tracking.version import Version
from mlops.tracking.version_page import DEPLOYED_AT

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository


@dataclass(frozen=True)
class Removal:
    """A version to remove.

    Attributes:
        size: bytes of its files; 0 if another version has the same files, which then stay.
    """

    version: Version
    size: int


def plan(name: str, keep: int) -> list[Removal]:
    """Return the versions that `remove` may remove, oldest first.

    Kept are the newest `keep` versions, those with an alias (champion, challenger, previous, or any other), the
    champions that a rollback may lead to, versions that wait for approval or are marked as deployed, and versions that
    were not registered by audiocnn.
    """
    connection = connect()
    versions = list_versions(name)
    newest = [version.number for version in versions[-keep:]] if keep else []
    model = connection.find(connection.client.get_registered_model, name)
    aliases = {} if model is None else model.aliases
    kept = {*newest, *map(int, aliases.values()), *champions_of(history.entries(name))}
    return [
        Removal(version, 0 if _is_shared(version, connection) else sum(_sizes(artifacts(version.model_id))))
        for version in versions
        if version.number not in kept and version.model_id and not _waits(version) and DEPLOYED_AT not in version.tags
    ]


def _waits(version: Version) -> bool:
    """Return whether a version waits for an approval: one that was approved keeps its decision."""
    return version.tags.get("decision") == "wait" and version.tags.get(STATUS_TAG) != "approved"


def remove(removal: Removal) -> None:
    """Remove a version and its files, and record it in the history. Repeated after an interruption, it goes on.

    The training run stays, with its metrics and reports.
    """
    version, connection = removal.version, connect()
    client, name, number = connection.client, version.name, version.number
    history.append(name, "delete", version_from=None, version_to=number, by=user(), because="audiocnn gc")
    shared = _is_shared(version, connection)
    if not shared:
        # First the files: without the version, a repeated call could not find them.
        connection.call(artifacts(version.model_id).delete_artifacts)
    connection.call(client.delete_model_version, name, str(number))
    if not shared:
        connection.call(client.delete_logged_model, version.model_id)


def _is_shared(version: Version, connection: Connection) -> bool:
    """Return whether another version, perhaps of another registered model, has the same files."""
    client = connection.client
    source = connection.call(client.get_model_version, version.name, str(version.number)).source
    return len(connection.call(client.search_model_versions, f"source_path = '{source}'")) > 1


def _sizes(repository: "ArtifactRepository", folder: str | None = None) -> Iterator[int]:
    for item in repository.list_artifacts(folder):
        if item.is_dir:
            yield from _sizes(repository, item.path)
        else:
            yield int(item.file_size or 0)
