"""`audiocnn classify --local` with a champion of a real registry: files, folders, formats, broken files."""

import csv
import io
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from helpers.ffmpeg import convert, put_on_path
from helpers.project import ROOT
from helpers.responses import responding
from helpers.torchserve import CLASSES, encode, noise, probabilities, registered_models
from typer.testing import CliRunner

from audiocnn.classifier import Classifier
from mlops.tracking import champion
from pipeline.cli import app
from pipeline.cli.classify import classify_files
from pipeline.cli.classify_output import labels
from pipeline.recordings import open_classifier
from pipeline.settings import load

NAME = "sounds-to-classify"


@pytest.fixture(scope="module")
def model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    models = registered_models(tmp_path_factory.mktemp("models"), NAME, dataset)
    champion.move(NAME, 2, kind="approve", by="test")
    return models[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    recordings = tmp_path / "recordings"
    (recordings / "night" / ".cache").mkdir(parents=True)
    (recordings / "noise.wav").write_bytes(encode(noise(3.0)))
    (recordings / "night" / "long [1].FLAC").write_bytes(encode(np.tile(noise(6.0, seed=1), (3, 1)), kind="FLAC"))
    (recordings / "night" / "text.wav").write_text("not a sound")
    (recordings / "night" / ".cache" / "hidden.wav").write_bytes(encode(noise()))
    (recordings / "notes.txt").write_text("no sound")
    return recordings


def call(*arguments: str | Path) -> Result:
    given = ["classify", "--local", "--params", str(ROOT / "params.yaml"), "--set", f"register.name={NAME}"]
    return CliRunner().invoke(app, [*given, *map(str, arguments)], catch_exceptions=False)


def test_answer_to_a_clip_is_the_champions(model: Classifier, folder: Path) -> None:
    result = call("recordings/noise.wav", "--format", "json", "--top-k", "6")
    (answer,) = json.loads(result.stdout)
    assert result.exit_code == 0
    expected = probabilities(model, (folder / "noise.wav").read_bytes())
    assert {item["class"]: item["probability"] for item in answer["predictions"]} == expected  # bit for bit
    assert answer["model"]["version"] == 2 and answer["clip"] == {"seconds": 3.0, "rate": 44100, "channels": 1}


def test_a_broken_file_is_a_row_and_the_status_is_1(model: Classifier, folder: Path) -> None:
    result = call("recordings", "gone.wav")
    assert result.exit_code == 1
    header, long, broken, good, missing = result.stdout.splitlines()
    assert header.split() == ["file", "seconds", "class", "probability"]
    assert long.split()[:3] == ["recordings/night/long", "[1].FLAC", "18.0"]
    assert "the file cannot be decoded as audio" in broken and "No such file or directory" in missing
    assert good.split()[2] in CLASSES
    assert result.stderr == "2 of 4 files could not be classified\n"


def test_a_folder_that_cannot_be_read_is_a_row(model: Classifier, folder: Path) -> None:
    os.chdir("recordings")
    for _ in range(17):  # their path is longer than Linux allows; permissions would not stop root
        Path("d" * 255).mkdir()
        os.chdir("d" * 255)
    os.chdir(folder.parent)
    result = call("recordings", "--format", "json")
    unread, *others = json.loads(result.stdout)
    assert (result.exit_code, unread["error"], unread["reason"]) == (1, "File name too long", "unreadable")
    assert [Path(other["file"]).name for other in others] == ["long [1].FLAC", "text.wav", "noise.wav"]


def test_csv_has_a_row_for_each_class_and_each_broken_file(model: Classifier, folder: Path) -> None:
    result = call("recordings", "--format", "csv", "--top-k", "2", "--output", "result.csv")
    assert (result.exit_code, result.stdout) == (1, "")
    rows = list(csv.DictReader(io.StringIO(Path("result.csv").read_text())))
    assert [Path(row["file"]).name for row in rows] == ["long [1].FLAC"] * 2 + ["text.wav"] + ["noise.wav"] * 2
    assert (rows[0]["seconds"], rows[0]["analyzed_seconds"], rows[0]["silent_seconds"]) == ("18.0", "18.0", "0.0")
    assert float(rows[0]["probability"]) >= float(rows[1]["probability"]) and rows[2]["error"]


def test_events_have_times(model: Classifier, folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(call("recordings/night", "--events", "--format", "csv").stdout)))
    assert list(rows[0]) == ["file", "start", "end", "class", "confidence", "error"]
    assert float(rows[0]["start"]) == 0.0 and float(rows[0]["end"]) <= 18.0
    assert "cannot be decoded" in rows[-1]["error"]
    shown = call("recordings/night", "--events").stdout.splitlines()
    assert shown[0].split() == ["file", "from", "to", "class", "confidence"] and "0:00.0" in shown[1]


def test_label_tracks_are_files_that_audacity_reads(model: Classifier, folder: Path) -> None:
    refused = call("recordings", "--format", "audacity")
    assert refused.exit_code == 2 and "name a folder for their labels with --output" in refused.stderr
    assert call("recordings", "--format", "audacity", "--output", "labels").exit_code == 1
    assert sorted(file.name for file in Path("labels").iterdir()) == ["long [1].FLAC.txt", "noise.wav.txt"]
    start, end, label = Path("labels/noise.wav.txt").read_text().splitlines()[0].split("\t")
    assert (float(start), float(end)) == (0.0, 3.0) and label.split()[0] in CLASSES
    assert call("recordings/noise.wav", "--format", "audacity").stdout == Path("labels/noise.wav.txt").read_text()


