"""meta/esc50.csv: whatever stands in it, the answer is sound rows and findings."""

from pathlib import Path

import pytest
from helpers.ingest import COLUMNS, IngestFolder, settings
from helpers.project import ROOT
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingest.findings import Findings
from components.ingest.step import IngestError, ingest
from components.ingest.table import Table, read_table

HEADER = ",".join(COLUMNS)
GOOD = "a.wav,1,0,dog,True,100,A"


def read(path: Path, text: str | bytes) -> tuple[Table, Findings]:
    findings = Findings(settings(ROOT).policy)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, findings), findings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "esc50.csv"


def test_reads_what_spreadsheets_and_pandas_write(file: Path) -> None:
    text = "\ufeff" + HEADER + ',note\r\n"b.wav",2,1,"cat, black",False,x-7,B,\r\n\r\n' + GOOD + ",fine\r\n"
    table, findings = read(file, text)
    assert not findings.sorted()
    assert table.rows.to_numpy().tolist() == [
        ["a.wav", 1, 0, "dog", True, "100", "A"],
        ["b.wav", 2, 1, "cat, black", False, "x-7", "B"],
    ]


def test_takes_a_table_without_the_columns_that_only_esc50_needs(file: Path) -> None:
    table, findings = read(file, "filename,fold,target,category,src_file\na.wav,1,0,dog,100\n")
    assert not findings.sorted()
    assert table.rows.to_numpy().tolist() == [["a.wav", 1, 0, "dog", False, "100", "A"]]


def test_keeps_a_recording_number_as_it_is_written(file: Path) -> None:
    table, _ = read(file, f"{HEADER}\na.wav,1,0,none,True,00123,1\n")
    assert table.rows.iloc[0].tolist()[3:] == ["none", True, "00123", "1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (
            b"filename;fold;target\n",
            "lacks the column filename, fold, target, category, src_file; it has 'filename;fold",
        ),
        (HEADER.replace("fold,", "").encode(), "lacks the column fold"),
        (f"{HEADER},fold\n".encode(), "has the column 'fold' more than once"),
        (f"{HEADER}\n{GOOD}\na.wav,1\n".encode(), "has 2 values in line 3 and 7 columns"),
        (f"{HEADER}\n{GOOD},8\n".encode(), "has 8 values in line 2"),
        (f'{HEADER}\n"a.wav,1'.encode(), "is no CSV"),
        (f"{HEADER}\n\xff\xfe".encode("latin-1"), "is no CSV in UTF-8"),
        (f"{HEADER}\n{'x' * 200_000}".encode(), "is no CSV"),
    ],
)
def test_says_what_is_wrong_with_a_table_that_has_no_rows_to_offer(file: Path, text: bytes, said: str) -> None:
    table, findings = read(file, text)
    assert table.rows.empty
    (finding,) = findings.sorted()
    assert (finding.clip, finding.finding, finding.action) == ("meta/esc50.csv", "table", "error")
    assert said in finding.detail


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("../a.wav,1,0,dog,True,100,A", "filename '../a.wav' is no plain file name"),
        ("/etc/passwd,1,0,dog,True,100,A", "is no plain file name"),
        ("..,1,0,dog,True,100,A", "is no plain file name"),
        ("sub/a.wav,1,0,dog,True,100,A", "is no plain file name"),
        ("sub\\a.wav,1,0,dog,True,100,A", "is no plain file name"),
        ("C:a.wav,1,0,dog,True,100,A", "is no plain file name"),
        ("a\0.wav,1,0,dog,True,100,A", "is no plain file name"),
        ('"a\nb.wav",1,0,dog,True,100,A', "is no plain file name"),
        (f"{'é' * 200}.wav,1,0,dog,True,100,A", "is no plain file name"),
        (",1,0,dog,True,100,A", "filename '' is no plain file name"),
        ("b.wav,one,0,dog,True,100,A", "fold 'one' is no whole number"),
        ("b.wav,1.5,0,dog,True,100,A", "fold '1.5' is no whole number"),
        ("b.wav,nan,0,dog,True,100,A", "fold 'nan' is no whole number"),
        ("b.wav,-1,0,dog,True,100,A", "fold '-1' is no whole number"),
        ("b.wav,1,,dog,True,100,A", "target '' is no whole number"),
        ("b.wav,1,٣,dog,True,100,A", "target '٣' is no whole number"),
        ("b.wav,1,99999999999999999999,dog,True,100,A", "is no whole number"),
        ("b.wav,1,0,,True,100,A", "category '' is no class name"),
        ("b.wav,1,0,nan,True,100,A", "category 'nan' is no class name"),
        ('b.wav,1,0,"a\tb",True,100,A', "is no class name"),
        ("b.wav,1,0, dog,True,100,A", "category ' dog' is no class name"),
        ("b.wav,1,0,dog,yes,100,A", "esc10 'yes' is neither True nor False"),
        ("b.wav,1,0,dog,True,,A", "src_file '' names no recording"),
        ("b.wav,1,0,dog,True,100,", "take '' names no take"),
    ],
)
def test_drops_a_broken_row_and_names_its_line_and_value(file: Path, row: str, said: str) -> None:
    table, findings = read(file, f"{HEADER}\n{GOOD}\n{row}\n")
    assert table.rows["filename"].tolist() == ["a.wav"]
    (finding,) = findings.of("error")
    assert finding.finding == "table"
    assert finding.clip.startswith("meta/esc50.csv line ")
    assert said in finding.detail


