"""The one place that talks to MLflow: runs while a model is made, the registry once it is there.

Where MLflow is, MLFLOW_TRACKING_URI says; without it everything is kept in var/mlflow.db and var/mlflow-artifacts.
"""

from mlops.tracking.live import LiveMetrics
from mlops.tracking.registry import (
    WEIGHTS_TAG,
    Version,
    delete_alias,
    describe_version,
    download_model,
    find_version,
    get_version,
    model_tags,
    register_model,
    set_alias,
    tag_model,
    tag_version,
    version_by_alias,
)
from mlops.tracking.runs import Lineage, Run, find_run, resume_run, start_run, user
from mlops.tracking.server import TrackingError

__all__ = [
    "WEIGHTS_TAG",
    "Lineage",
    "LiveMetrics",
    "Run",
    "TrackingError",
    "Version",
    "delete_alias",
    "describe_version",
    "download_model",
    "find_run",
    "find_version",
    "get_version",
    "model_tags",
    "register_model",
    "resume_run",
    "set_alias",
    "start_run",
    "tag_model",
    "tag_version",
    "user",
    "version_by_alias",
]
