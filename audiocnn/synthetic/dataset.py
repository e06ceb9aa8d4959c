"""The embedded data set: ten classes of synthetic sounds in ESC-50's own layout, made from a seed in a few seconds.

It lets the whole pipeline run with no download, and each clip is free of anybody's rights. Categories and targets are
ESC-50's own (https://github.com/karolpiczak/ESC-50), so a model's labels mean the same on both.
"""

import csv
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from audiocnn.atomic import atomic_folder
from audiocnn.synthetic import sounds as demo_sounds
from audiocnn.synthetic.sounds import RATE, Wave

FOLDS = (1, 2, 3, 4, 5)
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
MOST_CLIPS = 10_000  # per class and fold: the source number has room for four digits


@dataclass(frozen=True)
class SoundClass:
    """One class: its name, number and ESC-10 membership as in ESC-50, and the function that sounds it."""

    category: str
    target: int
    esc10: bool
    synthesise: Callable[[Generator], Wave]


CLASSES = (
    SoundClass("rain", 10, True, demo_sounds.rain),
    SoundClass("sea_waves", 11, True, demo_sounds.sea_waves),
    SoundClass("crackling_fire", 12, True, demo_sounds.crackling_fire),
    SoundClass("chirping_birds", 14, False, demo_sounds.chirping_birds),
    SoundClass("clock_alarm", 37, False, demo_sounds.clock_alarm),
    SoundClass("clock_tick", 38, True, demo_sounds.clock_tick),
    SoundClass("helicopter", 40, True, demo_sounds.helicopter),
    SoundClass("siren", 42, False, demo_sounds.siren),
    SoundClass("engine", 44, False, demo_sounds.engine),
    SoundClass("church_bells", 46, False, demo_sounds.church_bells),
)


def write_demo(
    folder: Path,
    clips_per_class_and_fold: int = 8,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `meta/esc50.csv` and `audio/*.wav` into `folder`, new or empty, and return it: all of it or nothing.

    A clip's samples depend on (seed, class, fold, its index) alone, so a larger set contains every smaller one.
    `progress(done, total)` is called after each clip. Raises ValueError for a count or a seed out of range, and
    OutputError where something is in `folder`.
    """
    if not 1 <= clips_per_class_and_fold <= MOST_CLIPS:
        raise ValueError(f"clips_per_class_and_fold is {clips_per_class_and_fold}; give 1 to {MOST_CLIPS}.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; give 0 or more.")
    folder = Path(folder)
    clips = [(fold, kind, index) for fold in FOLDS for kind in CLASSES for index in range(clips_per_class_and_fold)]
    with atomic_folder(folder) as part:
        (part / "audio").mkdir()
        (part / "meta").mkdir()
        with (part / "meta" / "esc50.csv").open("w", newline="", encoding="utf-8") as handle:
            table = csv.writer(handle, lineterminator="\n")
            table.writerow(COLUMNS)
            for done, (fold, kind, index) in enumerate(clips, 1):
                source, take = _source(index)
                src_file = 1_000_000 * fold + MOST_CLIPS * kind.target + source
                filename = f"{fold}-{src_file}-{take}-{kind.target}.wav"
                _write_wav(part / "audio" / filename, synthesise(kind, fold, index, seed))
                table.writerow((filename, fold, kind.target, kind.category, kind.esc10, src_file, take))
                if progress is not None:
                    progress(done, len(clips))
    return folder


def synthesise(kind: SoundClass, fold: int, index: int, seed: int = 0) -> NDArray[np.int16]:
    """Return the samples of one clip, shape (220500,), at 44.1 kHz."""
    source, _ = _source(index)
    sound = kind.synthesise(Generator(PCG64(SeedSequence((seed, kind.target, fold, index)))))
    place = Generator(PCG64(SeedSequence((seed, kind.target, fold, source, 1))))
    return demo_sounds.record(sound, place)


def _source(index: int) -> tuple[int, str]:
    """Return the source and the take of clip `index`: of every four, the last is take B of the third one's source.

    ESC-50 has 1.3 clips a source too. Takes share the place and the microphone, so one must not test the other.
    """
    return (index - 1, "B") if index % 4 == 3 else (index, "A")


def _write_wav(path: Path, samples: NDArray[np.int16]) -> None:
    """Write 16-bit mono PCM at RATE."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
