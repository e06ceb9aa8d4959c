"""The block `deploy` of params.yaml: the TorchServe to deploy to, and how it serves the model."""

import os
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from audiocnn.config import Positive
from audiocnn.strict_model import SettingsError
from serving.torchserve import variables
from serving.torchserve.settings import ADDRESSES, ARCHIVE_FOLDER, ModelSettings, TorchServeSettings

TASK_VARIABLE = "KFP_POD_NAME"  # set by Kubeflow Pipelines in every task


class DeploySettings(TorchServeSettings, ModelSettings):
    """Block `deploy`; see also TorchServeSettings and ModelSettings.

    Attributes:
        start: start a TorchServe on this machine if none is running.
        model_store: where the archives are: a folder or s3://bucket/prefix that every TorchServe reads; empty for the
            folder model-store in `state`.
        max_latency_ms: maximum of the median time from a request with one clip to its answer; a version that is slower
            is not switched to.
    """

    start: bool
    model_store: str
    max_latency_ms: Positive

    @property
    def model_store_address(self) -> str:
        """The model store's folder or s3://bucket/prefix."""
        return self.model_store or str(Path(self.state) / ARCHIVE_FOLDER)

    def in_this_environment(self) -> Self:
        """Return the settings with which this process deploys.

        If the environment names a model store, `start: true` becomes the TorchServes of serving/kubernetes.

        Raises:
            SettingsError: it names none, and this is a task of Kubeflow, whose TorchServe would end with its pod.
        """
        if not self.start:
            return self
        if store := os.environ.get(variables.MODEL_STORE, ""):
            return self.replace(
                start=False,
                inference=f"http://{variables.SERVICE}:8080",
                management=f"http://{variables.REPLICAS_SERVICE}:8081",
                metrics=f"http://{variables.SERVICE}:8082",
                model_store=store,
            )
        if TASK_VARIABLE in os.environ:
            raise SettingsError(
                "deploy.start: a task of Kubeflow cannot start a TorchServe, which would end with its pod; create the "
                f"secret {variables.SECRET} of docs/serving.md to deploy to the TorchServes of serving/kubernetes, or "
                "set deploy.start=false and the addresses of another one"
            )
        return self

    @model_validator(mode="after")
    def _check_model_store(self) -> Self:
        if self.start and self.model_store:
            raise PydanticCustomError(
                "model_store",
                "needs deploy.start=false: a TorchServe that is started here reads its own model store, found {store}",
                {"key": "deploy.model_store", "store": self.model_store},
            )
        return self

    @model_validator(mode="after")
    def _check_ports(self) -> Self:
        ports: dict[int | None, str] = {}
        for key in ADDRESSES if self.start else ():  # one that runs elsewhere may answer everything behind one address
            port = urlsplit(getattr(self, key)).port
            if (first := ports.setdefault(port, key)) != key:
                raise PydanticCustomError(
                    "duplicated_port",
                    "has the same port as deploy.{first}; each address needs its own, found {port}",
                    {"key": f"deploy.{key}", "first": first, "port": port},
                )
        return self
