"""The step ingest: check a data set and write its clip table, its audio files and a report."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from audiocnn.atomic import atomic_file, temporary_folder
from audiocnn.config import SpectrogramSettings
from audiocnn.errors import AudioCNNError
from components.ingest import report
from components.ingest.findings import Finding, Findings
from components.ingest.inspection import inspect_clips
from components.ingest.relations import check_relations
from components.ingest.settings import IngestSettings
from components.ingest.sources import SourceFolder, parse_source
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
    """The result of a run: `seconds` is the duration of all clips, `quarantined` the number of clips left out."""

    digest: str
    clips: int
    classes: int
    seconds: float
    quarantined: int
    warnings: int


@sigterm_as_exit()
def ingest(source: str, settings: IngestSettings, front_end: SpectrogramSettings, output: Path) -> Summary:
    """Check a data set and write the output folder.

    Args:
        source: see the table in README.md.
        front_end: determines what the network is given of a clip, and so whether the clip is silent.
        output: the folder of a DatasetFolder. It is written completely or not at all. A refused run writes its report
            to `refused_report(output)` instead.
    Raises:
        SourceError: the source is unknown or cannot be read.
        IngestError: the policy refuses the data set. The error is raised after all checks.
        OutputError: `output` contains something else than an earlier output of this step.
    """
    parsed = parse_source(source)
    DatasetFolder.check_output(output, [parsed.path] if parsed.path else [])
    refused_report(output).unlink(missing_ok=True)
    with temporary_folder(output) as workspace:
        fetched = parsed.fetch(settings, workspace)
        findings = Findings(settings.policy)
        clips = _check(fetched, settings, front_end, findings)
        page = report.render(fetched, clips, front_end, findings)
        if errors := findings.with_action("error"):
            raise _refuse(fetched.name, errors, page, output)
        with DatasetFolder.create(output) as dataset:
            _copy(clips, fetched.files, dataset.audio)
            pd.DataFrame(findings.sorted(), columns=list(Finding.__annotations__)).to_csv(
                dataset.findings, index=False, lineterminator="\n"
            )
            dataset.report.write_text(page, encoding="utf-8")
            record = dataset.write_clips(clips, fetched.name, fetched.origin, findings.quarantined, settings.to_dict())
    for (kind, action), count in Counter((found.finding, found.action) for found in findings.sorted()).items():
        result = "quarantined" if action == "quarantine" else "kept with a warning"
        print(f"[ingest] {kind}: {count} {result}", flush=True)
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


def _check(
    fetched: SourceFolder, settings: IngestSettings, front_end: SpectrogramSettings, findings: Findings
) -> pd.DataFrame:
    rows, listed = read_table(fetched.table, settings.subset, findings)
    clips = inspect_clips(rows, fetched.files, front_end, settings.max_clipped_share, findings)
    clips = check_relations(clips, settings.min_clips_per_class, findings)
    _check_unlisted(fetched, listed, findings)
    classes = clips["category"].unique()
    if len(classes) < 2 and not findings.with_action("error"):
        left = f"{classes[0]} is the only class that is left" if len(classes) else "no clips are left"
        detail = f"{left}; a classifier needs at least two classes (ingest.subset is {settings.subset})"
        findings.add("table", TABLE.as_posix(), detail)
    return clips


def _check_unlisted(fetched: SourceFolder, listed: Iterable[str], findings: Findings) -> None:
    used = {fetched.files.get(name) for name in listed}
    names = [path.name for path in fetched.entries if path not in used] + list(fetched.skipped)
    if unlisted := sorted(map(printable, names)):
        total = len(fetched.entries) + len(fetched.skipped)
        findings.add("unlisted", f"{AUDIO}/", f"{len(unlisted)} of {total} files, for example {unlisted[0]}")


def _refuse(name: str, errors: list[Finding], page: str, output: Path) -> IngestError:
    for finding in errors[:MAX_IN_LOG]:
        print(f"[ingest] refused: {finding}", flush=True)
    with atomic_file(refused_report(output)) as part:
        part.write_text(page, encoding="utf-8")
    lines = [f"data set {name} is refused: {len(errors)} error{'s' * (len(errors) != 1)} (see ingest.policy)"]
    lines += [f"  {finding}" for finding in errors[:MAX_IN_ERROR]]
    if len(errors) > MAX_IN_ERROR:
        lines.append(f"  and {len(errors) - MAX_IN_ERROR} more")
    lines.append(f"The report with all findings is {refused_report(output)}")
    if output.exists():
        lines.append(f"{output} is unchanged and contains the data set of an earlier run")
    return IngestError("\n".join(lines))


def _copy(clips: pd.DataFrame, files: Mapping[str, Path], target: Path) -> None:
    target.mkdir()
    for name in clips["filename"]:
        shutil.copyfile(files[name], target / name)
