"""The spectrograms of a data set: an array, its clip table and its description."""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from audiocnn.config import SpectrogramSettings
from audiocnn.data.clips import DatasetError, read_clips

# Files of an output folder of the step spectrograms.
SPEC = "spec.json"
ARRAY = "spectrograms.npy"
CLIPS = "clips.csv"


@dataclass(frozen=True)
class SpectrogramSet:
    """An output folder of the step spectrograms.

    Attributes:
        spectrograms: float16 memory map of shape (clips, n_mels, frames), in dB.
        clips: the clip table, with one row for each spectrogram.
        spec: the description in spec.json: front end, settings, data set, classes.
    """

    spectrograms: npt.NDArray[np.float16]
    clips: pd.DataFrame
    spec: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the array of a folder and read its table.

        Raises:
            DatasetError: a file is missing, or the array does not match the table.
        """
        try:
            spec = _read_spec(folder / SPEC)
            array = np.load(folder / ARRAY, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{folder}: not a spectrogram folder: {error}; run the step spectrograms first"
            ) from error
        clips = read_clips(folder / CLIPS)
        settings = SpectrogramSettings.parse(spec["settings"], f"{folder / SPEC}: settings")
        expected = (len(clips), settings.n_mels, settings.frames)
        if array.shape != expected or array.dtype != np.float16:
            raise DatasetError(
                f"{folder}: expected an array of float16 {expected}, found {array.dtype} {array.shape}; run the step "
                "spectrograms again"
            )
        return cls(array, clips, spec)

    @property
    def settings(self) -> SpectrogramSettings:
        """Settings of the front end."""
        return SpectrogramSettings.parse(self.spec["settings"], f"{SPEC}: settings")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return tuple(self.spec["classes"])

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Index into `classes` of every clip, shape (clips,); -1 if its class is none of them."""
        labels: npt.NDArray[np.int64] = pd.Index(self.classes).get_indexer(self.clips["category"]).astype(np.int64)
        return labels

    def without_classes(self, names: Collection[str]) -> Self:
        """Return the set with the same clips, in which the classes `names` are none of its classes."""
        return replace(self, spec={**self.spec, "classes": [name for name in self.classes if name not in names]})


def check_front_end(folder: Path, settings: SpectrogramSettings) -> None:
    """Check that the spectrograms of a folder were made with these settings.

    Raises:
        DatasetError: they were made with others, or the folder cannot be read.
    """
    made = SpectrogramSet.open(folder).settings.to_dict()
    wanted = settings.to_dict()
    if differences := [f"{key} is {made[key]:g}, not {wanted[key]:g}" for key in wanted if made[key] != wanted[key]]:
        raise DatasetError(
            f"{folder}: made with other settings than the block spectrograms has now: {', '.join(differences)}; run "
            "the step spectrograms again, or choose the recipe that they were made with"
        )


def _read_spec(path: Path) -> dict[str, Any]:
    spec = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(spec, dict) or not {"front_end", "settings", "dataset", "classes"} <= set(spec):
        raise DatasetError(f"{path}: not a description of spectrograms; run the step spectrograms again")
    return spec
