"""The name of the container image of all steps; docker/Dockerfile builds it."""

import os
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
# The tag is the version of the project, defined only in pyproject.toml.
IMAGE = f"audiocnn-pipeline:{tomllib.loads(PROJECT.read_text(encoding='utf-8'))['project']['version']}"
IMAGE_VARIABLE = "AUDIOCNN_IMAGE"  # the image's name on the cluster, for steps that create pods


def own_image() -> str:
    """Return the image of this process, by its name on the cluster."""
    return os.environ.get(IMAGE_VARIABLE, IMAGE)
