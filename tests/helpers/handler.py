"""Helpers for tests of TorchServe's handler without a server."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ts.context import Context, RequestProcessor

from serving.torchserve.handler import AudioCNNHandler


def make_context(folder: Path, headers: Sequence[Mapping[str, str]] = ()) -> Context:
    """Return what TorchServe passes to the handler, for requests with these headers."""
    manifest = {"model": {"modelName": "sounds", "modelVersion": "4.0"}, "registryVersion": 4}
    context = Context("sounds", str(folder), manifest, 8, None, "0.12.0")
    context.request_processor = [RequestProcessor(dict(each)) for each in headers]
    return context


def ask(
    handler: AudioCNNHandler,
    model: tuple[Path, object],
    items: list[dict[str, Any]],
    headers: Sequence[Mapping[str, str]] | None = None,
) -> tuple[list[dict[str, Any]], list[int]]:
    """Send a batch; return the answers and their statuses. Without headers, the requests have none."""
    context = make_context(model[0], [{}] * len(items) if headers is None else headers)
    answers = [json.loads(text) for text in handler.handle(items, context)]
    return answers, [context.get_response_status(index)[0] for index in range(len(items))]
