"""Baseline of `make bench-serve`: LitServe around the backend of an archive, with batches.

    python -m benchmarks.litserve_server FOLDER PORT THREADS      FOLDER is an unpacked archive

A request is JSON with the sound file in base64. With 0 threads, LitServe's worker decodes the requests of a batch one
after the other, as its documentation shows it; otherwise, so many threads do it, as in TorchServe's handler.
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


def top_classes(classifier: Classifier, probabilities: Tensor) -> dict[str, Any]:
    """Return the most probable classes of one clip."""
    values, indices = probabilities.topk(TOP)
    names = [classifier.classes[index] for index in indices.tolist()]
    pairs = zip(names, values.tolist(), strict=True)
    return {"predictions": [{"class": name, "probability": value} for name, value in pairs]}


class Api(litserve.LitAPI):
    """Decodes the clips of a batch, and classifies them together."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        self.classifier = backends.load(Path(sys.argv[1]), torch.device(device))

    def decode_request(self, request: dict[str, str]) -> Any:
        """Return the waveform."""
        return torch.from_numpy(load(base64.b64decode(request["audio"]), self.classifier.settings))

    def predict(self, x: Tensor) -> Tensor:
        """Return the probabilities of a batch; LitServe stacks its waveforms."""
        return self.classifier.classify(x)

    def encode_response(self, output: Tensor) -> dict[str, Any]:
        """Return the answer to one request."""
        return top_classes(self.classifier, output)


class ThreadedApi(Api):
    """Decodes and computes the spectrograms of a batch in threads."""

    def setup(self, device: str) -> None:
        """Load the model in the worker, and start the threads."""
        super().setup(device)
        self.pool = ThreadPoolExecutor(int(sys.argv[3]), initializer=torch.set_num_threads, initargs=(1,))

    def decode_request(self, request: dict[str, str]) -> Any:
        """Return the sound file."""
        return base64.b64decode(request["audio"])

    def batch(self, inputs: list[bytes]) -> Tensor:
        """Return the spectrograms."""
        return torch.stack(list(self.pool.map(self._compute, inputs)))

    def predict(self, x: Tensor) -> Tensor:
        """Return the probabilities of a batch."""
        return self.classifier.classify_spectrograms(x)

    def unbatch(self, output: Tensor) -> list[Tensor]:
        """Return the probabilities of each clip."""
        return list(output)

    def _compute(self, content: bytes) -> Tensor:
        return self.classifier.front_end(torch.from_numpy(load(content, self.classifier.settings)))


if __name__ == "__main__":
    kind = ThreadedApi if int(sys.argv[3]) else Api
    api = kind(max_batch_size=BATCH_SIZE, batch_timeout=BATCH_DELAY, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)
