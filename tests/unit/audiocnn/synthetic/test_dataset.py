"""The demo data set: ESC-50's layout, reproducible, written completely or not at all, not solved by mean spectra."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from helpers.project import REAL_CLIPS, ROOT
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audiocnn.audio import load
from audiocnn.features import LogMel
from audiocnn.synthetic.dataset import CLASSES, synthesize, write_demo
from pipeline.settings import PipelineSettings

ESC50_TABLE = REAL_CLIPS / "official-esc50.csv"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default data set of 400 clips."""
    return write_demo(tmp_path_factory.mktemp("demo") / "clips")


def read_table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "meta" / "esc50.csv")


def md5s(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_layout_equals_that_of_esc50(demo: Path) -> None:
    table = read_table(demo)
    assert list(table) == ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    assert table.groupby(["fold", "category"]).size().to_dict() == {
        (fold, kind.category): 8 for fold in range(1, 6) for kind in CLASSES
    }
    for row in table.itertuples():
        assert row.filename == f"{row.fold}-{row.src_file}-{row.take}-{row.target}.wav"
        assert re.fullmatch(r"[1-5]-\d+-[A-Z]-\d+\.wav", row.filename)
    assert sorted(path.name for path in (demo / "audio").iterdir()) == sorted(table.filename)
    assert sorted(path.name for path in demo.iterdir()) == ["audio", "meta"]
    assert table.filename.is_monotonic_increasing


def test_clips_are_five_seconds_of_unclipped_16_bit_mono(demo: Path) -> None:
    for path in (demo / "audio").iterdir():
        assert path.stat().st_size == 44 + 2 * 5 * 44_100
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (44_100, 1, 220_500, "PCM_16")
        peak = np.abs(soundfile.read(path)[0]).max()
        assert 0.12 < peak < 0.9


def test_takes_of_a_recording_are_in_the_same_fold(demo: Path) -> None:
    recordings = read_table(demo).groupby("src_file")
    assert (recordings.fold.nunique() == 1).all()
    assert (recordings.target.nunique() == 1).all()
    assert recordings["take"].apply("".join).value_counts().to_dict() == {"A": 200, "AB": 100}


@pytest.mark.skipif(not ESC50_TABLE.exists(), reason=f"no official ESC-50 table at {ESC50_TABLE}")
def test_categories_targets_and_esc10_equal_those_of_esc50() -> None:
    official = pd.read_csv(ESC50_TABLE)[["category", "target", "esc10"]].drop_duplicates()
    demo_classes = {(kind.category, kind.target, kind.esc10) for kind in CLASSES}
    assert len(demo_classes) == 10
    assert demo_classes <= set(official.itertuples(index=False, name=None))


def test_a_smaller_data_set_has_the_same_files_as_a_larger_one(demo: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    small = write_demo(tmp_path / "small", 1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 50) for done in range(1, 51)]
    first, second = md5s(demo / "audio"), md5s(small / "audio")
    assert second.items() <= first.items()
    assert len(set(second.values())) == len(second) == 50
    rows = read_table(demo)
    pd.testing.assert_frame_equal(read_table(small), rows[rows.filename.isin(second)].reset_index(drop=True))


def test_clips_are_equal_on_cpus_without_vector_instructions() -> None:
    script = (
        "import hashlib; from audiocnn.synthetic.dataset import CLASSES, synthesize\n"
        "for kind in CLASSES: print(hashlib.md5(synthesize(kind, 2, 1)).hexdigest())"
    )
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    digests = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(found)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert digests == [hashlib.md5(synthesize(kind, 2, 1)).hexdigest() for kind in CLASSES]


def interrupt(done: int, total: int) -> None:
    if done == 3:
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "clips", 1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "old.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="is not empty"):
        write_demo(tmp_path / "clips", 1)
    assert md5s(tmp_path).keys() == {"clips/old.txt"}


@pytest.mark.parametrize("count", [0, 10_001])
def test_a_number_of_clips_out_of_range_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match=f"clips_per_class_and_fold should be 1 to 10000, found {count}"):
        write_demo(tmp_path / "clips", count)
    assert list(tmp_path.iterdir()) == []


def test_a_linear_model_on_mean_spectra_is_not_enough(demo: Path, tiny: PipelineSettings) -> None:
    """Its accuracy is well above chance and well below that of a network."""
    table = read_table(demo)
    front_end = LogMel(tiny.spectrograms)
    clips = (torch.from_numpy(load(demo / "audio" / name, tiny.spectrograms)) for name in table.filename)
    means = np.stack([front_end(clip).mean(dim=-1).numpy() for clip in clips])
    train, test = (table.fold < 5).to_numpy(), (table.fold == 5).to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(means[train], table.target[train])
    accuracy = model.score(means[test], table.target[test])
    print(f"linear model on mean spectra: {accuracy:.3f}")
    assert 0.5 < accuracy < 0.9
