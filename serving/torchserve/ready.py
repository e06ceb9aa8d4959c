"""Readiness probe of a container: `python -m serving.torchserve.ready` exits with 0 if a model answers a request."""

import sys

from audiocnn.errors import AudioCNNError
from serving.torchserve.client import TorchServeClient, environment_key
from serving.torchserve.start import INFERENCE, MANAGEMENT
from serving.torchserve.tone import tone


def problem(client: TorchServeClient) -> str:
    """Return why no model answers; empty if one does."""
    try:
        models = client.list_models()
        for name in models:
            client.predict(tone(), name)
    except AudioCNNError as error:
        return str(error)
    return "" if models else "no model is registered; it is registered by the first deploy"


def main() -> int:
    """Print the problem, if there is one, and return the exit status."""
    found = problem(TorchServeClient(INFERENCE, MANAGEMENT, key=environment_key()))
    print(found or "ready")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
