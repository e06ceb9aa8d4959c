"""The endpoint of this machine: how a deployment starts it."""

from functools import partial
from typing import TYPE_CHECKING

from pipeline.settings import PipelineSettings
from serving.supervision.endpoint import started

if TYPE_CHECKING:
    from components.deploy.step import Start


def endpoint_start(settings: PipelineSettings) -> "Start":
    """Return what starts TorchServe and the gateway, with `audiocnn serve` in the background, for the step deploy."""
    return partial(started, settings.gateway, settings.decode, settings.register.name)
