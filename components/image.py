"""The container image that every step runs in, by name; docker/Dockerfile builds it."""

import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def _image() -> str:
    """Name and tag; the tag is the project's version, which stands in pyproject.toml and nowhere else."""
    version = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"]
    return f"audiocnn-pipeline:{version}"


IMAGE = _image()
