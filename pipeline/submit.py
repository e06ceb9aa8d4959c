"""Start runs of the compiled pipelines on a Kubeflow cluster."""

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audiocnn.errors import AudioCNNError
from components.ingest.sources import parse_source
from components.plan_trials.request import PlanRequest
from components.train.settings import TrainJobSettings
from mlops.image import IMAGE
from mlops.run_parameters import KEYS
from mlops.settings import is_http_address
from pipeline.compile import CROSSVAL, TRAINING, set_image
from pipeline.settings import PipelineSettings

FORWARD = "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8888:80"  # makes a cluster's API available here


class SubmitError(AudioCNNError):
    """The Kubeflow Pipelines API is not available or refuses a run."""


@dataclass(frozen=True)
class KubeflowClient:
    """The Kubeflow Pipelines API that runs are submitted to.

    Attributes:
        host: its URL.
        namespace: that of the user's profile; None on a cluster with a single user.
        image: name of the pipeline's image in the cluster's registry; None for the committed one.
        experiment: runs are grouped by it.
        token: bearer token for the API, if it needs one.
    """

    host: str
    namespace: str | None = None
    image: str | None = None
    experiment: str = "audiocnn"
    token: str | None = None

    def submit_training(
        self, settings: PipelineSettings, source: str, shards: int = 1, trainjob: TrainJobSettings | None = None
    ) -> str:
        """Start a run of the training pipeline, and return its id.

        Args:
            shards: number of tasks that compute the spectrograms side by side.
            trainjob: the nodes to train on, by default those of the settings.
        Raises:
            SourceError: the source or the revision that it names is unknown.
            SubmitError: the API is not available or refuses the run.
        """
        arguments = training_arguments(settings.replace(resources=trainjob or settings.resources), source, shards)
        return self._start(set_image(TRAINING.read_text(encoding="utf-8"), self.image or IMAGE), arguments)

    def submit_crossval(self, settings: PipelineSettings, source: str, request: PlanRequest, shards: int = 1) -> str:
        """Start a cross-validation or a sweep, and return the run's id.

        Raises:
            SourceError: the source or the revision that it names is unknown.
            SubmitError: the API is not available or refuses the run.
        """
        arguments = crossval_arguments(settings, source, request, shards)
        return self._start(set_image(CROSSVAL.read_text(encoding="utf-8"), self.image or IMAGE), arguments)

    def run_url(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{self.host.rstrip('/')}/#/runs/details/{run_id}"

    def _start(self, compiled: str, arguments: Mapping[str, Any]) -> str:
        if not is_http_address(self.host):  # KFP's client would look for a cluster by itself
            raise SubmitError(
                f"expected the URL of the Kubeflow Pipelines API, such as http://127.0.0.1:8888, found {self.host!r}; "
                f"`{FORWARD}` makes it available there"
            )
        from kfp import Client
        from kfp_server_api import ApiException  # type: ignore[import-untyped]
        from urllib3.exceptions import HTTPError

        warnings.filterwarnings("ignore", category=FutureWarning, module="kfp")
        try:
            with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
                file.write(compiled)
                file.flush()
                client = Client(host=self.host, namespace=self.namespace or "kubeflow", existing_token=self.token)
                run = client.create_run_from_pipeline_package(
                    file.name,
                    arguments=dict(arguments),
                    experiment_name=self.experiment,
                    namespace=self.namespace,
                )
        except ApiException as error:
            raise SubmitError(
                f"{self.host}: Kubeflow Pipelines refuses the run: {error.status} {error.reason}"
            ) from error
        except HTTPError as error:
            raise SubmitError(
                f"{self.host}: Kubeflow Pipelines does not answer: {_reason(error)}; correct the URL, or forward the "
                f"cluster's API with `{FORWARD}` and use http://127.0.0.1:8888"
            ) from error
        if not run.run_id:  # the client accepts any page as an answer
            raise SubmitError(f"{self.host}: this is not the API of Kubeflow Pipelines; a login page needs --token")
        return str(run.run_id)


def training_arguments(settings: PipelineSettings, source: str, shards: int = 1) -> dict[str, Any]:
    """Return the parameters of the training pipeline.

    Raises:
        SourceError: the source or the revision that it names is unknown.
    """
    return {
        **_common_arguments(settings, source, shards),
        "fold": settings.train.fold,
        "seed": settings.train.seed,
        "nodes": settings.resources.nodes,
        "gpus_per_node": settings.resources.gpus_per_node,
        "model_name": settings.register.name,
    }


def crossval_arguments(
    settings: PipelineSettings, source: str, request: PlanRequest, shards: int = 1
) -> dict[str, Any]:
    """Return the parameters of the cross-validation pipeline.

    Raises:
        SourceError: the source or the revision that it names is unknown.
    """
    return {
        **_common_arguments(settings, source, shards),
        "folds": [*request.folds],
        "seeds": [*request.seeds],
        "trials": {name: {**changes} for name, changes in request.trials.items()},
    }


def _common_arguments(settings: PipelineSettings, source: str, shards: int) -> dict[str, Any]:
    overrides = settings.to_dict()
    del overrides["recipe"]
    for key in KEYS.values():
        block, _, name = key.partition(".")
        del overrides[block][name]
    return {
        "source": parse_source(source).pinned(),
        "recipe": settings.recipe,
        "overrides": overrides,
        "shards": shards,
    }


def _reason(error: Exception) -> str:
    """Return the reason in words; urllib3's messages contain addresses and Python objects."""
    from urllib3 import exceptions

    cause = getattr(error, "reason", None) or error
    reasons: dict[type[Exception], str] = {
        exceptions.NameResolutionError: "the host name is unknown",
        exceptions.NewConnectionError: "the connection was refused or is blocked",
        exceptions.TimeoutError: "the connection timed out",
        exceptions.SSLError: "its certificate is not trusted, or it only supports http://",
    }
    return next((text for kind, text in reasons.items() if isinstance(cause, kind)), "the connection broke")
