"""The HTML report: its content, its limits, and escaping of untrusted text."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.ingest import FRONT_END, SAMPLES, IngestFolder, ingest, noise, settings
from helpers.project import ROOT

from components.ingest import report
from components.ingest.step import IngestError, refused_report

CHARTS = 3  # length, peak level and loudness


class Tags(HTMLParser):
    """Collects the tags, the text and the URLs of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += f" {data.strip()}"


def page_of(folder: IngestFolder, output: Path, **policy: str) -> Tags:
    ingest(folder.write(), settings(ROOT, **policy), output)
    return Tags((output / "report.html").read_text())


def test_page_has_result_digest_and_counts(folder: IngestFolder, tmp_path: Path) -> None:
    folder.add("1-3-42.wav", 1, 42, "siren")
    page = page_of(folder, tmp_path / "dataset")
    assert "clips passed All clips passed all checks." in re.sub(r"\s+", " ", page.words)
    assert re.search(r"Digest\s+[0-9a-f]{64}", page.words)
    assert re.search(r"dog\s+2\s+2\s+4\s", page.words)
    assert re.search(r"siren\s+3\s+2\s+5\s", page.words)
    assert "8,000 Hz" in page.words
    assert "Length in s: median 0.25, from 0.25 to 0.25" in page.words


def test_class_without_clips_in_a_fold_has_a_zero(folder: IngestFolder, tmp_path: Path) -> None:
    folder.rows = [row for row in folder.rows if not (row["fold"] == 2 and row["category"] == "siren")]
    page = page_of(folder, tmp_path / "dataset")
    assert re.search(r"siren\s+2\s+0\s+2\s", page.words)


def test_page_is_self_contained(folder: IngestFolder, tmp_path: Path) -> None:
    folder.sound("1-1-0.wav", np.clip(noise(50) * 40, -1, 1))
    page = page_of(folder, tmp_path / "dataset")
    assert page.names.count("img") == 1 + CHARTS
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.names)


def test_untrusted_text_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)<"
    folder = IngestFolder(tmp_path / "<img src=x onerror=alert(1)>")
    for row in folder.rows:
        row["category"] = f"{row['category']}{evil}"
    folder.rows[0]["fold"] = "<svg onload=alert(1)>"
    name = "'\"><script>.wav"
    folder.add(name, 1, 42, f"siren{evil}")
    folder.sound(name, np.zeros(SAMPLES))
    with pytest.raises(IngestError):
        ingest(folder.write(), settings(ROOT), tmp_path / "dataset")
    page = Tags(refused_report(tmp_path / "dataset").read_text())
    assert "script" not in page.names
    assert page.names.count("img") == 1 + CHARTS
    assert page.addresses[0].startswith("data:image/png;base64,")
    assert name in page.words
    assert evil in page.words


def test_number_of_thumbnails_of_each_kind_is_limited(folder: IngestFolder, tmp_path: Path) -> None:
    for number in range(9):
        folder.add(f"1-{number + 10}-0.wav", 1, 0, "dog")
        folder.sound(f"1-{number + 10}-0.wav", np.clip(noise(100 + number) * 40, -1, 1))
    folder.sound("2-1-42.wav", noise(2))  # the samples of 1-1-42.wav
    page = page_of(folder, tmp_path / "dataset")
    assert page.names.count("img") == report.MAX_THUMBNAILS + 1 + CHARTS
    assert "has the same samples as" in page.words
    findings = pd.read_csv(tmp_path / "dataset" / "findings.csv")
    assert len(findings) == 10
    assert all(name in page.words for name in findings["clip"])


def test_leaks_come_before_clipping(folder: IngestFolder, tmp_path: Path) -> None:
    folder.sound("1-1-0.wav", np.clip(noise(50) * 40, -1, 1))
    folder.row("2-1-42.wav")["src_file"] = folder.row("1-1-42.wav")["src_file"]
    page = page_of(folder, tmp_path / "dataset")
    assert -1 < page.words.index("Source in two folds") < page.words.index("Clipped")


@pytest.mark.parametrize("clip", [True, False])
def test_quarantine_is_suggested_only_for_configurable_findings(
    clip: bool, folder: IngestFolder, tmp_path: Path
) -> None:
    if clip:
        folder.sound("1-1-0.wav", np.zeros(SAMPLES))
    folder.row("2-1-42.wav")["fold"] = "one"
    with pytest.raises(IngestError):
        ingest(folder.write(), settings(ROOT), tmp_path / "dataset")
    page = re.sub(r"\s+", " ", Tags(refused_report(tmp_path / "dataset").read_text()).words)
    assert ("params.yaml for: silent." in page) == clip
    assert ("ingest.policy" in page) == clip


def test_named_pipe_is_reported_as_missing(folder: IngestFolder, tmp_path: Path) -> None:
    (folder.audio / "1-1-0.wav").unlink()
    os.mkfifo(folder.audio / "1-1-0.wav")
    folder.rows.append(dict(folder.row("1-1-0.wav")))  # a finding with a thumbnail
    with pytest.raises(IngestError, match=r"1-1-0\.wav: missing: the file is not in audio/"):
        ingest(folder.write(), settings(ROOT), tmp_path / "dataset")


def test_thumbnail_of_silence_is_dark(tmp_path: Path) -> None:
    from base64 import b64decode
    from io import BytesIO

    from matplotlib.image import imread

    from audiocnn.features import LogMel

    folder = IngestFolder(tmp_path / "clips")
    folder.sound("1-1-0.wav", np.zeros(SAMPLES))
    folder.sound("1-2-0.wav", np.tile(noise(9), 20))
    front_end = LogMel(FRONT_END)
    silence, sound = (
        imread(BytesIO(b64decode(report._thumbnail(folder.audio / name, front_end).partition(",")[2])))[..., :3].mean()
        for name in ("1-1-0.wav", "1-2-0.wav")
    )
    assert silence < 0.02
    assert sound > 0.3
