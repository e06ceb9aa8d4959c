"""Baseline of `make bench-serve`: LitServe around the backend of an archive, with batches and decoding threads.

    python -m benchmarks.litserve_server FOLDER PORT      FOLDER is an unpacked archive

A request is JSON with the sound file in base64.
"""

import base64
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import litserve
import torch
from torch import Tensor

from audiocnn.audio import load
from audiocnn.classifier import Classifier
from serving.torchserve import backends

TOP = 5
BATCH_SIZE, BATCH_DELAY = 8, 0.005  # s
DECODING_THREADS = 2


def top_classes(classifier: Classifier, probabilities: Tensor) -> dict[str, Any]:
    """Return the most probable classes of one clip."""
    values, indices = probabilities.topk(TOP)
    names = [classifier.classes[index] for index in indices.tolist()]
    pairs = zip(names, values.tolist(), strict=True)
    return {"predictions": [{"class": name, "probability": value} for name, value in pairs]}


class Api(litserve.LitAPI):
    """Decodes the clips of a batch in threads, and classifies them together."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        self.classifier = backends.load(Path(sys.argv[1]), torch.device(device))
        self.pool = ThreadPoolExecutor(DECODING_THREADS)

    def decode_request(self, request: dict[str, str]) -> bytes:
        """Return the sound file."""
        return base64.b64decode(request["audio"])

    def batch(self, inputs: list[bytes]) -> Tensor:
        """Return the waveforms."""
        waveforms = self.pool.map(lambda content: load(content, self.classifier.settings), inputs)
        return torch.stack([torch.from_numpy(waveform) for waveform in waveforms])

    def predict(self, x: Tensor) -> Tensor:
        """Return the probabilities."""
        return self.classifier.classify(x)

    def unbatch(self, output: Tensor) -> list[Tensor]:
        """Return the probabilities of each clip."""
        return list(output)

    def encode_response(self, output: Tensor) -> dict[str, Any]:
        """Return the answer to one request."""
        return top_classes(self.classifier, output)


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH_SIZE, batch_timeout=BATCH_DELAY, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)
