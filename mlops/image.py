"""The container image that every step runs in, by name; docker/Dockerfile builds it."""

import os
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def _image() -> str:
    """Name and tag; the tag is the project's version, which stands in pyproject.toml and nowhere else."""
    version = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"]
    return f"audiocnn-pipeline:{version}"


IMAGE = _image()
IMAGE_VARIABLE = "AUDIOCNN_IMAGE"  # what the cluster calls the image, for a step that starts pods of its own


def own_image() -> str:
    """The image that this process runs in, as the cluster finds it."""
    return os.environ.get(IMAGE_VARIABLE, IMAGE)
