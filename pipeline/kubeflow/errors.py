"""Errors of the Kubeflow Pipelines API, each in one sentence that says what to do."""

import json
from typing import Any

from urllib3 import exceptions

from audiocnn.errors import AudioCNNError

FORWARD = "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8888:80"  # makes a cluster's API available here
LOGIN = "set KF_PIPELINES_TOKEN to a valid token of your account"
LONGEST_MESSAGE = 400  # characters of what the server says
REMEDIES = {
    400: "correct the request; on a cluster with several users, --namespace names your profile's namespace",
    401: LOGIN,
    403: "ask for the permission, or choose the namespace of your own profile with --namespace",
    404: "check the URL and the id",
    409: "something of this name exists already; run the command again, or choose another --name",
}
SERVER_FAULT = "try again; the log is that of the deployment ml-pipeline"
REASONS: dict[type[Exception], str] = {
    exceptions.NameResolutionError: "the host name is unknown",
    exceptions.NewConnectionError: "the connection was refused or is blocked",
    exceptions.TimeoutError: "the connection timed out",
    exceptions.SSLError: "its certificate is not trusted (SSL_CERT_FILE names that of your own authority), or it only "
    "supports http://",
}


class KubeflowError(AudioCNNError):
    """The Kubeflow Pipelines API is not available or refuses a request, or a request is invalid.

    Attributes:
        temporary: whether the same request may succeed later.
    """

    def __init__(self, message: str, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


def not_the_api(host: str) -> KubeflowError:
    """Return the error for an answer that is not JSON, such as a login page."""
    return KubeflowError(f"{host}: this is not the API of Kubeflow Pipelines; a login page needs a token: {LOGIN}")


def api_error(host: str, error: Any) -> KubeflowError:
    """Return the error for an ApiException of `kfp_server_api` or an HTTPError of `urllib3` beneath it."""
    if isinstance(error, exceptions.HTTPError):
        return KubeflowError(
            f"{host}: Kubeflow Pipelines does not answer: {_reason(error)}; correct the URL, or forward the cluster's "
            f"API with `{FORWARD}` and use http://127.0.0.1:8888",
            temporary=True,
        )
    if 300 <= error.status < 400:
        target = (error.headers or {}).get("Location", "another address")
        return KubeflowError(
            f"{host}: redirects to {target}: if that is a login page, {LOGIN}; else use that address as the URL"
        )
    remedy = REMEDIES.get(error.status, SERVER_FAULT)
    return KubeflowError(
        f"{host}: Kubeflow Pipelines refuses the request ({error.status} {error.reason}): {_message(error)}{remedy}",
        temporary=error.status >= 500,
    )


def _message(error: Any) -> str:
    """Return the server's own words in one line, followed by a semicolon; nothing if it sent a page."""
    try:
        body = json.loads(error.body or "")
        text = body.get("message") or body.get("error_message") or ""
    except (ValueError, AttributeError):
        return ""
    line = " ".join(str(text).split())
    return f"{line[:LONGEST_MESSAGE].rstrip(' .;')}; " if line else ""


def _reason(error: exceptions.HTTPError) -> str:
    """Return the reason in words; urllib3's messages contain addresses and Python objects."""
    cause = getattr(error, "reason", None) or error
    return next((text for kind, text in REASONS.items() if isinstance(cause, kind)), "the connection broke")
