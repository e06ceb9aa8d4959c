"""What the settings of this machine change against those in the image."""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiocnn.strict_model import SettingsError
from mlops.provenance import ROOT, UNKNOWN
from mlops.run_parameters import KEYS
from mlops.settings import PARAMS, RECIPE, RECIPES
from pipeline.kubeflow.errors import KubeflowError
from pipeline.kubeflow.image import short_revision
from pipeline.settings import PipelineSettings, load


def changed_settings(settings: PipelineSettings) -> dict[str, Any]:
    """Return what differs from the committed params.yaml and recipes, which an image of the git revision contains.

    If the revision is unknown, so are the settings in the image, and all are returned.

    Returns:
        nested, such as {"train": {"epochs": 3}}, without the keys that pipeline parameters set.
    Raises:
        KubeflowError: the committed files do not have the recipe, or overrides cannot express the difference.
    """
    committed = {} if short_revision() == UNKNOWN else _committed_settings(settings.recipe).to_dict()
    changes = difference(settings.to_dict(), committed)
    for key in (RECIPE, *KEYS.values()):
        _remove(changes, key.split("."))
    return changes


def difference(values: Mapping[str, Any], committed: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the overrides that turn nested `committed` settings into `values`.

    Raises:
        KubeflowError: `values` lacks a key.
    """
    changes: dict[str, Any] = {}
    if removed := [key for key in committed if key not in values]:
        raise KubeflowError(
            f"{prefix}{removed[0]}: overrides cannot remove a key; commit the change and build an image"
        )
    for key, value in values.items():
        before = committed.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if inner := difference(value, before, f"{prefix}{key}."):
                changes[key] = inner
        elif key not in committed or value != before:
            changes[key] = value
    return changes


def _remove(changes: dict[str, Any], path: list[str]) -> None:
    """Remove a key, and the mappings that are empty without it."""
    key, *rest = path
    if rest and key in changes:
        _remove(changes[key], rest)
    if not rest or changes.get(key) == {}:
        changes.pop(key, None)


def _committed_settings(recipe: str) -> PipelineSettings:
    with _committed_files() as folder:
        try:
            return load(folder / PARAMS.name, {RECIPE: recipe})
        except SettingsError as error:
            reason = str(error).splitlines()[0].replace(f"{folder}/", "")
            raise KubeflowError(
                f"the image of the last commit cannot run this: {reason}; commit your changes and build a new image"
            ) from error


@contextmanager
def _committed_files() -> Iterator[Path]:
    """Provide a folder with params.yaml and recipes/ of the last commit; in an image, those of the image."""
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", "HEAD", PARAMS.name, RECIPES]
    try:
        archive = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # an image knows its revision, but has no repository
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
        yield Path(folder)
