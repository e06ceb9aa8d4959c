"""What the settings of this machine change against those in the image."""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiocnn.strict_model import SettingsError
from mlops.provenance import ROOT, UNKNOWN
from mlops.run_parameters import KEYS
from mlops.settings import PARAMS, RECIPE, RECIPES, difference
from pipeline.kubeflow.errors import KubeflowError
from pipeline.kubeflow.image import short_revision
from pipeline.settings import PipelineSettings, load


def changed_settings(settings: PipelineSettings) -> dict[str, Any]:
    """Return what differs from the committed params.yaml and recipes, which an image of the git revision contains.

    If the revision is unknown, so are the settings in the image, and all are returned.

    Returns:
        nested, such as {"train": {"epochs": 3}}, without the keys that pipeline parameters set.
    Raises:
        KubeflowError: the committed files do not have the recipe.
        SettingsError: overrides cannot express the difference.
    """
    committed = {} if short_revision() == UNKNOWN else _committed_settings(settings.recipe).to_dict()
    changes = difference(settings.to_dict(), committed)
    for key in (RECIPE, *KEYS.values()):
        _remove(changes, key.split("."))
    return changes


def _remove(changes: dict[str, Any], path: list[str]) -> None:
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
