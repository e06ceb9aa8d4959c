"""A small valid data set in the layout of ESC-50, which tests modify."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiocnn.config import SpectrogramSettings
from components.ingest import step
from components.ingest.settings import IngestSettings
from pipeline import settings as pipeline_settings

RATE = 8_000
FRONT_END = SpectrogramSettings(rate=RATE, seconds=1.0, n_fft=512, hop=256, n_mels=32, f_min=0.0, f_max=4_000.0)
SAMPLES = 2_000
FAULTY_CLIP, OTHER = "1-2-42.wav", "1-1-42.wav"  # two of its clips
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def noise(seed: int) -> np.ndarray:
    """Return 0.25 s of noise, well below full scale."""
    return np.random.default_rng(seed).standard_normal(SAMPLES) * 0.05


class IngestFolder:
    """Two classes (dog, which is in ESC-10, and siren) with two clips in each of two folds."""

    def __init__(self, path: Path) -> None:
        self.path, self.audio, self.table = path, path / "audio", path / "meta" / "esc50.csv"
        self.audio.mkdir(parents=True)
        self.table.parent.mkdir()
        self.rows: list[dict[str, object]] = []
        for fold in (1, 2):
            for target, category in ((0, "dog"), (42, "siren")):
                for take in (1, 2):
                    self.add(f"{fold}-{take}-{target}.wav", fold, target, category)

    def add(self, name: str, fold: int, target: int, category: str) -> None:
        """Add a clip with different samples and a different recording."""
        seed = len(self.rows)
        self.rows.append(dict(zip(COLUMNS, (name, fold, target, category, target == 0, 100 + seed, "A"), strict=True)))
        self.sound(name, noise(seed))

    def sound(self, name: str, samples: np.ndarray, subtype: str = "PCM_16") -> None:
        """Write the file of a clip."""
        soundfile.write(self.audio / name, samples, RATE, subtype=subtype)

    def row(self, name: str) -> dict[str, object]:
        """Return the row of a clip, to be modified in place."""
        return next(row for row in self.rows if row["filename"] == name)

    def write(self) -> str:
        """Write the table; return the folder as a source."""
        with self.table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
        return str(self.path)


def ingest(source: str, settings: IngestSettings, output: Path) -> step.Summary:
    """Run the step with a front end that gives the network the first second of a clip."""
    return step.ingest(source, settings, FRONT_END, output)


def settings(root: Path, **policy: str) -> IngestSettings:
    """Return the block `ingest` of params.yaml with other actions in the policy."""
    return pipeline_settings.load(root / "params.yaml", {"ingest": {"policy": policy}}).ingest


@pytest.fixture
def folder(tmp_path: Path) -> IngestFolder:
    """A new data set."""
    return IngestFolder(tmp_path / "clips")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output path that does not exist."""
    return tmp_path / "work" / "dataset"
