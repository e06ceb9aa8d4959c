"""meta/esc50.csv -> rows that can be trusted. Whatever stands in the file, the answer is rows and findings."""

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from components.ingest.findings import Findings
from components.ingest.sources.kind import LONGEST_NAME, TABLE, normal

LEFT_OUT = {"esc10": "False", "take": "A"}  # what holds where the table lacks the column


def _is_text(value: str) -> bool:
    """One printable line without spaces around it; a missing value that pandas wrote reads "nan"."""
    return bool(value) and value == value.strip() and value.isprintable() and value.lower() != "nan"


def _is_file_name(value: str) -> bool:
    """A name and no path, on any system: nothing outside audio/ must ever be read or written."""
    plain = PurePosixPath(value).name == value == PureWindowsPath(value).name and value != ".."
    return plain and _is_text(value) and len(value.encode()) <= LONGEST_NAME


SCHEMA = pa.DataFrameSchema(
    {
        "filename": pa.Column(str, pa.Check(_is_file_name, element_wise=True, error="is no plain file name")),
        "fold": pa.Column(str, pa.Check.str_matches(r"\A[0-9]{1,9}\Z", error="is no whole number")),
        "target": pa.Column(str, pa.Check.str_matches(r"\A[0-9]{1,9}\Z", error="is no whole number")),
        "category": pa.Column(str, pa.Check(_is_text, element_wise=True, error="is no class name")),
        "esc10": pa.Column(str, pa.Check.isin(["True", "False"], error="is neither True nor False")),
        "src_file": pa.Column(str, pa.Check(_is_text, element_wise=True, error="names no recording")),
        "take": pa.Column(str, pa.Check(_is_text, element_wise=True, error="names no take")),
    }
)


class _Unreadable(Exception):
    """No rows at all; the message completes "meta/esc50.csv: ..."."""


@dataclass(frozen=True)
class Table:
    """`rows`: one a clip, sorted by file name, no name twice; columns of SCHEMA, fold and target int, esc10 bool.

    `listed`: every file name in the table, sound or not.
    """

    rows: pd.DataFrame
    listed: frozenset[str]


def read_table(path: Path, findings: Findings) -> Table:
    """The table's sound rows; what is unsound goes to `findings`."""
    try:
        text = _text(path)
    except _Unreadable as error:
        findings.add("table", TABLE.as_posix(), str(error))
        text = pd.DataFrame(columns=list(SCHEMA.columns), dtype=str)
    rows = _valid(text, findings).astype({"fold": int, "target": int})
    rows["esc10"] = rows["esc10"] == "True"
    _check_labels(rows, findings)
    return Table(_once(rows, findings).sort_values("filename"), frozenset(text["filename"]))


def _text(path: Path) -> pd.DataFrame:
    """Every cell as text, indexed by line number; columns that may be left out are filled in."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _Unreadable(f"is no CSV in UTF-8 that can be read ({error})") from error
    if not lines:
        raise _Unreadable("is empty")
    (_, header), *body = lines
    missing = [name for name in SCHEMA.columns if name not in header and name not in LEFT_OUT]
    if missing:
        raise _Unreadable(f"lacks the column {', '.join(missing)}; it has {', '.join(map(repr, header))[:200]}")
    if twice := {name for name in header if header.count(name) > 1}:
        raise _Unreadable(f"has the column {min(twice)!r} more than once")
    for number, cells in body:
        if len(cells) != len(header):
            raise _Unreadable(f"has {len(cells)} values in line {number} and {len(header)} columns")
    rows = pd.DataFrame([cells for _, cells in body], [number for number, _ in body], header, dtype=str)
    rows = rows.assign(filename=rows["filename"].map(normal))
    return rows.assign(**{name: value for name, value in LEFT_OUT.items() if name not in header})[list(SCHEMA.columns)]


def _valid(rows: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """The rows that the schema passes."""
    try:
        SCHEMA.validate(rows, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
        for case in cases.itertuples():
            what = f"{case.column} {str(case.failure_case)[:100]!r} {case.check}"
            findings.add("table", f"{TABLE.as_posix()} line {case.index}", what)
        return rows.drop(index=cases["index"].unique())
    return rows


def _check_labels(rows: pd.DataFrame, findings: Findings) -> None:
    """One number, one name, in both directions: otherwise a model's classes mean nothing."""
    for key, other in (("target", "category"), ("category", "target")):
        meanings = rows.groupby(key)[other].unique()
        for value, found in meanings[meanings.map(len) > 1].items():
            named = ", ".join(sorted(map(str, found)))
            findings.add("table", f"{key} {value}", f"stands for more than one {other}: {named}")


def _once(rows: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """Each file's first row; under `quarantine` none of a file that is listed twice."""
    for name, group in rows[rows["filename"].duplicated(keep=False)].groupby("filename"):
        differ = [column for column in group if group[column].nunique() > 1]
        verdict = f"and differs in {', '.join(differ)}" if differ else "with the same values"
        where = " and ".join(map(str, group.index))
        findings.add("listed_twice", str(name), f"stands in lines {where} {verdict}", [str(name)])
    rows = rows.drop_duplicates("filename")
    return rows[~rows["filename"].isin(findings.quarantined)]
