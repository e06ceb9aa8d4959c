"""The demo data set has ESC-50's layout, is the same everywhere, whole or absent, and needs more than mean spectra."""

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
import torchaudio
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audiocnn.atomic import OutputError
from audiocnn.synthetic.dataset import CLASSES, synthesise, write_demo

ESC50_TABLE = Path(__file__).parents[5] / "shared" / "esc50" / "official-esc50.csv"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default set: 400 clips."""
    return write_demo(tmp_path_factory.mktemp("demo") / "clips")


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "meta" / "esc50.csv")


def md5s(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_layout_is_that_of_esc50(demo: Path) -> None:
    table = table_of(demo)
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


def test_every_clip_is_five_seconds_of_unclipped_16_bit_mono(demo: Path) -> None:
    for path in (demo / "audio").iterdir():
        assert path.stat().st_size == 44 + 2 * 5 * 44_100
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (44_100, 1, 220_500, "PCM_16")
        peak = np.abs(soundfile.read(path)[0]).max()
        assert 0.12 < peak < 0.9


def test_no_source_stands_in_two_folds_though_some_give_two_takes(demo: Path) -> None:
    sources = table_of(demo).groupby("src_file")
    assert (sources.fold.nunique() == 1).all()
    assert (sources.target.nunique() == 1).all()
    assert sources["take"].apply("".join).value_counts().to_dict() == {"A": 200, "AB": 100}


@pytest.mark.skipif(not ESC50_TABLE.exists(), reason=f"ESC-50's own table is not at {ESC50_TABLE}")
def test_names_targets_and_esc10_are_those_of_esc50() -> None:
    official = pd.read_csv(ESC50_TABLE)[["category", "target", "esc10"]].drop_duplicates()
    ours = {(kind.category, kind.target, kind.esc10) for kind in CLASSES}
    assert len(ours) == 10
    assert ours <= set(official.itertuples(index=False, name=None))


def test_a_second_run_gives_the_same_bytes_however_many_clips_it_makes(demo: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    small = write_demo(tmp_path / "small", 1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 50) for done in range(1, 51)]
    first, second = md5s(demo / "audio"), md5s(small / "audio")
    assert second.items() <= first.items()
    assert len(set(second.values())) == len(second) == 50
    rows = table_of(demo)
    pd.testing.assert_frame_equal(table_of(small), rows[rows.filename.isin(second)].reset_index(drop=True))


def test_another_seed_gives_another_clip() -> None:
    assert not np.array_equal(synthesise(CLASSES[0], 1, 0, seed=0), synthesise(CLASSES[0], 1, 0, seed=1))


def test_a_processor_with_fewer_vector_instructions_makes_the_same_clips() -> None:
    script = (
        "import hashlib; from audiocnn.demo import CLASSES, synthesise\n"
        "for kind in CLASSES: print(hashlib.md5(synthesise(kind, 2, 1)).hexdigest())"
    )
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    plain = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=Path(__file__).parents[4],
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(found)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert plain == [hashlib.md5(synthesise(kind, 2, 1)).hexdigest() for kind in CLASSES]


def interrupt(done: int, total: int) -> None:
    if done == 3:
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "clips", 1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_stands_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "old.txt").write_text("kept")
    with pytest.raises(OutputError, match="is not empty"):
        write_demo(tmp_path / "clips", 1)
    assert md5s(tmp_path).keys() == {"clips/old.txt"}


@pytest.mark.parametrize(
    ("count", "seed", "names"), [(0, 0, "clips_per_class_and_fold"), (10_001, 0, "10000"), (1, -1, "seed")]
)
def test_counts_and_seeds_out_of_range_are_refused_by_name(tmp_path: Path, count: int, seed: int, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        write_demo(tmp_path / "clips", count, seed)
    assert list(tmp_path.iterdir()) == []


def test_mean_spectra_alone_do_not_solve_it(demo: Path) -> None:
    """A linear model on each clip's mean log-mel spectrum: well above chance, well below what a network reaches."""
    table = table_of(demo)
    log_mel = torch.nn.Sequential(
        torchaudio.transforms.Resample(44_100, 22_050),
        torchaudio.transforms.MelSpectrogram(22_050, n_fft=1024, hop_length=512, n_mels=128),
        torchaudio.transforms.AmplitudeToDB(),
    )
    clips = (torch.from_numpy(soundfile.read(demo / "audio" / name, dtype="float32")[0]) for name in table.filename)
    means = np.stack([log_mel(clip).mean(dim=-1).numpy() for clip in clips])
    train, test = (table.fold < 5).to_numpy(), (table.fold == 5).to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(means[train], table.target[train])
    accuracy = model.score(means[test], table.target[test])
    print(f"linear model on mean spectra: {accuracy:.3f}")
    assert 0.5 < accuracy < 0.9
