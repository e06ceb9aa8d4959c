"""Reading and validating meta/esc50.csv."""

from pathlib import Path

import pandas as pd
import pytest
from helpers.ingest import COLUMNS, IngestFolder, ingest, settings
from helpers.project import ROOT
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingest.findings import Findings
from components.ingest.step import IngestError
from components.ingest.table import read_table

HEADER = ",".join(COLUMNS)
ROW = "a.wav,1,0,dog,True,100,A"


def read(path: Path, text: str | bytes, subset: str = "all") -> tuple[pd.DataFrame, Findings]:
    """Return the valid rows of a table, and the findings."""
    findings = Findings(settings(ROOT).policy)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, subset, findings)[0], findings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "esc50.csv"


def test_tables_of_spreadsheets_and_pandas_are_read(file: Path) -> None:
    text = "\ufeff" + HEADER + ',note\r\n"b.wav",2,1,"cat, black",False,x-7,B,\r\n\r\n' + ROW + ",fine\r\n"
    rows, findings = read(file, text)
    assert not findings.sorted()
    assert rows.to_numpy().tolist() == [
        ["a.wav", 1, 0, "dog", "100", "A"],
        ["b.wav", 2, 1, "cat, black", "x-7", "B"],
    ]


def test_optional_columns_have_defaults(file: Path) -> None:
    rows, findings = read(file, "filename,fold,target,category,src_file\na.wav,1,0,dog,100\n")
    assert not findings.sorted()
    assert rows.to_numpy().tolist() == [["a.wav", 1, 0, "dog", "100", "A"]]


def test_recording_number_keeps_leading_zeros(file: Path) -> None:
    rows, _ = read(file, f"{HEADER}\na.wav,1,0,none,True,00123,1\n")
    assert rows.iloc[0].tolist()[3:] == ["none", "00123", "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"filename;fold;target\n", "is separated by ';' instead of commas; save it as 'CSV UTF-8 (comma delimited)'"),
        (b"filename,target\n", "column fold, category, src_file is missing; found 'filename', 'target'"),
        (HEADER.replace("fold,", "").encode(), "column fold is missing"),
        (f"{HEADER},fold\n".encode(), "column 'fold' is duplicated"),
        (f"{HEADER}\n{ROW}\na.wav,1\n".encode(), "line 3 has 2 values for 7 columns"),
        (f"{HEADER}\n{ROW},8\n".encode(), "line 2 has 8 values"),
        (f'{HEADER}\n"a.wav,1'.encode(), "is not valid CSV"),
        (f"{HEADER}\n\xff\xfe".encode("latin-1"), "is not text in UTF-8; save it as"),
        (f"{HEADER}\n{'x' * 200_000}".encode(), "is not valid CSV"),
        (HEADER.encode("utf-16"), "is not text in UTF-8; save it as"),
        (HEADER.encode("utf-16-le"), "is not text in UTF-8; save it as"),
        (b"PK\x03\x04" + bytes(300), "is not text in UTF-8; save it as"),
    ],
)
def test_unreadable_table_has_a_finding_with_the_reason(file: Path, text: bytes, message: str) -> None:
    rows, findings = read(file, text)
    assert rows.empty
    (finding,) = findings.sorted()
    assert (finding.clip, finding.finding, finding.action) == ("meta/esc50.csv", "table", "error")
    assert message in finding.detail


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("../a.wav,1,0,dog,True,100,A", "filename '../a.wav' is not a plain file name"),
        ("/etc/passwd,1,0,dog,True,100,A", "is not a plain file name"),
        ("..,1,0,dog,True,100,A", "is not a plain file name"),
        (".a.wav,1,0,dog,True,100,A", "is not a plain file name"),
        ("sub/a.wav,1,0,dog,True,100,A", "is not a plain file name"),
        ("sub\\a.wav,1,0,dog,True,100,A", "is not a plain file name"),
        ("C:a.wav,1,0,dog,True,100,A", "is not a plain file name"),
        ("a\0.wav,1,0,dog,True,100,A", "is not a plain file name"),
        ('"a\nb.wav",1,0,dog,True,100,A', "is not a plain file name"),
        (f"{'é' * 200}.wav,1,0,dog,True,100,A", "is not a plain file name"),
        (",1,0,dog,True,100,A", "filename '' is not a plain file name"),
        ("b.wav,one,0,dog,True,100,A", "fold 'one' must be 0 or more, a whole number"),
        ("b.wav,1.5,0,dog,True,100,A", "fold '1.5' must be 0 or more, a whole number"),
        ("b.wav,nan,0,dog,True,100,A", "fold 'nan' must be 0 or more"),
        ("b.wav,-1,0,dog,True,100,A", "fold '-1' must be 0 or more"),
        ("b.wav,1,,dog,True,100,A", "target '' must be 0 or more"),
        ("b.wav,1,٣,dog,True,100,A", "target '٣' must be 0 or more"),
        ("b.wav,1,99999999999999999999,dog,True,100,A", "a whole number of up to nine digits"),
        ("b.wav,1,-1,dog,True,100,A", "target '-1' must be 0 or more"),
        ("b.wav,1,0,,True,100,A", "category '' is not a class name"),
        ('b.wav,1,0,"a\tb",True,100,A', "is not a class name"),
        ("b.wav,1,0, dog,True,100,A", "category ' dog' is not a class name"),
        ("b.wav,1,0,dog,True,,A", "src_file '' is not a recording name"),
        ("b.wav,1,0,dog,True,100,", "take '' is not a take name"),
    ],
)
def test_invalid_row_is_dropped_with_its_line_and_value(file: Path, row: str, message: str) -> None:
    rows, findings = read(file, f"{HEADER}\n{ROW}\n{row}\n")
    assert rows["filename"].tolist() == ["a.wav"]
    (finding,) = findings.with_action("error")
    assert finding.finding == "table"
    assert finding.clip.startswith("meta/esc50.csv line ")
    assert message in finding.detail


