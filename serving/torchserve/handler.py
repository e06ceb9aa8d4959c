"""TorchServe handler: sound files in, JSON out.

The response to a clip that can be classified, with status 200:

    {
      "predictions": [{"class": "rain", "probability": 0.93}, ...],    up to TOP_CLASSES, the most probable first
      "model": {"name": "audiocnn", "version": 7, "dataset": "..."},   version in the registry, digest of the data set
      "clip": {"seconds": 5.0, "rate": 44100, "channels": 1}           of the file, before conversion
    }

The response to any other request, with the status of its reason:

    {"error": "the clip is silent", "reason": "silent"}     reasons: those of AudioError, "unauthorized" and "internal"

If the environment has keys (AUDIOCNN_INFERENCE_KEYS, in containers), a request needs one of them in its header
`Authorization: Bearer KEY`. TorchServe's own keys cannot be used there: it generates them anew at each start.
"""

import hmac
import json
import logging
import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ts.torch_handler.base_handler import BaseHandler

from audiocnn.audio import AudioError, Empty, Sound, Undecodable, checked_waveform, decode
from audiocnn.classifier import Classifier
from serving.torchserve.variables import INFERENCE_KEYS

TOP_CLASSES = 5
FIELDS = ("data", "body")  # names of a clip in multipart/form-data, and those that TorchServe gives to a plain body
STATUS_BY_REASON = {"empty": 400, "unauthorized": 401, "too_long": 413, "undecodable": 415, "internal": 500}
DEFAULT_ERROR_STATUS = 422  # of the other reasons: valid audio that cannot be classified


class AudioCNNHandler(BaseHandler):
    """Classifies batches of clips. Each request gets its own response; valid clips share one forward pass."""

    def initialize(self, context: Any) -> None:
        """Load the model from the unpacked archive."""
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        self.device = torch.device("cpu" if gpu is None or not torch.cuda.is_available() else f"cuda:{gpu}")
        self.classifier = Classifier.load(Path(properties["model_dir"]), self.device)
        self.model_info = {
            "name": context.model_name,
            "version": context.manifest["registryVersion"],
            "dataset": self.classifier.provenance.get("dataset", {}).get("digest"),
        }
        self.keys = [key.encode() for key in os.environ.get(INFERENCE_KEYS, "").split()]
        self.initialized = True

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[str]:
        """Return one JSON text for each request, in order, and set the HTTP statuses."""
        answers: list[dict[str, Any]] = [{} for _ in data]
        clips: dict[int, dict[str, Any]] = {}
        waveforms: dict[int, Tensor] = {}
        settings = self.classifier.settings
        for index, request in enumerate(data):
            if not self._is_authorized(context.get_all_request_header(index)):
                answers[index] = {"error": "the header Authorization has no valid key", "reason": "unauthorized"}
                continue
            try:
                sound = _decode_request(request)
                waveforms[index] = torch.from_numpy(checked_waveform(sound, settings))
                clips[index] = _describe_clip(sound)
            except AudioError as error:
                answers[index] = {"error": str(error), "reason": error.reason}
            except Exception:  # must not affect the other requests of the batch
                logging.getLogger(__name__).exception("request %s of the batch failed", index)
                answers[index] = {"error": "internal error; see the server's log", "reason": "internal"}
        if waveforms:
            batch = torch.stack(list(waveforms.values())).to(self.device)
            for index, probabilities in zip(waveforms, self.classifier.classify(batch).cpu(), strict=True):
                answers[index] = self._answer(clips[index], probabilities)
        for index, answer in enumerate(answers):
            context.set_response_content_type(index, "application/json")
            if "reason" in answer:
                status = HTTPStatus(STATUS_BY_REASON.get(answer["reason"], DEFAULT_ERROR_STATUS))
                context.set_response_status(code=status.value, phrase=status.phrase, idx=index)
        return [json.dumps(answer, ensure_ascii=False) for answer in answers]

    def _is_authorized(self, headers: Mapping[str, Any]) -> bool:
        """Return whether a request has one of the keys, or none is needed. Names of headers have any case."""
        if not self.keys:
            return True
        authorization = next((text for name, text in headers.items() if name.lower() == "authorization"), "")
        scheme, _, given = authorization.partition(" ")
        # Every key is compared, in constant time each, so that the duration reveals nothing about them.
        matches = sum(hmac.compare_digest(given.encode(), key) for key in self.keys)
        return scheme.lower() == "bearer" and matches > 0

    def _answer(self, clip: dict[str, Any], probabilities: Tensor) -> dict[str, Any]:
        """Return the JSON object for one clip. The module's docstring documents the fields."""
        values, indices = probabilities.topk(min(TOP_CLASSES, len(probabilities)))
        return {
            "predictions": [
                {"class": self.classifier.classes[index], "probability": value}
                for index, value in zip(indices.tolist(), values.tolist(), strict=True)
            ],
            "model": self.model_info,
            "clip": clip,
        }


def _decode_request(request: dict[str, Any]) -> Sound:
    """Return the clip of one request."""
    content = next((request[field] for field in FIELDS if field in request), None)
    if content is None:
        raise Empty("the request contains no clip: send its bytes as the body, or as the multipart field data")
    if isinstance(content, str):
        content = content.encode()  # TorchServe decodes text/* bodies unless decode_input_request is off
    if not isinstance(content, bytes | bytearray):
        raise Undecodable("the body is JSON: send the bytes of a clip")
    return decode(bytes(content))


def _describe_clip(sound: Sound) -> dict[str, Any]:
    return {"seconds": round(sound.seconds, 3), "rate": sound.rate, "channels": sound.samples.shape[1]}
