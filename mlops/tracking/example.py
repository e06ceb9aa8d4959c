"""The input example of a registered version: a clip of its test data."""

import base64
import json
import tempfile
from pathlib import Path

from mlops.tracking.connection import TrackingError, connect
from mlops.tracking.version import Version

FILE = "input_example.json"  # of an MLflow model: a data frame, binary columns in base64


def download_example(version: Version) -> bytes:
    """Return the sound file that was stored with a version as its input example.

    Raises:
        TrackingError: there is none, or MLflow does not answer.
    """
    import mlflow.artifacts

    connection = connect()
    uri = connection.call(connection.client.get_model_version_download_uri, version.name, str(version.number))
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = connection.call(
                mlflow.artifacts.download_artifacts, f"{uri}/{FILE}", dst_path=scratch, tracking_uri=connection.uri
            )
            return base64.b64decode(json.loads(Path(path).read_bytes())["data"][0][0])
        except (OSError, TrackingError, ValueError, KeyError, IndexError, TypeError) as error:
            raise TrackingError(
                f"the input example ({FILE}) of {version} cannot be read: {error}; check the artifact store, or "
                "register the model again"
            ) from error
