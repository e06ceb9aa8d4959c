"""The HTML report on a data set, accepted or refused."""

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from audiocnn import audio, plots
from audiocnn.config import SpectrogramSettings
from audiocnn.data.clips import digest
from audiocnn.errors import AudioError
from audiocnn.features import LogMel
from components.ingest.findings import ACTIONS, DESCRIPTIONS, FIXED_ACTIONS, Finding, Findings
from components.ingest.sources import SourceFolder
from mlops import reports

TEMPLATE = Path(__file__).with_name("report.html.j2")
MAX_THUMBNAILS = 8  # of each kind of finding
WITH_THUMBNAILS = ("too_short", "silent", "clipped", "listed_twice", "duplicate_audio", "source_in_two_folds")


def render(source: SourceFolder, clips: pd.DataFrame, front_end: SpectrogramSettings, findings: Findings) -> str:
    """Return the page's HTML. `clips` are the remaining ones; `front_end` is for thumbnails of the others."""
    errors = {finding.finding for finding in findings.with_action("error")}
    return reports.render(
        TEMPLATE,
        name=source.name,
        counts={action: len(findings.with_action(action)) for action in ACTIONS},
        configurable=[kind for kind in DESCRIPTIONS if kind in errors - FIXED_ACTIONS.keys()],
        quarantined=len(findings.quarantined),
        digest=digest(clips),
        clips=len(clips),
        minutes=float((clips["frames"] / clips["rate"]).sum()) / 60,
        kinds=_kinds(findings.sorted(), source.files, LogMel(front_end)),
        classes=pd.crosstab(clips["category"], clips["fold"]),
        levels=_levels(clips) if len(clips) else {},
        encodings=clips.groupby(["rate", "channels"]).size().items(),
    )


def _kinds(findings: list[Finding], files: Mapping[str, Path], front_end: LogMel) -> list[dict[str, Any]]:
    """Return the findings of each kind and action, with thumbnails of the first clips."""
    kinds = []
    for (kind, action), group in groupby(findings, lambda finding: (finding.finding, finding.action)):
        members = list(group)
        shown = members[:MAX_THUMBNAILS] if kind in WITH_THUMBNAILS else []
        images = [(finding, _thumbnail(files.get(finding.clip), front_end)) for finding in shown]
        kinds.append(
            {
                "name": kind.replace("_", " "),
                "action": action,
                "description": DESCRIPTIONS[kind],
                "findings": members,
                "thumbnails": [(finding, image) for finding, image in images if image],
            }
        )
    return kinds


def _thumbnail(file: Path | None, front_end: LogMel) -> str:
    """Return a spectrogram of the first seconds as a data URI, or "" if the file cannot be decoded."""
    if file is None or not file.is_file():  # reading a pipe would block
        return ""
    try:
        waveform = audio.load(file, front_end.settings)
    except (AudioError, OSError):
        return ""
    values = front_end(torch.from_numpy(waveform)).numpy()
    return plots.data_uri(plots.thumbnail(values, front_end.settings.seconds))


def _levels(clips: pd.DataFrame) -> dict[str, str]:
    values = {
        "Length in s": clips["frames"] / clips["rate"],
        "Peak level in dB": 20 * np.log10(clips["peak"].clip(1e-6)),
        "Loudness (RMS) in dB": 20 * np.log10(clips["rms"].clip(1e-6)),
    }
    return {
        f"{title}: median {each.median():.2f}, from {each.min():.2f} to {each.max():.2f}": _histogram(each)
        for title, each in values.items()
    }


def _histogram(values: pd.Series) -> str:
    figure = Figure(figsize=(3.4, 1.6), dpi=plots.DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.hist(values, bins=21, color=plots.LINE_COLORS[0])
    axes.spines[["top", "right"]].set_visible(False)
    return plots.data_uri(figure)