@pytest.mark.parametrize("name", ["NA", "null", "None", "nan", "N/A", "True", "1"])
def test_class_names_that_pandas_could_convert_are_kept(file: Path, name: str) -> None:
    rows, findings = read(file, f"{HEADER}\na.wav,1,0,{name},True,100,A\n")
    assert not findings.sorted()
    assert rows["category"].tolist() == [name]


@pytest.mark.parametrize(("yes", "no"), [("True", "False"), ("TRUE", "FALSE"), ("true", "false"), ("1", "0")])
def test_esc10_is_read_as_spreadsheets_write_it(file: Path, yes: str, no: str) -> None:
    rows, findings = read(file, f"{HEADER}\na.wav,1,0,dog,{yes},100,A\nb.wav,1,1,cat,{no},101,A\n", "esc10")
    assert not findings.sorted()
    assert rows["filename"].tolist() == ["a.wav"]


def test_invalid_or_missing_esc10_matters_only_where_it_is_used(file: Path) -> None:
    text = f"{HEADER}\n{ROW.replace('True', 'yes')}\n"
    assert not read(file, text)[1].sorted()
    (finding,) = read(file, text, "esc10")[1].sorted()
    assert "esc10 'yes' is not TRUE or FALSE" in finding.detail
    (finding,) = read(file, text.replace("esc10", "other"), "esc10")[1].sorted()
    assert "column esc10 is missing" in finding.detail


@pytest.mark.parametrize(
    ("row", "subject", "message"),
    [
        ("b.wav,1,0,wolf,True,101,A", "target 0", "has more than one category: dog, wolf"),
        ("b.wav,1,5,dog,True,101,A", "category dog", "has more than one target: 0, 5"),
    ],
)
def test_labels_must_correspond_one_to_one(file: Path, row: str, subject: str, message: str) -> None:
    _, findings = read(file, f"{HEADER}\n{ROW}\n{row}\n")
    assert [(finding.clip, finding.action) for finding in findings.sorted()] == [(subject, "error")]
    assert message in findings.sorted()[0].detail


@pytest.mark.parametrize(
    ("row", "message"),
    [(ROW, "lines 2, 3 have the same values"), (ROW.replace(",1,", ",2,"), "lines 2, 3 have different fold")],
)
def test_rows_of_one_clip_are_compared(file: Path, row: str, message: str) -> None:
    rows, findings = read(file, f"{HEADER}\n{ROW}\n{row}\n")
    (finding,) = findings.sorted()
    assert finding.finding == "listed_twice"
    assert message in finding.detail
    assert rows["fold"].tolist() == [1]


@pytest.mark.parametrize(
    "text",
    ["", HEADER, f"{HEADER}\n../x.wav,1,0,dog,True,100,A\n", "a;b\n1;2\n"],
    ids=["empty", "header", "unsafe", "other"],
)
def test_step_refuses_a_table_without_valid_rows(text: str, tmp_path: Path) -> None:
    folder = IngestFolder(tmp_path / "clips")
    folder.table.write_text(text)
    with pytest.raises(IngestError, match="table: "):
        ingest(str(folder.path), settings(ROOT), tmp_path / "dataset")
    assert "refused" in (tmp_path / "dataset.report.html").read_text()


CELLS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["a.wav", "b.wav", "../x", "1", "2", "0", "nan", "", "dog", "True", "False", '"', ",", "\n", "A"]),
)


@hypothesis_settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(
        st.binary(max_size=300),
        st.lists(st.lists(CELLS, min_size=7, max_size=7).map(",".join), max_size=6).map(
            lambda rows: "\n".join([HEADER, *rows]).encode("utf-8", "surrogatepass")
        ),
    )
)
@example(text=HEADER.encode())
@example(text=b"\0")
def test_any_bytes_give_valid_rows_or_findings(text: bytes, file: Path) -> None:
    rows, findings = read(file, text)
    rows = rows
    assert list(rows.columns) == [column for column in COLUMNS if column != "esc10"]
    assert rows["filename"].is_unique
    assert all(Path(name).name == name and name not in ("", ".", "..") for name in rows["filename"])
    assert all(isinstance(fold, int) and fold >= 0 for fold in rows["fold"].tolist())
    assert rows["category"].map(bool).all()
    if not findings.with_action("error"):
        assert (
            len(rows[["target", "category"]].drop_duplicates())
            == rows["target"].nunique()
            == rows["category"].nunique()
        )
