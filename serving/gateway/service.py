"""What the routes share: the model behind TorchServe, limits, metrics; and the answers to sound files."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import Request

from audiocnn import ffmpeg
from audiocnn.config import DecodeSettings
from audiocnn.streams import SUPPORTED_FORMATS
from serving.gateway.authentication import Keys
from serving.gateway.body import BodyReader, SoundFile
from serving.gateway.context import RequestContext
from serving.gateway.metrics import Metrics
from serving.gateway.options import ClassifyOptions, ExplainOptions
from serving.gateway.problems import Problem
from serving.gateway.recordings import Recordings
from serving.gateway.served import Probe
from serving.gateway.settings import GatewaySettings
from serving.gateway.upstream import Upstream
from serving.torchserve.client import KEY_FILE, ServingError, environment_key, read_key
from serving.torchserve.settings import TorchServeSettings


class Gateway:
    """What answers the requests to one model of a TorchServe.

    Attributes:
        model: name of the model.
        formats: of sound files that are accepted, for people.
    """

    def __init__(
        self, settings: GatewaySettings, decode: DecodeSettings, torchserve: TorchServeSettings, model: str, keys: Keys
    ) -> None:
        self.settings, self.model, self.keys = settings, model, keys
        self._max_direct_bytes = torchserve.max_request_bytes  # a larger file is sent in chunks
        self._key_file = Path(torchserve.state) / KEY_FILE
        self.upstream = Upstream(
            torchserve.inference, model, self._key, deadline=settings.deadline_s, concurrency=settings.concurrency
        )
        self.probe = Probe(self.upstream)
        self._recordings = Recordings(self.upstream, self.probe, settings.max_seconds, decode.ffmpeg)
        self.reader = BodyReader(settings)
        self.metrics = Metrics()
        self.formats = [name for name in SUPPORTED_FORMATS if name != "WAVEX"]  # libsndfile's name for a kind of WAV
        if decode.ffmpeg and shutil.which(ffmpeg.PROGRAM):
            self.formats += ffmpeg.CONTAINERS

    async def classify(self, content: bytes, options: ClassifyOptions, context: RequestContext) -> dict[str, Any]:
        """Return the answer to a sound file.

        Raises:
            Problem: the file is refused, or no model answers.
        """
        answer = await self._answer(content, options, context)
        context.version, context.label = str(answer["model"]["version"]), str(answer["label"])
        self.metrics.answers.labels(context.version, context.label).inc()
        return answer

    async def explain(self, content: bytes, options: ExplainOptions, context: RequestContext) -> dict[str, Any]:
        """Return the explanation of a window of a sound file. Raises as classify()."""
        if self._fits_torchserve(content):
            with _suppress_too_long():
                return await self.upstream.explain(content, options.query, context)
        return await self._recordings.explain(content, options, context)

    async def classify_all(
        self, files: tuple[SoundFile, ...], options: ClassifyOptions, context: RequestContext
    ) -> list[dict[str, Any]]:
        """Return the answer to each file, or `{"error": problem}`, with the file's name."""

        async def result(file: SoundFile) -> dict[str, Any]:
            try:
                return {"file": file.name, **await self.classify(file.content, options, context)}
            except Problem as problem:
                self.metrics.refusals.labels(problem.reason).inc()
                return {"file": file.name, "error": problem.body(context.request_id)}

        return list(await asyncio.gather(*map(result, files)))

    def _key(self) -> str:
        """Return the key of TorchServe: of its key file if there is one, or of the environment."""
        try:
            return read_key(self._key_file, "inference")
        except ServingError:  # TorchServe is not on this machine, or starts just now
            return environment_key()

    def _fits_torchserve(self, content: bytes) -> bool:
        """Return whether TorchServe may be sent a file as it is."""
        return len(content) <= self._max_direct_bytes and not self._recordings.needs_ffmpeg(content)

    async def _answer(self, content: bytes, options: ClassifyOptions, context: RequestContext) -> dict[str, Any]:
        if self._fits_torchserve(content):
            with _suppress_too_long():
                predict = self.upstream.predict_chunk if options.windows else self.upstream.predict
                return await predict(content, options.query, context)
        return await self._recordings.classify(content, options, context)


def gateway_of(request: Request) -> Gateway:
    """Return the gateway that a request was sent to."""
    gateway: Gateway = request.app.state.gateway
    return gateway


def context_of(request: Request) -> RequestContext:
    """Return the context of a request."""
    context: RequestContext = request.state.context
    return context


@contextmanager
def _suppress_too_long() -> Iterator[None]:
    """Go on after the block if TorchServe refuses a file that has to be sent in chunks."""
    try:
        yield
    except Problem as problem:
        if problem.reason not in ("too_long", "too_large"):
            raise
