"""Recordings that TorchServe does not take as they are: decoded and sent in chunks, whose answers are merged."""

import asyncio
import io
import json
import math
import os
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from audiocnn.errors import Silent
from audiocnn.ffmpeg import find_container
from audiocnn.recordings import TOP_CLASSES, Analysis, AnswerOptions, build_answer, read_windows
from audiocnn.windows import Grid
from serving.gateway.context import RequestContext
from serving.gateway.options import ClassifyOptions, ExplainOptions
from serving.gateway.problems import Problem, refused, unavailable
from serving.gateway.served import Probe, ServedModel
from serving.gateway.upstream import Upstream

DECODERS = 2  # at once, of large files and of small ones; each is a process
SMALL = 2**20  # bytes; a file of at most this size does not wait until large ones are classified
LINE_TIMEOUT = 60.0  # s for the next chunk, which takes milliseconds: a damaged file may keep ffmpeg busy
INHERITED = ("PATH", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR")  # of the environment; no keys
VERSIONS = 2  # the model may be replaced once while a recording is analyzed


class _Replaced(Exception):
    """Another version answered than that of the chunks before."""


class Recordings:
    """Classifies long recordings, and those that the program ffmpeg decodes, one at a time for each client.

    Args:
        ffmpeg: whether that program may be used.
    """

    def __init__(self, upstream: Upstream, probe: Probe, max_seconds: float, ffmpeg: bool) -> None:
        self._upstream = upstream
        self._probe = probe
        self._max_seconds = max_seconds
        self._ffmpeg = ffmpeg
        self._decoders = {small: asyncio.Semaphore(DECODERS) for small in (True, False)}
        self._clients: WeakValueDictionary[tuple[str, bool], asyncio.Lock] = WeakValueDictionary()

    def needs_ffmpeg(self, content: bytes) -> bool:
        """Return whether a file has to be decoded here because TorchServe never starts ffmpeg."""
        return self._ffmpeg and find_container(io.BytesIO(content)) is not None

    async def classify(self, content: bytes, options: ClassifyOptions, context: RequestContext) -> dict[str, Any]:
        """Return the answer to a sound file, like that of TorchServe to a short one.

        Raises:
            Problem: the file is refused, or no model answers.
        """
        async with self._turn(content, context) as file:
            for _ in range(VERSIONS):
                try:
                    return await self._analyze(file, await self._probe.model(), options, context)
                except _Replaced:
                    file.seek(0)
        raise unavailable("the model was replaced while it analyzed the recording; send it again")

    async def explain(self, content: bytes, options: ExplainOptions, context: RequestContext) -> dict[str, Any]:
        """Return the explanation of a window of a sound file; `waveform` is that of the chunk with the window.

        Raises:
            Problem: the file is refused, or no model answers.
        """
        wanted = options.start or 0.0
        found: tuple[float, bytes] | None = None
        async with self._turn(content, context) as file:
            grid = (await self._probe.model()).grid
            async with self._decoder(file, grid) as lines:
                async for line, chunk in lines:
                    if line.get("seconds", math.inf) <= wanted:
                        detail = f"the option start is a time in the recording, which lasts {line['seconds']:.3f} s"
                        raise Problem(400, "invalid_option", f"{detail}, not {wanted:g}")
                    if chunk and line["start"] <= wanted:
                        found = line["start"], chunk
                    if line.get("start", 0.0) > wanted:
                        break
            if found is None:
                raise refused("silent", f"the recording is silent at {wanted:g} s; choose another window")
            start, chunk = found
            answer = await self._upstream.explain(
                chunk, {**options.query, "start": str(max(0.0, wanted - start))}, context
            )
        answer["window"]["start"] += start
        answer["waveform"]["start"] = start
        return answer

    @asynccontextmanager
    async def _turn(self, content: bytes, context: RequestContext) -> AsyncIterator[BinaryIO]:
        """Wait for the turn of a client and for a decoder; yield a file with the content."""
        small = len(content) <= SMALL
        turn = self._clients.setdefault((context.client, small), asyncio.Lock())
        async with turn, self._decoders[small]:
            with await asyncio.to_thread(_temporary_file, content) as file:
                yield file

    async def _analyze(
        self, file: BinaryIO, model: ServedModel, options: ClassifyOptions, context: RequestContext
    ) -> dict[str, Any]:
        if (options.top_k or 1) > len(model.classes):
            detail = f"the option top_k is a number from 1 to {len(model.classes)}, not {options.top_k}"
            raise Problem(400, "invalid_option", detail)
        parts: list[Analysis] = []
        answer: dict[str, Any] = {}
        async with self._decoder(file, model.grid) as lines:
            async for line, chunk in lines:
                if await context.is_disconnected():
                    raise Problem(400, "disconnected", "the connection ended before the answer")
                if "silent" in line:
                    parts.append(Analysis.silence(line["silent"], len(model.classes)))
                elif chunk:
                    answer = await self._upstream.predict_chunk(chunk, {"windows": "true"}, context)
                    if answer["model"]["version"] != model.version:
                        raise _Replaced
                    parts.append(read_windows(answer, line["start"]))
        wanted = AnswerOptions(options.top_k or TOP_CLASSES, bool(options.events), bool(options.windows))
        try:
            built = build_answer(
                Analysis.merge(parts), line["seconds"], model.grid, model.classes, wanted, answer.get("thresholds")
            )
        except Silent as error:
            raise refused(error.reason, str(error)) from error
        return {**built, "model": answer["model"], "clip": line["clip"]}

    @asynccontextmanager
    async def _decoder(
        self, file: BinaryIO, grid: Grid
    ) -> AsyncGenerator[AsyncGenerator[tuple[dict[str, Any], bytes], None], None]:
        """Run a decoder for the block, and yield its lines with the chunks that follow them."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serving.gateway.decoder"),
            *(str(grid.rate), str(grid.seconds), str(self._max_seconds), str(int(self._ffmpeg))),
            stdin=file,
            stdout=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in INHERITED if name in os.environ} | {"OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # so that its ffmpeg can be ended with it
        )
        try:
            yield _lines(process)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):  # it has just ended
                    os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _temporary_file(content: bytes) -> BinaryIO:
    """Return a file without a name, which the decoder can seek in and which needs no memory there."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    file.write(content)
    file.seek(0)
    return file


async def _lines(process: asyncio.subprocess.Process) -> AsyncGenerator[tuple[dict[str, Any], bytes], None]:
    """Yield what a decoder writes. Raises Problem if the recording cannot be decoded."""
    assert process.stdout is not None
    line: dict[str, Any] = {}
    with suppress(TimeoutError, asyncio.IncompleteReadError):  # the process hangs, or was killed for its memory
        while text := await asyncio.wait_for(process.stdout.readline(), LINE_TIMEOUT):
            line = json.loads(text)
            if "error" in line:
                raise refused(line["reason"], line["error"])
            yield line, await process.stdout.readexactly(line.get("bytes", 0))
    if "clip" not in line:
        raise refused("undecodable", "the recording needs more time or memory to decode than the gateway allows")
