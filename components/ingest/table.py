"""Read and validate the clip table, meta/esc50.csv. Any content gives valid rows and findings, never an exception."""

import csv
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from components.ingest.findings import Findings
from components.ingest.sources.layout import TABLE, is_clip_name, is_text, nfc

DEFAULTS = {"esc10": "False", "take": "A"}  # of optional columns


SCHEMA = pa.DataFrameSchema(
    {
        "filename": pa.Column(str, pa.Check(is_clip_name, element_wise=True, error="is not a plain file name")),
        "fold": pa.Column(str, pa.Check.str_matches(r"\A[0-9]{1,9}\Z", error="is not a whole number")),
        "target": pa.Column(str, pa.Check.str_matches(r"\A[0-9]{1,9}\Z", error="is not a whole number")),
        "category": pa.Column(str, pa.Check(is_text, element_wise=True, error="is not a class name")),
        "esc10": pa.Column(str, pa.Check.isin(["True", "False"], error="is not True or False")),
        "src_file": pa.Column(str, pa.Check(is_text, element_wise=True, error="is not a recording name")),
        "take": pa.Column(str, pa.Check(is_text, element_wise=True, error="is not a take name")),
    }
)


class _Unreadable(Exception):
    """The file is not a table. The message is the detail of a finding."""


@dataclass(frozen=True)
class Table:
    """The clip table.

    Attributes:
        rows: valid rows with unique file names, sorted by them. Columns of SCHEMA; fold and target are int, esc10 is
            bool.
        listed: all file names in the table, also those of invalid rows.
    """

    rows: pd.DataFrame
    listed: frozenset[str]


def read_table(path: Path, findings: Findings) -> Table:
    """Return the valid rows; add the problems of the others to `findings`."""
    try:
        text = _read_text(path)
    except _Unreadable as error:
        findings.add("table", TABLE.as_posix(), str(error))
        text = pd.DataFrame(columns=list(SCHEMA.columns), dtype=str)
    rows = _valid_rows(text, findings).astype({"fold": int, "target": int})
    rows["esc10"] = rows["esc10"] == "True"
    _check_labels(rows, findings)
    return Table(_unique_rows(rows, findings).sort_values("filename"), frozenset(text["filename"]))


def _read_text(path: Path) -> pd.DataFrame:
    """Return all cells as text, indexed by line number, with defaults for missing optional columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _Unreadable(f"is not a valid CSV file in UTF-8 ({error})") from error
    if not lines:
        raise _Unreadable("is empty")
    (_, header), *body = lines
    missing = [name for name in SCHEMA.columns if name not in header and name not in DEFAULTS]
    if missing:
        raise _Unreadable(f"column {', '.join(missing)} is missing; found {', '.join(map(repr, header))[:200]}")
    if duplicated := {name for name in header if header.count(name) > 1}:
        raise _Unreadable(f"column {min(duplicated)!r} is duplicated")
    for number, cells in body:
        if len(cells) != len(header):
            raise _Unreadable(f"line {number} has {len(cells)} values for {len(header)} columns")
    rows = pd.DataFrame([cells for _, cells in body], [number for number, _ in body], header, dtype=str)
    rows = rows.assign(filename=rows["filename"].map(nfc))
    return rows.assign(**{name: value for name, value in DEFAULTS.items() if name not in header})[list(SCHEMA.columns)]


def _valid_rows(rows: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """Return the rows that match the schema."""
    try:
        SCHEMA.validate(rows, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
        for case in cases.itertuples():
            detail = f"{case.column} {str(case.failure_case)[:100]!r} {case.check}"
            findings.add("table", f"{TABLE.as_posix()} line {case.index}", detail)
        return rows.drop(index=cases["index"].unique())
    return rows


def _check_labels(rows: pd.DataFrame, findings: Findings) -> None:
    """Check that target numbers and category names correspond one to one."""
    for key, other in (("target", "category"), ("category", "target")):
        labels = rows.groupby(key)[other].unique()
        for value, found in labels[labels.map(len) > 1].items():
            findings.add("table", f"{key} {value}", f"has more than one {other}: {', '.join(sorted(map(str, found)))}")


def _unique_rows(rows: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """Return the first row of each file. Quarantined files with several rows are left out."""
    for name, group in rows[rows["filename"].duplicated(keep=False)].groupby("filename"):
        differ = [column for column in group if group[column].nunique() > 1]
        difference = f"different {', '.join(differ)}" if differ else "the same values"
        lines = ", ".join(map(str, group.index))
        findings.add("listed_twice", str(name), f"lines {lines} have {difference}", [str(name)])
    rows = rows.drop_duplicates("filename")
    return rows[~rows["filename"].isin(findings.quarantined)]
