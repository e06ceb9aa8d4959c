"""The work of the step ingest."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from audiocnn.atomic import atomic_file, atomic_folder, check_output, scratch_folder
from audiocnn.data.clips import CLIP_COLUMNS, digest
from audiocnn.errors import AudioCNNError
from components.ingest import report, sources
from components.ingest.clips import inspect_clips
from components.ingest.findings import Finding, Findings
from components.ingest.relations import check_relations
from components.ingest.settings import IngestSettings
from components.ingest.table import read_table
from mlops.runtime import sigterm_as_exit

MARKER = "dataset.json"  # what shows that a folder is an output of this step
NAMED = 10  # findings in an error message; the report has all of them
LOGGED = 200  # findings in the log of a refused run: on a cluster the log is what outlives it


class IngestError(AudioCNNError):
    """A data set that the policy does not let pass."""


@dataclass(frozen=True)
class Summary:
    """What one run let pass: the data set's name, its clips, classes and seconds, and what it noted on the way."""

    digest: str
    clips: int
    classes: int
    seconds: float
    quarantined: int
    warnings: int


@sigterm_as_exit()
def ingest(source: str, settings: IngestSettings, output: Path) -> Summary:
    """Check the data set at `source` and write clips.csv, audio/, findings.csv, dataset.json and report.html.

    Args:
        source: see sources.KINDS.
        output: appears whole or not at all. A refused run writes its report to rejected(output) instead.
    Raises:
        SourceError: there is no such source.
        IngestError: findings that the policy does not let pass; all of them are collected first.
        OutputError: `output` holds something else, which would be lost.
    """
    check_output(output, MARKER, [sources.local_path(source)] if sources.is_local(source) else [])
    rejected(output).unlink(missing_ok=True)
    with scratch_folder(output) as workspace:
        fetched = sources.fetch(source, settings, workspace)
        findings = Findings(settings.policy)
        clips = _check(fetched, settings, findings)
        if findings.of("error"):
            raise _refuse(fetched, clips, findings, output)
        with atomic_folder(output, MARKER) as part:
            _write(part, fetched, clips, findings)
    _log_passed(findings)
    summary = _summary(clips, findings)
    print(f"[ingest] {summary.clips} clips in {summary.classes} classes, digest {summary.digest[:12]}", flush=True)
    return summary


def rejected(output: Path) -> Path:
    """Where the report of a refused run lies: beside the output that does not appear."""
    return output.with_name(f"{output.name}.report.html")


def _check(fetched: sources.Fetched, settings: IngestSettings, findings: Findings) -> pd.DataFrame:
    """All checks, from the table to the clips among themselves; the clips that are left, sorted by file name."""
    table = read_table(fetched.table, findings)
    rows = table.rows[table.rows["esc10"]] if settings.subset == "esc10" else table.rows
    clips = inspect_clips(rows, fetched.files, settings, findings)
    clips = check_relations(clips, settings.min_clips_per_class, findings)
    _check_unlisted(fetched, table.listed, findings)
    if clips.empty and not findings.of("error"):
        findings.add("table", sources.TABLE.as_posix(), f"leaves no clip (ingest.subset is {settings.subset})")
    return clips


def _check_unlisted(fetched: sources.Fetched, listed: Collection[str], findings: Findings) -> None:
    """Note what lies in audio/ and is left out: no row names it, or its name is none that could be written here."""
    taken = {fetched.files.get(name) for name in listed}
    names = [path.name for path in fetched.entries if path not in taken] + list(fetched.left_out)
    if unlisted := sorted(map(sources.printable, names)):
        files = len(fetched.entries) + len(fetched.left_out)
        findings.add("unlisted", f"{sources.AUDIO}/", f"{len(unlisted)} of {files} files, {unlisted[0]} the first")


def _refuse(fetched: sources.Fetched, clips: pd.DataFrame, findings: Findings, output: Path) -> IngestError:
    """Write the report where it survives, log what is wrong, and make the error that says so."""
    errors = findings.of("error")
    for finding in errors[:LOGGED]:
        print(f"[ingest] refused: {_line(finding)}", flush=True)
    place = rejected(output)
    with atomic_file(place) as part:
        part.write_text(report.render(fetched, clips, findings), encoding="utf-8")
    noun = "finding" if len(errors) == 1 else "findings"
    lines = [f"  {_line(finding)}" for finding in errors[:NAMED]]
    if len(errors) > NAMED:
        lines.append(f"  and {len(errors) - NAMED} more")
    return IngestError(
        f"{fetched.name} is refused: {len(errors)} {noun} that ingest.policy does not let pass\n"
        + "\n".join(lines)
        + f"\nAll of them, with pictures and what to do, are in {place}"
        + (f"\n{output} is still the data set of an earlier run" if output.exists() else "")
    )


def _log_passed(findings: Findings) -> None:
    for (kind, action), count in Counter((found.finding, found.action) for found in findings.sorted()).items():
        print(
            f"[ingest] {kind}: {count} {'set aside' if action == 'quarantine' else 'kept, with a warning'}", flush=True
        )


def _line(finding: Finding) -> str:
    return f"{finding.clip}: {finding.finding}: {finding.detail}"


def _write(part: Path, fetched: sources.Fetched, clips: pd.DataFrame, findings: Findings) -> None:
    """The folder that the next steps read. Nothing in it depends on the clock or on the order of the table."""
    _copy(clips, fetched.files, part / "audio")
    clips.to_csv(part / "clips.csv", columns=list(CLIP_COLUMNS), index=False, lineterminator="\n")
    table = pd.DataFrame(findings.sorted(), columns=list(Finding.__annotations__))
    table.to_csv(part / "findings.csv", index=False, lineterminator="\n")
    described = {
        "digest": digest(clips),
        "source": fetched.name,
        "origin": fetched.origin,
        "clips": len(clips),
        "classes": int(clips["category"].nunique()),
        "quarantined": sorted(findings.quarantined),
    }
    (part / MARKER).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    (part / "report.html").write_text(report.render(fetched, clips, findings), encoding="utf-8")


def _copy(clips: pd.DataFrame, files: Mapping[str, Path], target: Path) -> None:
    target.mkdir()
    for clip in clips.itertuples():
        content = files[clip.filename].read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != clip.md5:
            raise IngestError(f"{clip.filename} changed while the data set was read; run ingest again")
        (target / clip.filename).write_bytes(content)


def _summary(clips: pd.DataFrame, findings: Findings) -> Summary:
    return Summary(
        digest=digest(clips),
        clips=len(clips),
        classes=clips["category"].nunique(),
        seconds=float((clips["frames"] / clips["rate"]).sum()),
        quarantined=len(findings.quarantined),
        warnings=len(findings.of("warn")),
    )
