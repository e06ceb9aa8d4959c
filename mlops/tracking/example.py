"""The input example of a registered version: a clip of its test data."""

import base64
import json
import tempfile

from mlops.tracking.connection import TrackingError
from mlops.tracking.registry import download_artifact
from mlops.tracking.version import Version

FILE = "input_example.json"  # of an MLflow model: a data frame, binary columns in base64


def download_example(version: Version) -> bytes:
    """Return the sound file that was stored with a version as its input example.

    Raises:
        TrackingError: there is none, or MLflow does not answer.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            file = download_artifact(version, FILE, scratch)
            return base64.b64decode(json.loads(file.read_bytes())["data"][0][0])
        except (OSError, TrackingError, ValueError, KeyError, IndexError, TypeError) as error:
            raise TrackingError(
                f"the input example ({FILE}) of {version} cannot be read: {error}; check the artifact store, or "
                "register the model again"
            ) from error
