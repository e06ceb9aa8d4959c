"""MLflow: runs and the model registry. No other module of the steps imports mlflow.

The server is the one of MLFLOW_TRACKING_URI; without it, everything is stored in var/mlflow.db and
var/mlflow-artifacts. All functions raise TrackingError if MLflow refuses a request or does not answer.
"""

from mlops.tracking.connection import DATABASE, URI, Connection, TrackingError, connect, redact
from mlops.tracking.manifest import DamagedVersionError
from mlops.tracking.records import Records, read_records, write_decision, write_registration
from mlops.tracking.registry import (
    CHAMPION,
    STATUS_TAG,
    champion_number,
    delete_alias,
    download_model,
    find_version,
    get_version,
    model_tags,
    recorded_weights,
    register_model,
    set_alias,
    tag_version,
    verify_files,
    version_by_alias,
    versions_with_tag,
)
from mlops.tracking.run import Lineage, Run
from mlops.tracking.runs import find_run, resume_run, start_run, task_run_id, user
from mlops.tracking.version import Version
from mlops.tracking.version_page import write_page

__all__ = [
    "CHAMPION",
    "DATABASE",
    "STATUS_TAG",
    "URI",
    "Connection",
    "DamagedVersionError",
    "Lineage",
    "Records",
    "Run",
    "TrackingError",
    "Version",
    "champion_number",
    "connect",
    "delete_alias",
    "download_model",
    "find_run",
    "find_version",
    "get_version",
    "model_tags",
    "read_records",
    "recorded_weights",
    "redact",
    "register_model",
    "resume_run",
    "set_alias",
    "start_run",
    "tag_version",
    "task_run_id",
    "user",
    "verify_files",
    "version_by_alias",
    "versions_with_tag",
    "write_decision",
    "write_page",
    "write_registration",
]
