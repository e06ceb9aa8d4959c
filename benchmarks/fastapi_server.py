"""Baseline of `make bench-serve`: FastAPI and uvicorn around the eager network. No keys, limits, metrics or versions.

python -m benchmarks.fastapi_server MODEL PORT
"""

import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import Body, FastAPI

from audiocnn.audio import load
from audiocnn.classifier import Classifier
from benchmarks.litserve_server import top_classes

app, model = FastAPI(), Path(sys.argv[1])
classifier = Classifier.load(model)


@app.post("/classify")
def classify(content: bytes = Body(media_type="application/octet-stream")) -> dict[str, Any]:
    """Classify a sound file, the body of the request, in one of the threads of the pool."""
    waveform = torch.from_numpy(load(content, classifier.settings))
    return top_classes(classifier, classifier.classify(waveform[None])[0])


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
