"""The tags that say which version of a registered model was deployed last, and where."""

from mlops.tracking.connection import connect
from mlops.tracking.registry import list_versions, tag_version
from mlops.tracking.version import Version
from mlops.tracking.version_page import DEPLOYED_AT, DEPLOYED_TO, write_page


def mark_deployed(version: Version, url: str, at: str) -> None:
    """Tag a version with the address at which it is served, and remove this tag from the other versions.

    Args:
        at: time of the deployment, UTC in ISO 8601.
    """
    connection = connect()
    client = connection.client
    tag_version(version.name, version.number, {DEPLOYED_AT: at, DEPLOYED_TO: url})
    write_page(version.name, version.number)
    for other in list_versions(version.name):
        if other.number == version.number or DEPLOYED_TO not in other.tags:
            continue
        for tag in (DEPLOYED_AT, DEPLOYED_TO):
            connection.find(client.delete_model_version_tag, version.name, str(other.number), tag)
        write_page(version.name, other.number)
