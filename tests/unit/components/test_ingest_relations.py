"""Checks of clips against each other, unlisted files, and spellings of file names."""

import os
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
from helpers.ingest import FAULTY_CLIP, SAMPLES, IngestFolder, ingest, noise, settings
from helpers.project import ROOT

from components.ingest.step import IngestError
from mlops.artifacts import DatasetFolder


class TestRelations:
    def test_duplicates_with_different_labels_are_all_quarantined(self, folder: IngestFolder, output: Path) -> None:
        folder.sound("1-1-0.wav", noise(77))
        folder.sound("2-1-42.wav", noise(77))
        ingest(folder.write(), settings(ROOT, duplicate_audio="quarantine", few_clips="warn"), output)
        assert list(DatasetFolder(output).record().quarantined) == ["1-1-0.wav", "2-1-42.wav"]

    def test_duplicates_in_different_formats_are_found(self, folder: IngestFolder, output: Path) -> None:
        folder.add("1-3-42.flac", 1, 42, "siren")
        for name in (FAULTY_CLIP, "1-3-42.flac"):
            folder.sound(name, (noise(3) * 32_767).astype(np.int16))
        ingest(folder.write(), settings(ROOT), output)
        findings = pd.read_csv(output / "findings.csv")
        assert findings["finding"].tolist() == ["duplicate_audio"]
        assert "1-2-42.wav" in findings["detail"][0]

    def test_silent_clips_are_not_reported_as_duplicates(self, folder: IngestFolder, output: Path) -> None:
        for name in ("1-1-0.wav", "2-1-42.wav"):
            folder.sound(name, np.zeros(SAMPLES))
        ingest(folder.write(), settings(ROOT, silent="warn"), output)
        assert pd.read_csv(output / "findings.csv")["finding"].tolist() == ["silent", "silent"]

    def test_quarantined_clips_are_not_reported_as_duplicates(self, folder: IngestFolder, output: Path) -> None:
        for name in ("1-1-0.wav", "2-1-42.wav"):
            folder.sound(name, np.clip(noise(50) * 40, -1, 1))
        ingest(folder.write(), settings(ROOT, clipped="quarantine"), output)
        assert pd.read_csv(output / "findings.csv")["finding"].tolist() == ["clipped", "clipped"]

    def test_quarantined_clips_do_not_count_for_their_class(self, folder: IngestFolder, output: Path) -> None:
        for name in ("1-1-0.wav", "1-2-0.wav", "2-1-0.wav"):
            (folder.audio / name).unlink()
        with pytest.raises(IngestError, match=r"class dog: few_clips: 1 clips; at least 2 are required"):
            ingest(folder.write(), settings(ROOT, missing="quarantine"), output)

    def test_unlisted_files_are_counted(
        self, folder: IngestFolder, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder.sound("stray.wav", noise(70))
        (folder.audio / ".DS_Store").write_bytes(b"x")
        assert ingest(folder.write(), settings(ROOT), output).warnings == 1
        assert "unlisted: 1 kept with a warning" in capsys.readouterr().out
        assert "1 of 9 files, for example stray.wav" in (output / "findings.csv").read_text()
        assert not (output / "audio" / "stray.wav").exists()

    @pytest.mark.parametrize(("table", "disk"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
    def test_names_in_nfc_and_nfd_are_equal(self, table: str, disk: str, folder: IngestFolder, output: Path) -> None:
        name = "ünï codé.wav"
        (folder.audio / "1-1-0.wav").rename(folder.audio / normalize(disk, name))
        folder.row("1-1-0.wav")["filename"] = normalize(table, name)
        assert ingest(folder.write(), settings(ROOT), output).warnings == 0
        assert normalize("NFC", name) in set(DatasetFolder(output).clips()["filename"])
        assert (output / "audio" / normalize("NFC", name)).is_file()

    def test_file_with_undecodable_name_is_reported(
        self, folder: IngestFolder, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder.audio / os.fsdecode(b"bad\xff\xfename.wav")).write_bytes(b"x")
        assert ingest(folder.write(), settings(ROOT), output).warnings == 1
        assert "1 of 9 files, for example bad\\udcff\\udcfename.wav" in (output / "findings.csv").read_text()
        folder.sound(FAULTY_CLIP, np.zeros(SAMPLES))
        with pytest.raises(IngestError):  # the report and the log can be written
            ingest(folder.write(), settings(ROOT), output)

    def test_folder_with_undecodable_name_is_accepted(self, folder: IngestFolder, output: Path) -> None:
        folder.write()
        odd = folder.path.rename(folder.path.with_name(os.fsdecode(b"set\xff")))
        ingest(str(odd), settings(ROOT), output)
        assert DatasetFolder(output).record().source == "set\\udcff"
