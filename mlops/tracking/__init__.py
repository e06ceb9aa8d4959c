"""MLflow: runs and the model registry. No other module of the steps imports mlflow.

The server is the one of MLFLOW_TRACKING_URI; without it, everything is stored in var/mlflow.db and
var/mlflow-artifacts.
"""

from mlops.tracking.connection import DATABASE, URI, Connection, TrackingError, connect, redact
from mlops.tracking.manifest import DamagedVersionError
from mlops.tracking.registry import (
    AUDIT_TAG,
    WEIGHTS_TAG,
    Version,
    delete_alias,
    download_model,
    find_version,
    get_version,
    model_tags,
    register_model,
    set_alias,
    set_model_card,
    tag_model,
    tag_version,
    version_by_alias,
    versions_with_tag,
)
from mlops.tracking.runs import Lineage, Run, find_run, resume_run, start_run, task_run_id, user

__all__ = [
    "AUDIT_TAG",
    "DATABASE",
    "URI",
    "WEIGHTS_TAG",
    "Connection",
    "DamagedVersionError",
    "Lineage",
    "Run",
    "TrackingError",
    "Version",
    "connect",
    "delete_alias",
    "download_model",
    "find_run",
    "find_version",
    "get_version",
    "model_tags",
    "redact",
    "register_model",
    "resume_run",
    "set_alias",
    "set_model_card",
    "start_run",
    "tag_model",
    "tag_version",
    "task_run_id",
    "user",
    "version_by_alias",
    "versions_with_tag",
]
