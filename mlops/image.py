"""The name of the container image of all steps; docker/Dockerfile builds it."""

import os
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
# Where releases are published. Change it in a fork; runs with an image of another registry are started with --image.
REPOSITORY = "ghcr.io/audiocnn/audiocnn-pipeline"
# The tag is the version of the project, defined only in pyproject.toml.
IMAGE = f"{REPOSITORY}:{tomllib.loads(PROJECT.read_text(encoding='utf-8'))['project']['version']}"
IMAGE_VARIABLE = "AUDIOCNN_IMAGE"  # set in containers: the name that their image was started by


def own_image() -> str:
    """Return the name of the image that this process runs in; empty outside of the pipeline's containers."""
    return os.environ.get(IMAGE_VARIABLE, "")
