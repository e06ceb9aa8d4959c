"""The clip table, its digest and folds, and spectrogram folders."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.data.clips import DatasetError, class_names, digest, read_clips, split
from audiocnn.data.spectrogram_set import SpectrogramSet, check_front_end
from pipeline.settings import PipelineSettings


def table(rows: int = 12, folds: int = 3, classes: int = 2) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "filename": [f"{i}.wav" for i in range(rows)],
            "md5": [f"{i:032x}" for i in range(rows)],
            "fold": [i % folds + 1 for i in range(rows)],
            "target": [(i // folds) % classes * 10 for i in range(rows)],
            "category": [f"c{(i // folds) % classes}" for i in range(rows)],
        }
    )


@given(st.permutations(range(12)))
def test_digest_ignores_the_order_of_rows(order: list[int]) -> None:
    assert digest(table().iloc[order]) == digest(table())


@pytest.mark.parametrize(
    ("column", "value"), [("filename", "x.wav"), ("md5", "f" * 32), ("category", "other"), ("fold", 9)]
)
def test_digest_depends_on_filename_content_label_and_fold(column: str, value: object) -> None:
    changed = table()
    changed[column] = changed[column].astype(object)
    changed.loc[5, column] = value
    assert digest(changed) != digest(table())


def test_digest_is_the_documented_hash() -> None:
    rows = pd.DataFrame({"filename": ["b", "a"], "md5": ["2", "1"], "category": ["y", "x"], "fold": [2, 1]})
    assert digest(rows) == hashlib.sha256(b"a\t1\tx\t1\nb\t2\ty\t2\n").hexdigest()


def test_classes_are_in_the_order_of_their_targets() -> None:
    assert class_names(pd.DataFrame({"target": [40, 3, 3], "category": ["a", "z", "z"]})) == ("z", "a")


@given(st.integers(2, 5), st.integers(1, 5))
def test_split_partitions_the_clips_by_fold(folds: int, fold: int) -> None:
    clips = table(rows=folds * 4, folds=folds)
    if fold > folds:
        with pytest.raises(DatasetError, match=f"fold {fold} does not exist"):
            split(clips, fold)
        return
    train, test = split(clips, fold)
    assert sorted([*train, *test]) == list(range(len(clips)))
    assert set(clips["fold"].iloc[test]) == {fold} and fold not in set(clips["fold"].iloc[train])


def test_a_single_class_is_refused() -> None:
    with pytest.raises(DatasetError, match="all clips have the class c0; add clips of a second class"):
        split(table(classes=1), 1)


def test_held_out_folds_are_in_neither_part() -> None:
    clips = table(folds=4, rows=16)
    train, test = split(clips, 2, hold_out=(1, 4))
    assert (set(clips["fold"].iloc[train]), set(clips["fold"].iloc[test])) == ({3}, {2})


@pytest.mark.parametrize(
    ("hold_out", "message"),
    [
        ((9,), "fold 9 does not exist; choose from the folds of the data set: 1, 2, 3"),
        ((2,), r"fold 2 is in train\.hold_out"),
        ((1, 3), "the folds 1, 3 leave no training fold for validation fold 2"),
    ],
)
def test_invalid_held_out_folds_are_refused(hold_out: tuple[int, ...], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        split(table(), 2, hold_out)


def test_class_missing_from_the_training_folds_is_named() -> None:
    clips = table(folds=4, rows=16)
    clips.loc[clips["fold"].isin([2, 4]), "category"] = "owl"
    with pytest.raises(DatasetError, match="class 'owl' has no clip in the training folds; choose another"):
        split(clips, 2, hold_out=(4,))


def test_class_missing_from_the_test_fold_is_named() -> None:
    clips = table(folds=4, rows=16)
    clips.loc[clips["fold"].isin([1, 3]), "category"] = "owl"
    with pytest.raises(DatasetError, match="class 'c0' has no clip in test fold 1; choose another"):
        split(clips, 1)


def test_single_fold_and_unlearnable_class_are_refused() -> None:
    with pytest.raises(DatasetError, match="only fold"):
        split(table(folds=1), 1)
    alone = table()
    alone.loc[alone["fold"] == 2, "category"] = "owl"
    with pytest.raises(DatasetError, match="'owl'"):
        split(alone, 2)


def test_a_calibration_fold_of_classes_that_are_left_out_is_refused() -> None:
    clips = table(18, classes=3)
    clips.loc[clips["fold"] == 3, "category"] = "c2"
    with pytest.raises(DatasetError, match=r"train.calibration_fold: fold 3 has no clip of the classes of the model"):
        split(clips, 1, calibration_fold=3, leave_out=["c2"])


@pytest.mark.parametrize("text", [None, "", "a,b\n1,2\n", "\x00\xff"])
def test_invalid_clip_table_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "clips.csv").write_text(text)
    with pytest.raises(DatasetError, match=r"clips\.csv"):
        read_clips(tmp_path / "clips.csv")


def test_text_columns_are_not_converted(dataset: Path, tmp_path: Path) -> None:
    clips = read_clips(dataset / "clips.csv")
    clips["src_file"], clips["category"] = "00123", "none"
    clips.to_csv(tmp_path / "clips.csv", index=False)
    again = read_clips(tmp_path / "clips.csv")
    assert set(again["src_file"]) == {"00123"} and set(again["category"]) == {"none"}


def test_spectrogram_folder_is_memory_mapped_with_labels(spectrogram_folder: Path) -> None:
    data = SpectrogramSet.open(spectrogram_folder)
    assert isinstance(data.spectrograms, np.memmap) and data.spectrograms.shape == (50, 64, 108)
    assert [data.classes[label] for label in data.labels] == data.clips["category"].tolist()


def test_inconsistent_spectrogram_folder_is_refused(spectrogram_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a spectrogram folder"):
        SpectrogramSet.open(tmp_path)
    broken = shutil.copytree(spectrogram_folder, tmp_path / "broken")
    read_clips(broken / "clips.csv").iloc[:-1].to_csv(broken / "clips.csv", index=False)
    with pytest.raises(DatasetError, match=r"\(49, 64, 108\).*\(50, 64, 108\)"):
        SpectrogramSet.open(broken)
    (broken / "spec.json").write_text(json.dumps([]))
    with pytest.raises(DatasetError, match=r"spec\.json"):
        SpectrogramSet.open(broken)


def test_spectrograms_of_another_front_end_are_refused(spectrogram_folder: Path, tiny: PipelineSettings) -> None:
    check_front_end(spectrogram_folder, tiny.spectrograms)
    other = tiny.spectrograms.replace(rate=44100, f_max=22050.0)
    with pytest.raises(DatasetError, match="now: rate is 22050, not 44100, f_max is 11025, not 22050; run the step"):
        check_front_end(spectrogram_folder, other)
