"""The step ingest: its output, and each kind of finding under each action of the policy."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xxhash
from helpers.ingest import FAULTY_CLIP, OTHER, RATE, SAMPLES, IngestFolder, ingest, noise, settings
from helpers.project import ROOT, read_json

from audiocnn import audio
from audiocnn.data.clips import CLIP_COLUMNS, class_names, digest
from audiocnn.strict_model import SettingsError
from components.ingest.findings import DESCRIPTIONS
from components.ingest.step import IngestError, refused_report
from mlops.artifacts import DatasetFolder
from mlops.outputs import OutputError

WITHOUT_SAMPLES = {"missing", "undecodable", "truncated", "empty", "not_finite", "too_long"}


def truncate(folder: IngestFolder) -> None:
    content = (folder.audio / FAULTY_CLIP).read_bytes()
    (folder.audio / FAULTY_CLIP).write_bytes(content[: len(content) // 2])


def duplicate_row(folder: IngestFolder) -> None:
    folder.rows.append(dict(folder.row(FAULTY_CLIP)))


def give_clip_its_own_class(folder: IngestFolder) -> None:
    folder.row(FAULTY_CLIP).update(category="cow", target=3)


def put_class_in_one_fold(folder: IngestFolder) -> None:
    for name in (OTHER, FAULTY_CLIP):
        folder.row(name).update(category="cow", target=3)
    folder.row("2-1-42.wav").update(fold=1)  # sirens stay in two folds


# By kind of finding: a change of the folder, at the clip FAULTY_CLIP, that causes this finding only.
FAULTS: dict[str, Callable[[IngestFolder], object]] = {
    "missing": lambda folder: (folder.audio / FAULTY_CLIP).unlink(),
    "undecodable": lambda folder: (folder.audio / FAULTY_CLIP).write_text("not audio"),
    "truncated": truncate,
    "empty": lambda folder: (folder.audio / FAULTY_CLIP).write_bytes(b""),
    "not_finite": lambda folder: folder.sound(
        FAULTY_CLIP, np.where(np.arange(SAMPLES) == 7, np.nan, noise(50)), "FLOAT"
    ),
    "too_long": lambda folder: folder.sound(FAULTY_CLIP, np.tile(noise(50), 2401)),
    "too_short": lambda folder: folder.sound(FAULTY_CLIP, noise(50)[: RATE // 20]),
    "silent": lambda folder: folder.sound(FAULTY_CLIP, np.zeros(SAMPLES)),
    "clipped": lambda folder: folder.sound(FAULTY_CLIP, np.clip(noise(50) * 40, -1, 1)),
    "listed_twice": duplicate_row,
    "duplicate_audio": lambda folder: folder.sound(
        FAULTY_CLIP, noise(2)
    ),  # the samples of 1-1-42.wav, which has the same class and fold
    "source_in_two_folds": lambda folder: [
        folder.row(n).update(src_file=9) for n in (FAULTY_CLIP, "2-1-0.wav", "2-2-0.wav")
    ],
    "few_clips": give_clip_its_own_class,
    "one_fold": put_class_in_one_fold,
}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def subject(kind: str) -> str:
    return "class cow" if kind in ("few_clips", "one_fold") else FAULTY_CLIP


def with_fault(folder: IngestFolder, kind: str) -> str:
    """Return the folder as a source, with one fault."""
    FAULTS[kind](folder)
    return folder.write()


def test_every_kind_of_finding_is_tested_and_described() -> None:
    policy = settings(ROOT).policy.to_dict()
    assert set(FAULTS) == set(policy)
    assert set(DESCRIPTIONS) == {*policy, "table", "unlisted"}


class TestPolicy:
    @pytest.mark.parametrize("kind", FAULTS)
    def test_error_refuses_the_data_set_and_writes_the_report_only(
        self, kind: str, folder: IngestFolder, output: Path
    ) -> None:
        with pytest.raises(IngestError) as refusal:
            ingest(with_fault(folder, kind), settings(ROOT, **{kind: "error"}), output)
        assert f"\n  {subject(kind)}: {kind}: " in str(refusal.value)
        assert "data set clips is refused: 1 error (see ingest.policy)" in str(refusal.value)
        assert str(refused_report(output)) in str(refusal.value)
        assert names_in(output.parent) == [refused_report(output).name]
        assert subject(kind) in refused_report(output).read_text()

    @pytest.mark.parametrize("kind", FAULTS)
    def test_quarantine_continues_without_the_clip(self, kind: str, folder: IngestFolder, output: Path) -> None:
        summary = ingest(with_fault(folder, kind), settings(ROOT, **{kind: "quarantine"}), output)
        clips, findings = DatasetFolder(output).clips(), pd.read_csv(output / "findings.csv")
        removed = [OTHER, FAULTY_CLIP] if kind == "one_fold" else [FAULTY_CLIP]
        assert summary.clips == len(clips) == 8 - len(removed)
        assert FAULTY_CLIP not in set(clips["filename"])
        assert not (output / "audio" / FAULTY_CLIP).exists()
        assert list(DatasetFolder(output).record().quarantined) == removed
        assert findings[["clip", "finding", "action"]].to_numpy().tolist() == [[subject(kind), kind, "quarantine"]]
        assert subject(kind) in (output / "report.html").read_text()

    @pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind not in WITHOUT_SAMPLES])
    def test_warn_keeps_the_clip_and_reports_it(self, kind: str, folder: IngestFolder, output: Path) -> None:
        summary = ingest(with_fault(folder, kind), settings(ROOT, **{kind: "warn"}), output)
        assert (summary.clips, summary.quarantined, summary.warnings) == (8, 0, 1)
        assert FAULTY_CLIP in set(DatasetFolder(output).clips()["filename"])
        findings = pd.read_csv(output / "findings.csv")
        assert findings[["clip", "finding", "action"]].to_numpy().tolist() == [[subject(kind), kind, "warn"]]
        assert "passed with warnings" in (output / "report.html").read_text()

    @pytest.mark.parametrize(("channels", "reason"), [(1, "first 1 s of the clip"), (2, "first 1 s of the clip")])
    def test_silence_is_judged_on_what_the_network_is_given(
        self, channels: int, reason: str, folder: IngestFolder, output: Path
    ) -> None:
        late = np.concatenate([np.zeros(RATE), np.tile(noise(50), 4)])
        folder.sound(FAULTY_CLIP, np.stack([late] * channels, axis=1))
        with pytest.raises(IngestError, match=f"{FAULTY_CLIP}: silent: the {reason}, which the network is given, are"):
            ingest(folder.write(), settings(ROOT), output)

    @pytest.mark.parametrize("kind", sorted(WITHOUT_SAMPLES))
    def test_clip_without_samples_cannot_be_a_warning(self, kind: str) -> None:
        with pytest.raises(SettingsError, match=f"{kind}: should be 'error' or 'quarantine'"):
            settings(ROOT, **{kind: "warn"})


class TestRefusal:
    def break_all(self, folder: IngestFolder) -> None:
        """Add twelve broken clips and break a row."""
        for number in range(12):
            name = f"1-{number:02}-9.wav"
            folder.add(name, 1, 9, "crow")
            (folder.audio / name).write_bytes(b"" if number % 2 else b"not audio")
        folder.row("1-1-0.wav")["fold"] = "one"

    def test_error_lists_ten_findings_and_report_lists_all(self, folder: IngestFolder, output: Path, capsys) -> None:
        self.break_all(folder)
        with pytest.raises(IngestError) as refusal:
            ingest(folder.write(), settings(ROOT), output)
        message, page, log = str(refusal.value), refused_report(output).read_text(), capsys.readouterr().out
        assert "13 errors" in message
        assert message.count("\n  ") == 11
        assert "and 3 more" in message
        for name in ["meta/esc50.csv line 2", *(f"1-{number:02}-9.wav" for number in range(12))]:
            assert name in page
            assert f"refused: {name}" in log

    def test_report_of_refused_run_is_removed_by_the_next_run(self, folder: IngestFolder, output: Path) -> None:
        with pytest.raises(IngestError):
            ingest(with_fault(folder, "silent"), settings(ROOT), output)
        folder.sound(FAULTY_CLIP, noise(60))
        ingest(folder.write(), settings(ROOT), output)
        assert names_in(output.parent) == [output.name]

    def test_earlier_data_set_is_unchanged(self, folder: IngestFolder, output: Path) -> None:
        ingest(folder.write(), settings(ROOT), output)
        before = DatasetFolder(output).record()
        with pytest.raises(IngestError, match="is unchanged and contains the data set of an earlier run"):
            ingest(with_fault(folder, "silent"), settings(ROOT), output)
        assert DatasetFolder(output).record() == before

    @pytest.mark.parametrize("where", ["the source", "its audio", "a file"])
    def test_output_with_other_content_is_refused(self, where: str, folder: IngestFolder) -> None:
        source = folder.write()
        place = {"the source": folder.path, "its audio": folder.audio, "a file": folder.table}[where]
        with pytest.raises(OutputError, match=r"is or contains the input|has no dataset\.json"):
            ingest(source, settings(ROOT), place)
        assert len(names_in(folder.audio)) == 8
        assert folder.table.is_file()

    def test_data_set_without_remaining_clips_is_refused(self, folder: IngestFolder, output: Path) -> None:
        few = settings(ROOT, few_clips="quarantine").replace(min_clips_per_class=5)
        with pytest.raises(IngestError, match="no clips are left"):
            ingest(folder.write(), few, output)

    @pytest.mark.parametrize("moment", ["decode", "copy"])
    def test_interrupt_leaves_no_files(
        self, moment: str, folder: IngestFolder, output: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []

        def interrupt(*arguments: object) -> audio.Sound:
            calls.append(arguments)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return decode(*arguments)

        decode = audio.decode
        if moment == "decode":
            monkeypatch.setattr(audio, "decode", interrupt)
        else:
            decode = shutil.copyfile
            monkeypatch.setattr(shutil, "copyfile", interrupt)
        source = folder.write()
        with pytest.raises(KeyboardInterrupt):
            ingest(source, settings(ROOT), output)
        assert names_in(output.parent) == []


class TestOutput:
    def test_files_and_tables_have_the_documented_content(self, folder: IngestFolder, output: Path) -> None:
        folder.sound("1-1-0.wav", np.stack([noise(80), noise(81)], axis=1))
        summary = ingest(folder.write(), settings(ROOT), output)
        clips = pd.read_csv(output / "clips.csv")
        assert tuple(clips.columns) == CLIP_COLUMNS
        assert clips["filename"].is_monotonic_increasing
        assert clips.iloc[0].drop(["md5", "xxh3"]).tolist() == ["1-1-0.wav", 1, 0, "dog", 100, "A", RATE, 2, SAMPLES]
        assert {file.name for file in (output / "audio").iterdir()} == set(clips["filename"])
        for name, md5, xxh3 in zip(clips["filename"], clips["md5"], clips["xxh3"], strict=True):
            content = (output / "audio" / name).read_bytes()
            assert content == (folder.audio / name).read_bytes()
            assert hashlib.md5(content).hexdigest() == md5 and xxhash.xxh3_128_hexdigest(content) == xxh3
        assert read_json(output / "dataset.json") == {
            "digest": digest(DatasetFolder(output).clips()),
            "source": "clips",
            "origin": "clips",
            "clips": 8,
            "classes": 2,
            "quarantined": [],
            "settings": settings(ROOT).to_dict(),
        }
        assert (summary.clips, summary.classes, summary.seconds) == (8, 2, 8 * SAMPLES / RATE)

    def test_bytes_do_not_depend_on_the_order_of_the_table(self, folder: IngestFolder, tmp_path: Path) -> None:
        folder.sound("2-1-0.wav", np.clip(noise(90) * 40, -1, 1))
        first, second = tmp_path / "first", tmp_path / "second"
        ingest(folder.write(), settings(ROOT), first)
        folder.rows.reverse()
        ingest(folder.write(), settings(ROOT), second)
        files = sorted(file.relative_to(first) for file in first.rglob("*") if file.is_file())
        assert files == sorted(file.relative_to(second) for file in second.rglob("*") if file.is_file())
        assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)

    @pytest.mark.parametrize("change", [{"category": "howl"}, {"fold": 1}])
    def test_digest_depends_on_labels_and_folds(
        self, change: dict[str, object], folder: IngestFolder, tmp_path: Path
    ) -> None:
        before = ingest(folder.write(), settings(ROOT), tmp_path / "before").digest
        for name in ("1-1-42.wav", "1-2-42.wav", "2-1-42.wav", "2-2-42.wav"):
            folder.row(name).update(change)
        assert ingest(folder.write(), settings(ROOT), tmp_path / "after").digest != before

    def test_subset_esc10_has_esc10_classes_only(self, folder: IngestFolder, output: Path) -> None:
        for name in ("1-2-0.wav", "2-2-0.wav"):
            folder.row(name).update(category="cow", target=3)
        few = settings(ROOT).replace(subset="esc10", min_clips_per_class=1)
        ingest(folder.write(), few, output)
        assert class_names(DatasetFolder(output).clips()) == ("dog", "cow")
        assert pd.read_csv(output / "findings.csv").empty  # files outside the subset are not reported as unlisted

    @pytest.mark.parametrize("subset", ["all", "esc10"])
    def test_a_single_class_is_refused(self, subset: str, folder: IngestFolder, output: Path) -> None:
        if subset == "all":
            folder.rows = [row for row in folder.rows if row["category"] == "dog"]
        with pytest.raises(IngestError, match="dog is the only class that is left; a classifier needs at least two"):
            ingest(folder.write(), settings(ROOT).replace(subset=subset), output)

    def test_class_names_such_as_na_stay_names(self, folder: IngestFolder, output: Path) -> None:
        for row in folder.rows:
            row["category"] = "NA" if row["category"] == "dog" else "null"
        ingest(folder.write(), settings(ROOT), output)
        assert class_names(DatasetFolder(output).clips()) == ("NA", "null")
        assert "<td>NA</td>" in (output / "report.html").read_text()

    def test_demo_has_no_findings(self, dataset: Path) -> None:
        assert DatasetFolder(dataset).record().clips == 50
        assert pd.read_csv(dataset / "findings.csv").empty
