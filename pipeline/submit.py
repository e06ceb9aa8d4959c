"""Run a compiled pipeline on a Kubeflow cluster."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mlops.image import IMAGE, IMAGE_VARIABLE
from mlops.settings import is_http_address
from pipeline.run import TRAINING, RunError, on_nodes

FORWARD = "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8888:80"  # what brings a cluster's API to this machine


def submit(
    arguments: Mapping[str, Any],
    host: str,
    namespace: str | None = None,
    image: str | None = None,
    experiment: str = "audiocnn",
    token: str | None = None,
    pipeline: Path = TRAINING,
) -> str:
    """Start a run on the cluster whose Kubeflow Pipelines API answers at `host`, and return the run's id.

    Args:
        namespace: of the user's profile; None where the cluster has one user only.
        image: the name under which the cluster finds the image, instead of the committed one.
        token: what the API's gate asks for, if it has one.
    Raises:
        RunError: `host` is no URL, or the API does not answer, or refuses.
    """
    if not is_http_address(host):  # KFP's client would look for a cluster of its own accord
        raise RunError(
            f"expected the URL of the Kubeflow Pipelines API, such as http://127.0.0.1:8888, found {host!r}; "
            f"`{FORWARD}` makes it answer there"
        )
    import warnings

    from kfp import Client
    from kfp_server_api import ApiException  # type: ignore[import-untyped]
    from urllib3.exceptions import HTTPError

    warnings.filterwarnings("ignore", category=FutureWarning, module="kfp")
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            compiled = with_image(pipeline.read_text(encoding="utf-8"), image or IMAGE)
            file.write(without_gpu(compiled, "train") if on_nodes(arguments) else compiled)
            file.flush()
            client = Client(host=host, namespace=namespace or "kubeflow", existing_token=token)
            started = client.create_run_from_pipeline_package(
                file.name, arguments=dict(arguments), experiment_name=experiment, namespace=namespace
            )
    except ApiException as error:
        raise RunError(f"{host}: Kubeflow Pipelines refuses the run: {error.status} {error.reason}") from error
    except HTTPError as error:
        raise RunError(
            f"{host}: Kubeflow Pipelines does not answer there: {_words(error)}; correct the URL, or bring the "
            f"cluster's API here with `{FORWARD}` and name http://127.0.0.1:8888"
        ) from error
    if not started.run_id:  # the client takes any page for an answer
        raise RunError(
            f"{host}: what answers there is not the API of Kubeflow Pipelines; is it a login page? --token passes one"
        )
    return str(started.run_id)


def _words(error: Exception) -> str:
    """Without addresses and Python's objects: urllib3's messages hold both."""
    from urllib3 import exceptions

    cause = getattr(error, "reason", None) or error
    names: dict[type[Exception], str] = {
        exceptions.NameResolutionError: "there is no host of that name",
        exceptions.NewConnectionError: "nothing listens there, or the way is blocked",
        exceptions.TimeoutError: "it takes too long to answer",
        exceptions.SSLError: "its certificate is not trusted here, or it speaks http:// only",
    }
    return next((words for kind, words in names.items() if isinstance(cause, kind)), "the connection broke")


def with_image(compiled: str, image: str) -> str:
    """A compiled pipeline, its project image replaced by another name of it."""
    documents = list(yaml.safe_load_all(compiled))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = image
        for variable in executor["container"].get("env", []):
            if variable["name"] == IMAGE_VARIABLE:
                variable["value"] = image
    return str(yaml.safe_dump_all(documents, sort_keys=True))


def without_gpu(compiled: str, task: str) -> str:
    """A compiled pipeline in which a task, one that waits for nodes with GPUs, holds none itself."""
    documents = list(yaml.safe_load_all(compiled))
    del documents[0]["deploymentSpec"]["executors"][f"exec-{task}"]["container"]["resources"]["accelerator"]
    return str(yaml.safe_dump_all(documents, sort_keys=True))
