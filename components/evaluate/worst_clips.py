"""The most confident errors, to look at and to listen to."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audiocnn import audio, plots
from audiocnn.data.spectrogram_set import SpectrogramSet
from mlops.artifacts import Predictions


def worst_clips(
    predictions: Predictions, data: SpectrogramSet, rows: npt.NDArray[np.int64], audio_folder: Path, count: int
) -> list[dict[str, Any]]:
    """Return the misclassified clips with the highest confidence, with their spectrogram and with MP3 audio.

    The audio is what the network is given: mono, at its sample rate, cut or padded.

    Args:
        rows: the positions in `data` of the clips, in the order of the predictions.
    """
    table, settings = predictions.table, data.settings
    errors = table[table["correct"] == 0].sort_values("confidence", ascending=False).head(count)
    found = []
    for rank, (position, error) in enumerate(errors.iterrows(), start=1):
        content = audio.encode_mp3(audio.load(audio_folder / error["filename"], settings), settings.rate)
        found.append(
            {
                "filename": error["filename"],
                "category": error["category"].replace("_", " "),
                "predicted": error["predicted"].replace("_", " "),
                "confidence": error["confidence"],
                "probability": predictions.probability_of(position, error["category"]),
                "image": plots.data_uri(plots.thumbnail(data.spectrograms[rows[position]], settings.seconds)),
                "mp3_name": f"{rank:02}-{Path(error['filename']).stem}.mp3",
                "mp3": content,
                "mp3_uri": "data:audio/mpeg;base64," + base64.b64encode(content).decode(),
            }
        )
    return found
