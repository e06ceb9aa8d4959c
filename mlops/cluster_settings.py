"""The block `kubeflow` of params.yaml: where Kubeflow is."""

from typing import Annotated

from pydantic import AfterValidator

from audiocnn.strict_model import StrictModel
from mlops.settings import HttpAddress, is_http_address


def _check_optional_address(url: str) -> str:
    if url and not is_http_address(url):
        raise ValueError("should be empty or a URL such as https://kubeflow.example.org")
    return url


class KubeflowSettings(StrictModel):
    """Block `kubeflow`: addresses of Kubeflow.

    Attributes:
        ui: address of Kubeflow's pages, for links to runs; empty for no links.
        api: address of the Kubeflow Pipelines API inside the cluster, which names the failed step of a run.
    """

    ui: Annotated[str, AfterValidator(_check_optional_address)]
    api: HttpAddress
