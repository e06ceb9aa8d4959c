"""The HTML report on a data set, accepted or refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from audiocnn import audio, plots
from audiocnn.config import SpectrogramSettings
from audiocnn.data.clips import digest
from audiocnn.features import LogMel
from components.ingest.findings import DESCRIPTIONS, FIXED_ACTIONS, Finding, Findings
from components.ingest.sources import SourceFolder
from mlops import reports
from mlops.runtime import defer_signals

TEMPLATE = Path(__file__).with_name("report.html.j2")
MAX_THUMBNAILS = 8  # of each kind of finding
WITH_THUMBNAILS = ("too_short", "silent", "clipped", "listed_twice", "duplicate_audio", "source_in_two_folds")
# A low resolution is sufficient to show silence, cuts and clipping.
THUMBNAIL = SpectrogramSettings(rate=22_050, seconds=5.0, n_fft=1024, hop=512, n_mels=64, f_min=0.0, f_max=11_025.0)
LEVEL_EDGES = np.arange(-60.0, 3.1, 3.0)  # dB relative to full scale, which lossy formats can exceed
BARS = 21
MAX_ROWS = 12  # classes; more are shown in two tables side by side


def render(source: SourceFolder, clips: pd.DataFrame, findings: Findings) -> str:
    """Return the page's HTML.

    Args:
        source: the files, for thumbnails of clips with findings.
        clips: the remaining clips after all checks.
        findings: the results of the checks.
    """
    return reports.render(
        TEMPLATE,
        name=source.name,
        counts={action: len(findings.with_action(action)) for action in ("error", "quarantine", "warn")},
        configurable=list(
            dict.fromkeys(
                found.finding for found in findings.with_action("error") if found.finding not in FIXED_ACTIONS
            )
        ),
        quarantined=len(findings.quarantined),
        digest=digest(clips),
        clips=len(clips),
        categories=clips["category"].nunique(),
        folds=sorted(clips["fold"].unique()),
        minutes=float((clips["frames"] / clips["rate"]).sum()) / 60,
        kinds=_kinds(findings.sorted(), source.files),
        tables=_class_tables(clips),
        histograms=_histograms(clips) if len(clips) else [],
        shares=[
            ("sample rate", _shares(clips["rate"], lambda rate: f"{rate:,} Hz")),
            (
                "channels",
                _shares(clips["channels"], lambda count: {1: "mono", 2: "stereo"}.get(count, f"{count} channels")),
            ),
        ],
    )


@dataclass(frozen=True)
class Kind:
    """All findings of one kind and action, with thumbnails of the first clips."""

    name: str
    action: str
    description: str
    findings: list[Finding]
    thumbnails: list[tuple[Finding, str]]


def _kinds(findings: list[Finding], files: Mapping[str, Path]) -> list[Kind]:
    front_end, kinds = LogMel(THUMBNAIL), []
    for (kind, action), group in groupby(findings, lambda finding: (finding.finding, finding.action)):
        members = list(group)
        shown = members[:MAX_THUMBNAILS] if kind in WITH_THUMBNAILS else []
        images = [(finding, _thumbnail(files.get(finding.clip), front_end)) for finding in shown]
        thumbnails = [(finding, image) for finding, image in images if image]
        kinds.append(Kind(kind.replace("_", " "), action, DESCRIPTIONS[kind], members, thumbnails))
    return kinds


def _thumbnail(file: Path | None, front_end: LogMel) -> str:
    """Return a spectrogram of the first seconds as a data URI, or "" if the file cannot be decoded."""
    if file is None or not file.is_file():  # reading a pipe would block
        return ""
    try:
        with defer_signals():
            waveform = audio.load(file, front_end.settings)
    except (audio.AudioError, OSError):
        return ""
    values = front_end(torch.from_numpy(waveform)).numpy()
    return plots.data_uri(plots.thumbnail(values, front_end.settings.seconds))


def _class_tables(clips: pd.DataFrame) -> list[list[dict[str, Any]]]:
    """Return the number of clips of each class in each fold, sorted by class, as rows of one or two tables."""
    folds = sorted(clips["fold"].unique())
    counts = clips.groupby(["category", "fold"]).size().unstack(fill_value=0).reindex(columns=folds, fill_value=0)
    most = int(counts.to_numpy().max(initial=1))
    rows = [
        {
            "name": str(category).replace("_", " "),
            "cells": [(int(count), float(count) / most) for count in row],
            "total": int(row.sum()),
        }
        for category, row in counts.iterrows()
    ]
    half = -(-len(rows) // 2) if len(rows) > MAX_ROWS else len(rows)
    return [part for part in (rows[:half], rows[half:]) if part]


@dataclass(frozen=True)
class Histogram:
    """A histogram.

    Attributes:
        bars: tuples of the range, the number of clips, and its share of the highest bar.
        ends: labels of the left and right end of the axis.
    """

    title: str
    bars: list[tuple[str, int, float]]
    ends: tuple[str, str]
    summary: str


def _histograms(clips: pd.DataFrame) -> list[Histogram]:
    seconds = (clips["frames"] / clips["rate"]).to_numpy(np.float64)
    low, high = np.floor(2 * seconds.min()) / 2, np.ceil(2 * seconds.max()) / 2
    edges = np.linspace(low, high, BARS + 1) if low < high else np.linspace(low - 0.5, low + 0.5, BARS + 1)
    peak, rms = (_decibels(clips[column].to_numpy(np.float64)) for column in ("peak", "rms"))
    return [
        _histogram("Length", "s", 2, seconds, edges),
        _histogram("Peak level", "dB", 0, peak, LEVEL_EDGES),
        _histogram("Loudness (RMS)", "dB", 0, rms, LEVEL_EDGES),
    ]


def _decibels(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    decibels: npt.NDArray[np.float64] = 20 * np.log10(np.maximum(shares, 1e-6))
    return decibels


def _histogram(
    title: str, unit: str, digits: int, values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> Histogram:
    """Return a histogram; values beyond the edges are counted in the outermost bars."""

    def text(value: float) -> str:
        return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")

    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
    bars = [
        (f"{text(low)} to {text(high)} {unit}", int(count), float(count / counts.max()))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    median, lowest, highest = text(np.median(values)), text(values.min()), text(values.max())
    summary = f"all {highest} {unit}" if lowest == highest else f"median {median}, from {lowest} to {highest} {unit}"
    ends = (f"{edges[0]:g} {unit}".replace("-", "\N{MINUS SIGN}"), f"{edges[-1]:g} {unit}")
    return Histogram(title, bars, ends, summary)


def _shares(values: pd.Series, name: Callable[[int], str]) -> list[tuple[str, int, float]]:
    """Return tuples of name, number of clips and share of all clips, the most frequent first."""
    counts = values.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return [(name(int(value)), int(count), int(count) / len(values)) for value, count in counts.items()]
