"""What is sent to Kubeflow for a run: the compiled pipeline as a named version, the run's name and its arguments."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.ingest.sources import parse_source
from components.plan_trials.request import PlanRequest
from components.train.settings import ResourceSettings
from mlops.provenance import DIRTY, ROOT, UNKNOWN
from mlops.settings import PARAMS
from pipeline.compile import CROSSVAL, TRAINING, compile_graph, set_image
from pipeline.experiments import check_fold
from pipeline.kubeflow.errors import KubeflowError
from pipeline.kubeflow.image import choose_image, short_revision
from pipeline.kubeflow.overrides import changed_settings
from pipeline.settings import PipelineSettings, load

CRON_FIELD = re.compile(r"[0-9A-Za-z*/,?-]+")
NODES = ("nodes", "gpus_per_node")  # parameters of the training pipeline
DIGITS = 8  # of a digest in the name of a version


@dataclass(frozen=True)
class Submission:
    """A run that can be started.

    Attributes:
        pipeline, version: names on the server. Equal names mean equal content.
        title: source, recipe and folds, the run's name without the revision.
    """

    pipeline: str
    version: str
    compiled: str
    title: str
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of one run, such as "esc50 strong fold 5 a1b2c3d"."""
        return f"{self.title} {short_revision()}"


def training(settings: PipelineSettings, source: str, shards: int, image: str) -> Submission:
    """Return a run of the training pipeline.

    Args:
        shards: number of tasks that compute the spectrograms side by side.
    Raises:
        SourceError: the source or the revision that it names is unknown.
        PlanError: the source does not have the test fold.
        KubeflowError: the source is on this machine, or the committed files do not have the recipe.
        SettingsError: overrides cannot express the settings.
    """
    common = _common_arguments(settings, source, shards)
    check_fold(settings.train, source)
    arguments = {
        **common,
        "fold": settings.train.fold,
        "seed": settings.train.seed,
        "nodes": settings.resources.nodes,
        "gpus_per_node": settings.resources.gpus_per_node,
        "model_name": settings.register.name,
    }
    title = f"{_source_name(source)} {settings.recipe} fold {settings.train.fold}"
    return _submission(TRAINING, settings.resources, image, title, arguments)


def crossval(settings: PipelineSettings, source: str, request: PlanRequest, shards: int, image: str) -> Submission:
    """Return a cross-validation or a sweep; arguments and errors are those of `training`."""
    arguments = {
        **_common_arguments(settings, source, shards),
        "folds": [*request.folds],
        "seeds": [*request.seeds],
        "trials": {name: {**changes} for name, changes in request.trials.items()},
    }
    count = len(request.trials)
    what = "cross-validation" if count == 1 else f"sweep of {count}"
    title = f"{_source_name(source)} {settings.recipe} {what}"
    return _submission(CROSSVAL, settings.resources, image, title, arguments)


def parse_cron(text: str) -> str:
    """Return a cron expression with six fields, of which the first are seconds, as Kubeflow Pipelines reads it.

    Args:
        text: five fields as in crontab, such as "0 3 * * 1" (minute, hour, day, month, day of the week), or six.
    Raises:
        KubeflowError: it has another form. The server checks the values.
    """
    fields = text.split()
    if len(fields) not in (5, 6) or not all(map(CRON_FIELD.fullmatch, fields)):
        raise KubeflowError(
            f'--cron {text!r}: expected minute, hour, day of the month, month and day of the week, such as "0 3 * * 1"'
        )
    return " ".join(fields if len(fields) == 6 else ["0", *fields])


def _common_arguments(settings: PipelineSettings, source: str, shards: int) -> dict[str, Any]:
    parsed = parse_source(source)
    if parsed.path is not None:
        raise KubeflowError(
            f"--source {source}: the pods of a cluster do not see the files of this machine; upload them and use "
            "s3://bucket/prefix or the https:// URL of a .zip, pin them with DVC and use dvc, or use esc50 or demo"
        )
    return {
        "source": parsed.pinned(),
        "recipe": settings.recipe,
        "overrides": changed_settings(settings),
        "shards": shards,
    }


def _submission(
    file: Path, resources: ResourceSettings, image: str, title: str, arguments: dict[str, Any]
) -> Submission:
    committed = file.read_text(encoding="utf-8")
    defaults = load(ROOT / PARAMS)
    # Nodes and GPUs of a training are parameters. All else that tasks request is part of the compiled pipeline.
    requested = resources.replace(**{name: getattr(defaults.resources, name) for name in NODES if name in arguments})
    changed = requested != defaults.resources
    graph = compile_graph(file.name, defaults.replace(resources=requested)) if changed else committed
    compiled = set_image(graph, image)
    revision = short_revision()
    if revision == UNKNOWN or revision.endswith(DIRTY) or changed or image != choose_image(None):
        # The content does not follow from the revision alone: other content needs another name.
        revision += f"-{hashlib.sha256(compiled.encode()).hexdigest()[:DIGITS]}"
    return Submission(f"audiocnn-{file.stem}", revision, compiled, title, arguments)


def _source_name(source: str) -> str:
    """Return a short name: that of a folder or file without its address, query and ending."""
    parts = urlsplit(source)
    if parts.scheme == "dvc":
        return "dvc"
    path = parts.path.rstrip("/") or parts.netloc
    return path.rpartition("/")[2].removesuffix(".zip")
