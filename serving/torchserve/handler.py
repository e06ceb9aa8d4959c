"""TorchServe handler: sound files in, JSON out. docs/serving.md has the options, the answers and the statuses."""

import hmac
import json
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import torch
from ts.torch_handler.base_handler import BaseHandler

from audiocnn.analysis import classify_windows, compute_spectrograms
from audiocnn.audio import MIN_SECONDS
from audiocnn.errors import AudioError, Empty, Undecodable
from audiocnn.features import LogMel
from audiocnn.recordings import Analysis, build_answer
from audiocnn.streams import SoundStream, open_stream
from audiocnn.windows import CHUNK_SECONDS, Grid, chunks, cut
from serving.torchserve.backends import load
from serving.torchserve.decoded_request import DecodedRequest
from serving.torchserve.explanations import explain, is_explanation, parse_explanation
from serving.torchserve.options import parse_options
from serving.torchserve.statuses import InvalidOption, Unauthorized, status_of
from serving.torchserve.variables import INFERENCE_KEYS

DECODING_THREADS = 2  # of a worker; they decode and compute spectrograms, always on the CPU
CLIP_FIELDS = ("data", "body")  # names of a clip in multipart/form-data; TorchServe names a plain body so too

P = ParamSpec("P")
T = TypeVar("T")


def _errors_as_answer(function: Callable[P, T]) -> Callable[P, T | dict[str, Any]]:
    """Let a function return an exception as the answer: it must not affect the other requests of the batch."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T | dict[str, Any]:
        try:
            return function(*args, **kwargs)
        except (AudioError, InvalidOption, Unauthorized) as error:
            return {"error": str(error), "reason": error.reason}
        except Exception:
            logging.getLogger(__name__).exception("a request of the batch failed")
            return {"error": "internal error; see the server's log", "reason": "internal"}

    return wrapped


class AudioCNNHandler(BaseHandler):
    """Classifies batches of recordings. Each request gets its own response; their windows share forward passes."""

    def initialize(self, context: Any) -> None:
        """Load the model from the unpacked archive."""
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        self.device = torch.device("cpu" if gpu is None or not torch.cuda.is_available() else f"cuda:{gpu}")
        self.classifier = load(Path(properties["model_dir"]), self.device)
        self.grid = Grid.of(self.classifier.settings)
        self.model_info = {
            "name": context.model_name,
            "version": context.manifest["registryVersion"],
            "dataset": self.classifier.provenance.get("dataset", {}).get("digest"),
        }
        self.front_end = LogMel(self.classifier.settings)
        # A spectrogram is too little work for several threads of PyTorch: with two it takes three times as long.
        self.pool = ThreadPoolExecutor(DECODING_THREADS, initializer=torch.set_num_threads, initargs=(1,))
        self.explain_lock = Lock()  # an explanation records feature maps with hooks on the network
        self.keys = [key.encode() for key in os.environ.get(INFERENCE_KEYS, "").split()]
        self.initialized = True

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[str]:
        """Return one JSON text for each request, in order, and set the HTTP statuses."""
        headers = [context.get_all_request_header(index) for index in range(len(data))]
        received = list(self.pool.map(self._receive, data, headers))
        spectrograms = [chunk for item in received if isinstance(item, DecodedRequest) for chunk in item.chunks]
        analyses = iter(classify_windows(self.classifier, spectrograms, self.device))
        answers = [
            self._answer(item, list(islice(analyses, len(item.chunks)))) if isinstance(item, DecodedRequest) else item
            for item in received
        ]
        for index, answer in enumerate(answers):
            context.set_response_content_type(index, "application/json")
            if "reason" in answer:
                status = status_of(answer["reason"])
                context.set_response_status(code=status.value, phrase=status.phrase, idx=index)
        return [json.dumps(answer, ensure_ascii=False) for answer in answers]

    @_errors_as_answer
    def _receive(self, request: dict[str, Any], headers: Mapping[str, Any]) -> DecodedRequest | dict[str, Any]:
        """Return a request that is to be classified, or the answer to an explanation. Runs in several threads."""
        self._check_key(headers)
        if not is_explanation(headers):
            return self._decode(request)
        with self.explain_lock:
            return self._explain(request)

    def _check_key(self, headers: Mapping[str, Any]) -> None:
        """Raise Unauthorized unless a request has one of the keys, or none is needed. Names have any case."""
        if not self.keys:
            return
        authorization = next((text for name, text in headers.items() if name.lower() == "authorization"), "")
        scheme, _, given = authorization.partition(" ")
        # Every key is compared, in constant time each, so that the duration reveals nothing about them.
        matches = sum(hmac.compare_digest(given.encode(), key) for key in self.keys)
        if scheme.lower() != "bearer" or not matches:
            raise Unauthorized("the header Authorization has no valid key")

    def _decode(self, request: dict[str, Any]) -> DecodedRequest:
        """Decode the recording of one request, and compute its spectrograms."""
        with self._open(request) as stream:
            options = parse_options(_options(request), len(self.classifier.classes))
            parts = [compute_spectrograms(self.front_end, cut(chunk, self.grid)) for chunk in chunks(stream, self.grid)]
        return DecodedRequest(options, parts, stream)

    def _explain(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON object that explains one window of the recording."""
        with self._open(request) as stream:
            options = parse_explanation(_options(request), self.classifier.classes)
            return explain(self.classifier, stream, options, self.device) | self._describe(stream)

    def _open(self, request: dict[str, Any]) -> SoundStream:
        return open_stream(_content(request), max_seconds=max(CHUNK_SECONDS, self.grid.seconds + MIN_SECONDS))

    @_errors_as_answer
    def _answer(self, request: DecodedRequest, parts: list[Analysis]) -> dict[str, Any]:
        """Return the JSON object for one recording."""
        stream, classifier = request.stream, self.classifier
        answer = build_answer(
            Analysis.merge(parts), stream.seconds, self.grid, classifier.classes, request.options, classifier.thresholds
        )
        return answer | self._describe(stream)

    def _describe(self, stream: SoundStream) -> dict[str, Any]:
        return {"model": self.model_info, "clip": stream.describe()}


def _options(request: dict[str, Any]) -> dict[str, str]:
    """Return the other fields of the form, as text."""
    fields = {name: value for name, value in request.items() if name not in CLIP_FIELDS}
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)
        for name, value in fields.items()
    }


def _content(request: dict[str, Any]) -> bytes:
    """Return the sound file of one request."""
    given = [request[field] for field in CLIP_FIELDS if field in request]
    if len(given) > 1:
        raise InvalidOption("the request contains several clips; send one")
    if not given or given[0] is None:
        raise Empty("the request contains no clip: send its bytes as the body, or as the multipart field data")
    content = given[0]
    if isinstance(content, str):
        content = content.encode()  # TorchServe decodes text/* bodies unless decode_input_request is off
    if not isinstance(content, bytes | bytearray):
        raise Undecodable("the body is JSON: send the bytes of a clip")
    return bytes(content)