def test_files_of_one_name_get_label_tracks_of_their_own(model: Classifier, folder: Path) -> None:
    (folder / "night" / "noise.wav").write_bytes(encode(noise(3.0, seed=2)))
    call("recordings", "--format", "audacity", "--output", "labels")
    assert {"noise.wav.txt", "noise.wav.2.txt"} <= {file.name for file in Path("labels").iterdir()}


def test_a_table_shows_names_literally_and_shortens_long_ones(model: Classifier, folder: Path) -> None:
    shown = call("recordings/night/long [1].FLAC").stdout.splitlines()
    assert shown[0] == "recordings/night/long [1].FLAC" and len(shown) == 6  # five classes
    deep = folder / ("d" * 60)
    deep.mkdir()
    (deep / "a.wav").write_bytes(encode(noise()))
    lines = call(deep, folder / "noise.wav").stdout.splitlines()
    assert lines[1].startswith("…ddd") and "d/a.wav " in lines[1]


def test_a_name_cannot_change_the_terminal_or_break_the_output(model: Classifier, folder: Path) -> None:
    for name in ("a\n\x1b[31m.wav", os.fsdecode(b"b\xff.wav")):
        (folder / name).write_bytes(encode(noise()))
    table = call("recordings").stdout
    assert "a\ufffd\ufffd[31m.wav" in table and "b\ufffd.wav" in table and "\x1b" not in table
    call("recordings", "--format", "json", "--output", "answers.json")
    names = [answer["file"] for answer in json.loads(Path("answers.json").read_text())]
    assert {"recordings/a\n\x1b[31m.wav", "recordings/b\ufffd.wav"} <= set(names)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_name_cannot_change_the_terminal_while_it_is_classified(
    model: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(ROOT / "params.yaml", {"register": {"name": NAME}})
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with open_classifier(settings, local=True) as classifier:
        classify_files(classifier, [Path("a\x1b]0;b.wav")], 1, events=False)
    assert "a\ufffd]0;b.wav" in terminal.getvalue() and "\x1b]" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "a path is empty"),
        (("recordings/noise.wav", ""), "a path is empty"),
        (("empty",), "empty: there are no sound files in the folder"),
        (("recordings/noise.wav", "--top-k", "7"), "--top-k: the model has 6 classes, found 7"),
        (("recordings/noise.wav", "--set", "register.name=unknown"), "no version has the alias champion"),
        (("recordings/noise.wav", "--output", "empty"), "--output empty: is a folder; name a file"),
        (("recordings", "--output", "/proc/none/a.csv"), "output /proc/none/a.csv cannot be created in /proc (No such"),
        (
            ("recordings", "--format", "audacity", "--output", "/proc"),
            "output /proc/NAME.txt cannot be created in /proc",
        ),
        (("recordings", "--output", "recordings/noise.wav"), "is one of the recordings; name another file"),
        (("recordings/noise.wav", "--url", "https://host"), "--url and --local exclude each other"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(
    arguments: tuple[str, ...], message: str, model: Classifier, folder: Path
) -> None:
    Path("empty").mkdir()
    result = call(*arguments)
    assert result.exit_code == 2 and message in result.stderr and result.stderr.count("error: ") == 1


@pytest.mark.parametrize("url", ["host:8000", "ftp://host", "https://user:secret@host", "https://host?key=secret"])
def test_an_address_with_more_than_host_and_path_is_refused(url: str, folder: Path) -> None:
    result = CliRunner().invoke(app, ["classify", "recordings", "--url", url])
    assert result.exit_code == 2 and "--url: should be an address such as https://host/path" in result.stderr
    assert "secret" not in result.stderr


def test_recordings_of_phones_need_ffmpeg_and_the_permission(
    model: Classifier, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = convert((folder / "noise.wav").read_bytes(), tmp_path / "phone.m4a", "-c:a", "alac")
    with tempfile.TemporaryDirectory() as programs:
        put_on_path(Path(programs), monkeypatch)
        (answer,) = json.loads(call("phone.m4a", "--format", "json", "--top-k", "6").stdout)
        expected = probabilities(model, (folder / "noise.wav").read_bytes())
        assert content and {item["class"]: item["probability"] for item in answer["predictions"]} == expected
        refused = call("phone.m4a", "--set", "decode.ffmpeg=false")
    assert refused.exit_code == 1 and "M4A is decoded by the program ffmpeg only" in refused.stdout


def test_labels_have_seconds_and_tabs() -> None:
    events = [{"start": 0.0, "end": 2.5, "class": "dog", "confidence": 0.934}]
    assert labels({"events": events}) == "0.000000\t2.500000\tdog 93%\n"


def test_another_program_at_the_address_is_named(folder: Path) -> None:
    with responding((200, {}, {"status": "fine"})) as other:
        arguments = ["classify", "--params", str(ROOT / "params.yaml"), "--url", other.url, "recordings/noise.wav"]
        result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {other.url}: this is not an answer of the gateway; check the address\n"
