"""What TorchServe serves now, found out by a real prediction."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from audiocnn.windows import Grid
from serving.gateway.context import make_context
from serving.gateway.problems import Problem
from serving.gateway.upstream import Upstream
from serving.torchserve.tone import tone

TIMEOUT = 5.0  # s for a probe to be answered
MAX_AGE = 2.0  # s for which the answer to a probe is valid, so that probes cost little


@dataclass(frozen=True)
class ServedModel:
    """The model that answers. `version` is its number in the registry."""

    name: str
    version: int
    classes: tuple[str, ...]
    grid: Grid
    calibrated: bool


class Probe:
    """Asks TorchServe for its model by classifying a tone; requests at the same time share one prediction."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._lock = asyncio.Lock()
        self._found: ServedModel | Problem | None = None
        self._checked = 0.0

    async def model(self) -> ServedModel:
        """Return the model that answers.

        Raises:
            Problem: none answers.
        """
        async with self._lock:
            if self._found is None or time.monotonic() - self._checked > MAX_AGE:
                self._found, self._checked = await self._ask(), time.monotonic()
            if isinstance(self._found, Problem):
                raise self._found.with_traceback(None)  # each raise adds to it, with all local variables
            return self._found

    async def _ask(self) -> ServedModel | Problem:
        try:
            context = make_context("", "", "probe")
            return _served_model(await self._upstream.predict(tone(), {"windows": "true"}, context, TIMEOUT))
        except Problem as problem:
            return problem


def _served_model(answer: dict[str, Any]) -> ServedModel:
    return ServedModel(
        name=answer["model"]["name"],
        version=answer["model"]["version"],
        classes=tuple(answer["classes"]),
        grid=Grid(answer["window"]["rate"], answer["window"]["seconds"]),
        calibrated=answer["calibrated"],
    )
