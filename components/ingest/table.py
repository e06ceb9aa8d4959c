"""Read and validate the clip table, meta/esc50.csv. Any content gives valid rows and findings, never an exception."""

import csv
import io
import re
from pathlib import Path

import pandas as pd

from components.ingest.findings import Findings
from components.ingest.sources.layout import TABLE, is_clip_name, is_text, nfc

TRUE, FALSE = ("true", "1"), ("false", "0")  # spreadsheets write TRUE
_NUMBER = (re.compile(r"[0-9]{1,9}").fullmatch, "must be 0 or more, a whole number of up to nine digits")
COLUMNS = {  # a test of the text, and what to say if it fails
    "filename": (is_clip_name, "is not a plain file name"),
    "fold": _NUMBER,
    "target": _NUMBER,
    "category": (is_text, "is not a class name"),
    "src_file": (is_text, "is not a recording name"),
    "take": (is_text, "is not a take name"),
}
ESC10 = (lambda text: text.lower() in TRUE + FALSE, "is not TRUE or FALSE")  # used for the subset only
REMEDY = "save it as 'CSV UTF-8 (comma delimited)'"


class _Unreadable(Exception):
    """The file is not a table. The message is the detail of a finding."""


def read_table(path: Path, subset: str, findings: Findings) -> tuple[pd.DataFrame, set[str]]:
    """Read the table; add the problems of invalid rows to `findings`.

    Returns:
        the valid rows of the subset with unique file names, sorted by them, columns COLUMNS; and all file names in the
        table.
    """
    columns = COLUMNS | ({"esc10": ESC10} if subset == "esc10" else {})
    try:
        rows = _read_rows(path, list(columns))
    except _Unreadable as error:
        findings.add("table", TABLE.as_posix(), str(error))
        return pd.DataFrame(columns=list(COLUMNS)), set()
    listed = set(rows["filename"])
    for column, (is_valid, problem) in columns.items():
        valid = rows[column].map(is_valid).astype(bool)
        for line, value in rows.loc[~valid, column].items():
            findings.add("table", f"{TABLE.as_posix()} line {line}", f"{column} {value[:100]!r} {problem}")
        rows[column] = rows[column].where(valid)
    rows = rows.dropna()
    if subset == "esc10":
        rows = rows[rows["esc10"].str.lower().isin(TRUE)]
    rows = rows[list(COLUMNS)].astype({"fold": int, "target": int})
    _check_labels(rows, findings)
    _check_unique(rows, findings)
    return findings.remaining(rows.drop_duplicates("filename")).sort_values("filename"), listed


def _read_rows(path: Path, columns: list[str]) -> pd.DataFrame:
    """Return the columns as text, indexed by line number. `take` is optional."""
    (_, header), *body = _read_lines(path)
    if len(header) == 1 and (separator := re.search(r"[;\t]", header[0])):
        raise _Unreadable(f"is separated by {separator[0]!r} instead of commas; {REMEDY}")
    if missing := [name for name in columns if name not in header and name != "take"]:
        raise _Unreadable(f"column {', '.join(missing)} is missing; found {', '.join(map(repr, header))[:200]}")
    if duplicated := {name for name in header if header.count(name) > 1}:
        raise _Unreadable(f"column {min(duplicated)!r} is duplicated; remove one")
    for number, cells in body:
        if len(cells) != len(header):
            raise _Unreadable(f"line {number} has {len(cells)} values for {len(header)} columns")
    rows = pd.DataFrame([cells for _, cells in body], [number for number, _ in body], header, dtype=object)
    return rows.assign(filename=rows["filename"].map(nfc), take=rows.get("take", "A"))[columns]


def _read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return the number and the cells of every line that is not empty."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise _Unreadable(f"cannot be read: {error.strerror}") from error
    if "\0" in text.partition("\n")[0]:  # as in UTF-16
        raise _Unreadable(f"is not text in UTF-8; {REMEDY}")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise _Unreadable(f"is not valid CSV ({error} in line {reader.line_num}); check the quotes there") from error
    if not lines:
        raise _Unreadable("is empty; list the clips in it, one per line")
    return lines


def _check_labels(rows: pd.DataFrame, findings: Findings) -> None:
    """Check that target numbers and category names correspond one to one."""
    for key, other in (("target", "category"), ("category", "target")):
        labels = rows.groupby(key)[other].unique()
        for value, found in labels[labels.map(len) > 1].items():
            findings.add("table", f"{key} {value}", f"has more than one {other}: {', '.join(sorted(map(str, found)))}")


def _check_unique(rows: pd.DataFrame, findings: Findings) -> None:
    for name, group in rows[rows["filename"].duplicated(keep=False)].groupby("filename"):
        differ = [column for column in group if group[column].nunique() > 1]
        difference = f"different {', '.join(differ)}" if differ else "the same values"
        lines = ", ".join(map(str, group.index))
        findings.add("listed_twice", str(name), f"lines {lines} have {difference}", [str(name)])