@pytest.mark.parametrize(
    ("row", "subject", "said"),
    [
        ("b.wav,1,0,wolf,True,101,A", "target 0", "more than one category: dog, wolf"),
        ("b.wav,1,5,dog,True,101,A", "category dog", "more than one target: 0, 5"),
    ],
)
def test_refuses_labels_that_are_not_one_to_one(file: Path, row: str, subject: str, said: str) -> None:
    _, findings = read(file, f"{HEADER}\n{GOOD}\n{row}\n")
    assert [(finding.clip, finding.action) for finding in findings.sorted()] == [(subject, "error")]
    assert said in findings.sorted()[0].detail


@pytest.mark.parametrize(
    ("row", "said"), [(GOOD, "with the same values"), (GOOD.replace(",1,", ",2,"), "differs in fold")]
)
def test_says_whether_a_clips_rows_agree(file: Path, row: str, said: str) -> None:
    table, findings = read(file, f"{HEADER}\n{GOOD}\n{row}\n")
    (finding,) = findings.sorted()
    assert finding.finding == "listed_twice"
    assert "stands in lines 2 and 3" in finding.detail
    assert said in finding.detail
    assert table.rows["fold"].tolist() == [1]


@pytest.mark.parametrize(
    "text",
    ["", HEADER, f"{HEADER}\n../x.wav,1,0,dog,True,100,A\n", "a;b\n1;2\n"],
    ids=["empty", "header", "unsafe", "other"],
)
def test_the_step_refuses_with_a_report_where_no_row_is_sound(text: str, tmp_path: Path) -> None:
    folder = IngestFolder(tmp_path / "clips")
    folder.table.write_text(text)
    with pytest.raises(IngestError, match="table: "):
        ingest(str(folder.path), settings(ROOT), tmp_path / "dataset")
    assert "refused" in (tmp_path / "dataset.report.html").read_text()


CELLS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["a.wav", "b.wav", "../x", "1", "2", "0", "nan", "", "dog", "True", "False", '"', ",", "\n", "A"]),
)


@hypothesis_settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
def test_garbage_gives_sound_rows_or_findings_and_nothing_else(text: bytes, file: Path) -> None:
    table, findings = read(file, text)
    rows = table.rows
    assert list(rows.columns) == list(COLUMNS)
    assert rows["filename"].is_unique
    assert all(Path(name).name == name and name not in ("", ".", "..") for name in rows["filename"])
    assert all(isinstance(fold, int) and fold >= 0 for fold in rows["fold"].tolist())
    assert rows["category"].map(bool).all()
    if not findings.of("error"):
        assert (
            len(rows[["target", "category"]].drop_duplicates())
            == rows["target"].nunique()
            == rows["category"].nunique()
        )
