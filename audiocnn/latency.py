"""Time from a sound file to its probabilities."""

import io
import math
import statistics
import time

import numpy as np
import soundfile
import torch

from audiocnn import audio
from audiocnn.classifier import Classifier

RUNS = 15


def latency_ms(classifier: Classifier) -> float:
    """Return the median time in ms from a sound file to its probabilities on one CPU thread, as in a serving worker.

    The file is stereo at 44.1 kHz in Ogg Vorbis, the format that takes longest to decode.
    """
    content = _noise_as_ogg(classifier.settings.seconds)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            waveform = audio.checked_waveform(audio.decode(content), classifier.settings)
            classifier.classify(torch.from_numpy(waveform)[None])
            times.append(1000 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times)


def _noise_as_ogg(seconds: float) -> bytes:
    second = np.random.default_rng(0).normal(0, 0.1, (44_100, 2)).astype(np.float32)
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", len(second), 2, format="OGG") as file:
        for _ in range(math.ceil(seconds)):  # libsndfile crashes if it is given minutes at once
            file.write(second)
    return content.getvalue()
