"""The step ingest: check a data set and write its clip table, its audio files and a report."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from audiocnn.atomic import atomic_file, temporary_folder
from audiocnn.errors import AudioCNNError
from components.ingest import report
from components.ingest.findings import Finding, Findings
from components.ingest.inspection import inspect_clips
from components.ingest.relations import check_relations
from components.ingest.settings import IngestSettings
from components.ingest.sources import Source, SourceFolder
from components.ingest.sources.layout import AUDIO, TABLE, printable
from components.ingest.table import read_table
from mlops.artifacts import DatasetFolder
from mlops.runtime import sigterm_as_exit

MAX_IN_ERROR = 10  # findings in the error message; the report has all of them
MAX_IN_LOG = 200  # findings in the log of a refused run; on a cluster, the report is lost with the pod


class IngestError(AudioCNNError):
    """A data set with findings that the policy treats as errors."""


@dataclass(frozen=True)
class Summary:
    """The result of a run.

    Attributes:
        digest: digest of the data set.
        clips, classes: their number.
        seconds: duration of all clips.
        quarantined: number of clips that were left out.
        warnings: number of findings that are warnings.
    """

    digest: str
    clips: int
    classes: int
    seconds: float
    quarantined: int
    warnings: int


@sigterm_as_exit()
def ingest(source: str, settings: IngestSettings, output: Path) -> Summary:
    """Check a data set and write the output folder.

    Args:
        source: see the table in README.md.
        settings: the limits, and the policy for findings.
        output: the folder of a DatasetFolder. It is written completely or not at all. A refused run writes its report
            to `refused_report(output)` instead.
    Raises:
        SourceError: the source is unknown or cannot be read.
        IngestError: the policy refuses the data set. The error is raised after all checks.
        OutputError: `output` contains something else than an earlier output of this step.
    """
    parsed = Source.parse(source)
    DatasetFolder.check_output(output, [parsed.path] if parsed.path else [])
    refused_report(output).unlink(missing_ok=True)
    with temporary_folder(output) as workspace:
        fetched = parsed.fetch(settings, workspace)
        findings = Findings(settings.policy)
        clips = _check(fetched, settings, findings)
        if findings.with_action("error"):
            raise _refuse(fetched, clips, findings, output)
        with DatasetFolder.create(output) as dataset:
            _copy(clips, fetched.files, dataset.audio)
            findings.table().to_csv(dataset.findings, index=False, lineterminator="\n")
            dataset.report.write_text(report.render(fetched, clips, findings), encoding="utf-8")
            record = dataset.write(clips, fetched.name, fetched.origin, findings.quarantined)
    _log_findings(findings)
    print(f"[ingest] {record.clips} clips in {record.classes} classes, digest {record.digest[:12]}", flush=True)
    return Summary(
        digest=record.digest,
        clips=record.clips,
        classes=record.classes,
        seconds=float((clips["frames"] / clips["rate"]).sum()),
        quarantined=len(record.quarantined),
        warnings=len(findings.with_action("warn")),
    )


def refused_report(output: Path) -> Path:
    """Return the path of the report of a refused run, next to the output folder."""
    return output.with_name(f"{output.name}.report.html")


def _check(fetched: SourceFolder, settings: IngestSettings, findings: Findings) -> pd.DataFrame:
    """Run all checks; return the remaining clips, sorted by file name."""
    table = read_table(fetched.table, findings)
    rows = table.rows[table.rows["esc10"]] if settings.subset == "esc10" else table.rows
    clips = inspect_clips(rows, fetched.files, settings, findings)
    clips = check_relations(clips, settings.min_clips_per_class, findings)
    _check_unlisted(fetched, table.listed, findings)
    if clips.empty and not findings.with_action("error"):
        findings.add("table", TABLE.as_posix(), f"no clips are left (ingest.subset is {settings.subset})")
    return clips


def _check_unlisted(fetched: SourceFolder, listed: Collection[str], findings: Findings) -> None:
    """Report files in audio/ that are not in the table, or whose names are not valid on every system."""
    used = {fetched.files.get(name) for name in listed}
    names = [path.name for path in fetched.entries if path not in used] + list(fetched.skipped)
    if unlisted := sorted(map(printable, names)):
        total = len(fetched.entries) + len(fetched.skipped)
        findings.add("unlisted", f"{AUDIO}/", f"{len(unlisted)} of {total} files, for example {unlisted[0]}")


def _refuse(fetched: SourceFolder, clips: pd.DataFrame, findings: Findings, output: Path) -> IngestError:
    """Write the report and the log; return the error to raise."""
    errors = findings.with_action("error")
    for finding in errors[:MAX_IN_LOG]:
        print(f"[ingest] refused: {_line(finding)}", flush=True)
    path = refused_report(output)
    with atomic_file(path) as part:
        part.write_text(report.render(fetched, clips, findings), encoding="utf-8")
    lines = [f"data set {fetched.name} is refused: {len(errors)} error{'s' * (len(errors) != 1)} (see ingest.policy)"]
    lines += [f"  {_line(finding)}" for finding in errors[:MAX_IN_ERROR]]
    if len(errors) > MAX_IN_ERROR:
        lines.append(f"  and {len(errors) - MAX_IN_ERROR} more")
    lines.append(f"The report with all findings is {path}")
    if output.exists():
        lines.append(f"{output} is unchanged and contains the data set of an earlier run")
    return IngestError("\n".join(lines))


def _log_findings(findings: Findings) -> None:
    for (kind, action), count in Counter((finding.finding, finding.action) for finding in findings.sorted()).items():
        result = "quarantined" if action == "quarantine" else "kept with a warning"
        print(f"[ingest] {kind}: {count} {result}", flush=True)


def _line(finding: Finding) -> str:
    return f"{finding.clip}: {finding.finding}: {finding.detail}"


def _copy(clips: pd.DataFrame, files: Mapping[str, Path], target: Path) -> None:
    target.mkdir()
    for clip in clips.itertuples():
        content = files[clip.filename].read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != clip.md5:
            raise IngestError(f"{clip.filename} changed while the data set was read; run ingest again")
        (target / clip.filename).write_bytes(content)
