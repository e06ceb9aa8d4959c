"""Write the demo data set: ten classes of synthetic sounds in ESC-50's layout.

The whole pipeline runs on it without a download, and its clips are free of rights. Categories and targets are those of
ESC-50 (https://github.com/karolpiczak/ESC-50).
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from audiocnn.atomic import atomic_folder
from audiocnn.synthetic import sounds
from audiocnn.synthetic.signals import RATE, Signal, record

FOLDS = (1, 2, 3, 4, 5)
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
SEED = 0  # of all random numbers
MAX_CLIPS = 10_000  # per class and fold: the number of a recording has four digits for them


@dataclass(frozen=True)
class SoundClass:
    """A class: category, target and ESC-10 membership as in ESC-50, and the function that synthesizes it."""

    category: str
    target: int
    esc10: bool
    synthesize: Callable[[Generator], Signal]


CLASSES = (
    SoundClass("rain", 10, True, sounds.rain),
    SoundClass("sea_waves", 11, True, sounds.sea_waves),
    SoundClass("crackling_fire", 12, True, sounds.crackling_fire),
    SoundClass("chirping_birds", 14, False, sounds.chirping_birds),
    SoundClass("clock_alarm", 37, False, sounds.clock_alarm),
    SoundClass("clock_tick", 38, True, sounds.clock_tick),
    SoundClass("helicopter", 40, True, sounds.helicopter),
    SoundClass("siren", 42, False, sounds.siren),
    SoundClass("engine", 44, False, sounds.engine),
    SoundClass("church_bells", 46, False, sounds.church_bells),
)


def write_demo(
    folder: Path, clips_per_class_and_fold: int = 8, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write `meta/esc50.csv` and `audio/*.wav`, completely or not at all.

    A clip depends only on class, fold and its index, so a larger data set contains every smaller one.

    Args:
        folder: new or empty.
        clips_per_class_and_fold: 1 to MAX_CLIPS.
        progress: called after each clip with the number of clips written and their total.
    Returns:
        `folder`.
    Raises:
        ValueError: the number of clips is out of range.
        FileExistsError: `folder` is not empty.
    """
    if not 1 <= clips_per_class_and_fold <= MAX_CLIPS:
        raise ValueError(f"clips_per_class_and_fold should be 1 to {MAX_CLIPS}, found {clips_per_class_and_fold}")
    clips = [(fold, kind, index) for fold in FOLDS for kind in CLASSES for index in range(clips_per_class_and_fold)]
    with atomic_folder(folder) as part:
        (part / "audio").mkdir()
        (part / "meta").mkdir()
        rows = []
        for done, (fold, kind, index) in enumerate(clips, 1):
            recording, take = _recording(index)
            src_file = 1_000_000 * fold + MAX_CLIPS * kind.target + recording
            filename = f"{fold}-{src_file}-{take}-{kind.target}.wav"
            (part / "audio" / filename).write_bytes(_wav(synthesize(kind, fold, index)))
            rows.append((filename, fold, kind.target, kind.category, kind.esc10, src_file, take))
            if progress is not None:
                progress(done, len(clips))
        table = pd.DataFrame(rows, columns=COLUMNS)
        table.to_csv(part / "meta" / "esc50.csv", index=False, lineterminator="\n")
    return folder


def synthesize(kind: SoundClass, fold: int, index: int) -> NDArray[np.int16]:
    """Return the samples of one clip, of shape (220500,), at 44.1 kHz."""
    recording, _ = _recording(index)
    signal = kind.synthesize(Generator(PCG64(SeedSequence((SEED, kind.target, fold, index)))))
    conditions = Generator(PCG64(SeedSequence((SEED, kind.target, fold, recording, 1))))
    return record(signal, conditions)


def _recording(index: int) -> tuple[int, str]:
    """Return the recording and the take of clip `index`. Of every four clips, the last is take B of the third's.

    Takes of a recording share microphone and background, as in ESC-50, so they have to be in the same fold.
    """
    return (index - 1, "B") if index % 4 == 3 else (index, "A")


def _wav(samples: NDArray[np.int16]) -> bytes:
    """Encode 16-bit mono PCM at RATE. In memory: libsndfile does not report why a file cannot be written."""
    content = io.BytesIO()
    soundfile.write(content, samples, RATE, "PCM_16", format="WAV")
    return content.getvalue()
