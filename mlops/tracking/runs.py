"""Start, find and continue MLflow runs."""

import getpass
import os
from collections.abc import Mapping
from typing import Any

from mlops.kubeflow_run import given_mlflow_run, kubeflow_tags
from mlops.provenance import code_digest, git_diff, git_revision
from mlops.tracking.connection import TrackingError, connect, redact
from mlops.tracking.run import PARENT_TAG, Lineage, Run, active_run, check_parent

DIFF_FILE = "code.diff"  # artifact of a run: how the code differs from the commit


def start_run(
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    lineage: Lineage,
    parent: str = "",
    description: str = "",
) -> Run:
    """Start a run and log its parameters, code and data. Where files differ from the commit, it has a `code.diff`.

    In a Kubeflow task with KFP's MLflow plugin it is the run that the plugin created for the task, elsewhere a new one.

    Args:
        name: the beginning of its id is appended, so that runs with equal settings have different names.
        description: Markdown, for the page of the run.
        params: may be nested; keys are joined with dots, as in `train.epochs`.
        parent: id of the parent run; empty for none.
    Raises:
        TrackingError: MLflow refuses or does not answer, or the parent does not exist.
    """
    connection = connect()
    check_parent(connection, parent)
    own = {
        "mlflow.user": user(),
        "mlflow.source.git.commit": git_revision(),
        "code_digest": code_digest(),
        "dataset_digest": lineage.digest,
        "dataset_source": lineage.source,
        "dataset_origin": lineage.origin,
        **({PARENT_TAG: parent} if parent else {}),
        **({"mlflow.note.content": description} if description else {}),
        **kubeflow_tags(),
    }
    run_id = task_run_id()
    if not run_id:
        made = connection.call(connection.client.create_run, connection.experiment_id(), run_name=name)
        run_id = str(made.info.run_id)
    run = Run(connection, run_id, parent)
    with run.end_on_error():
        connection.call(connection.client.update_run, run_id, "RUNNING", f"{name} {run_id[:6]}")
        run.set_tags({**own, **tags})
        if diff := git_diff():
            run.log_text(diff, DIFF_FILE)
        run.log_params(params)
        run.log_dataset(lineage)
    return run


def find_run(run_id: str) -> Run | None:
    """Return the run of that id, to continue it; None if it does not exist or was deleted."""
    connection = connect()
    found = active_run(connection, run_id)
    if found is None:
        return None
    # The parent of a task's run is the run of the whole pipeline, which KFP's MLflow plugin ends.
    return Run(connection, run_id, "" if run_id == given_mlflow_run() else found.data.tags.get(PARENT_TAG, ""))


def task_run_id() -> str:
    """Return the id of the run that KFP's MLflow plugin created for this task; empty if there is none."""
    given = given_mlflow_run()
    if given and find_run(given) is None:
        uri = redact(connect().uri)
        print(f"[tracking] MLflow at {uri} has no run {given}, which Kubeflow created; a new one is used", flush=True)
        return ""
    return given


def resume_run(run_id: str) -> Run:
    """Return the run of that id, to add to it.

    Raises:
        TrackingError: it does not exist or was deleted, or MLflow does not answer.
    """
    run = find_run(run_id)
    if run is None:
        raise TrackingError(f"MLflow at {redact(connect().uri)}: the run {run_id!r} does not exist, or was deleted")
    return run


def user() -> str:
    """Return the name of the current user: of MLflow if it is set, else of the operating system."""
    if name := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in containers
        return "unknown"
