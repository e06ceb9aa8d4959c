"""What TorchServe runs: each clip of a batch gets its own answer, the good ones share one pass of the network."""

import json
import logging
import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ts.torch_handler.base_handler import BaseHandler

from audiocnn.audio import AudioError, Empty, Sound, Undecodable, check, decode, fit
from audiocnn.classifier import Classifier

TOP = 5  # classes in an answer
MIN_SECONDS = 0.1
MAX_SECONDS = 600.0
FIELDS = ("data", "body")  # multipart/form-data, and the names under which TorchServe hands over a plain body
STATUS = {"empty": 400, "too_long": 413, "undecodable": 415, "internal": 500}
UNPROCESSABLE = 422  # the other reasons: audio, but none to classify

logger = logging.getLogger(__name__)


class AudioCNNHandler(BaseHandler):
    """Bytes of a clip -> JSON with the likeliest classes, or one sentence that says why there is no answer."""

    def initialize(self, context: Any) -> None:
        """Load the model folder that the archive was unpacked to.

        Raises:
            ModelError: the weights are not those that model.json names, or another release's front end made them.
        """
        if "OMP_NUM_THREADS" not in os.environ:  # a container's share of the processor is smaller than the count
            torch.set_num_threads(min(4, os.cpu_count() or 1))
        # The scores that promoted this model are float32's: TensorFloat-32 would answer with slightly other numbers.
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        self.device = torch.device("cpu" if gpu is None or not torch.cuda.is_available() else f"cuda:{gpu}")
        self.classifier = Classifier.load(Path(properties["model_dir"]), self.device)
        self.version = {
            "name": context.model_name,
            "version": int(context.manifest["model"]["modelVersion"].partition(".")[0]),
            "dataset": self.classifier.provenance.get("dataset", {}).get("digest"),
        }
        self.initialized = True

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[str]:
        """One JSON text a request, in the order of the requests, each with its own HTTP status."""
        answers: list[dict[str, Any]] = []
        waveforms: dict[int, Tensor] = {}
        for index, item in enumerate(data):
            try:
                sound = _sound(item)
                settings = self.classifier.settings
                waveforms[index] = torch.from_numpy(fit(sound, settings.rate, settings.seconds))
                answers.append({"clip": _describe(sound)})
            except AudioError as error:
                answers.append({"error": f"{error}", "reason": error.reason})
            except Exception:  # the batch's other clips must not suffer for a bug that this one found
                logger.exception("request %s of the batch failed", index)
                answers.append({"error": "the server failed on this clip; its log says why", "reason": "internal"})
        if waveforms:
            probabilities = self.classifier.classify(torch.stack(list(waveforms.values())).to(self.device)).cpu()
            for index, row in zip(waveforms, probabilities, strict=True):
                answers[index] = {"predictions": self._top(row), "model": self.version, **answers[index]}
        for index, answer in enumerate(answers):
            context.set_response_content_type(index, "application/json")
            if "reason" in answer:
                status = HTTPStatus(STATUS.get(answer["reason"], UNPROCESSABLE))
                context.set_response_status(code=status.value, phrase=status.phrase, idx=index)
        return [json.dumps(answer, ensure_ascii=False) for answer in answers]

    def _top(self, probabilities: Tensor) -> list[dict[str, Any]]:
        values, classes = probabilities.topk(min(TOP, len(probabilities)))
        pairs = zip(classes.tolist(), values.tolist(), strict=True)
        return [{"class": self.classifier.classes[number], "probability": value} for number, value in pairs]


def _sound(item: dict[str, Any]) -> Sound:
    """The clip in one request.

    Raises:
        AudioError: there is none, or none that can be classified.
    """
    content = next((item[field] for field in FIELDS if field in item), None)
    if content is None:
        raise Empty("no clip in the request: send its bytes as the body, or as the multipart field data")
    if isinstance(content, str):
        content = content.encode()  # TorchServe decodes bodies of type text/* unless decode_input_request is off
    if not isinstance(content, bytes | bytearray):
        raise Undecodable("the body is JSON: send the bytes of a clip")
    sound = decode(bytes(content), MAX_SECONDS)
    check(sound, MIN_SECONDS)
    return sound


def _describe(sound: Sound) -> dict[str, Any]:
    return {"seconds": round(sound.seconds, 3), "rate": sound.rate, "channels": sound.samples.shape[1]}
