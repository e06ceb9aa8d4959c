"""The data set as a page that people read: one self-contained HTML file, whether it passed or was refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from audiocnn import audio, plots
from audiocnn.config import SpectrogramSettings
from audiocnn.data.clips import digest
from audiocnn.features import LogMel
from components.ingest.findings import ALWAYS, MEANING, Finding, Findings
from components.ingest.sources.kind import Fetched
from mlops.runtime import defer_signals

MOST_PICTURES = 40
HEARD = ("too_short", "silent", "clipped", "listed_twice", "duplicate_audio", "source_in_two_folds")
# Coarse on purpose: a picture shows silence, cuts and clipping at a glance, forty to a page.
PICTURE = SpectrogramSettings(rate=22_050, seconds=5.0, n_fft=1024, hop=512, n_mels=64, f_min=0.0, f_max=11_025.0)
LEVELS = np.arange(-60.0, 3.1, 3.0)  # dB from full scale; lossy formats decode to a little above it
BARS = 21
TALL = 12  # classes; more are shown in two tables side by side


def render(source: Fetched, clips: pd.DataFrame, findings: Findings) -> str:
    """The page's HTML.

    Args:
        source: for the pictures of clips with findings.
        clips: those that passed, or that got as far as the last check before the run was refused.
    """
    environment = Environment(
        loader=PackageLoader("components.ingest", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        name=source.name,
        counts={action: len(findings.of(action)) for action in ("error", "quarantine", "warn")},
        movable=list(dict.fromkeys(found.finding for found in findings.of("error") if found.finding not in ALWAYS)),
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
    """All findings of one kind and action, with pictures of the first clips that can be heard."""

    name: str
    action: str
    meaning: str
    findings: list[Finding]
    pictures: list[tuple[Finding, str]]


def _kinds(findings: list[Finding], files: Mapping[str, Path]) -> list[Kind]:
    groups = {kind: list(group) for kind, group in groupby(findings, lambda finding: (finding.finding, finding.action))}
    with_sound = {kind: [finding for finding in group if finding.finding in HEARD] for kind, group in groups.items()}
    pictures, left, front_end = {}, MOST_PICTURES, LogMel(PICTURE)
    # The rarest kinds first, each up to its fair share, so that a frequent one does not push the others out.
    for done, kind in enumerate(sorted(groups, key=lambda kind: len(with_sound[kind]))):
        chosen = with_sound[kind][: left // (len(groups) - done)]
        drawn = [(finding, _picture(files.get(finding.clip), front_end)) for finding in chosen]
        pictures[kind] = [(finding, picture) for finding, picture in drawn if picture]
        left -= len(chosen)
    return [
        Kind(kind.replace("_", " "), action, MEANING[kind], group, pictures[kind, action])
        for (kind, action), group in groups.items()
    ]


def _picture(file: Path | None, front_end: LogMel) -> str:
    """A spectrogram of the clip's first seconds as a data URI; "" where a clip listed twice is no sound besides."""
    if file is None or not file.is_file():  # what is there and is no file: reading a pipe would wait for ever
        return ""
    try:
        with defer_signals():
            waveform = audio.load(file, front_end.settings)
    except (audio.AudioError, OSError):
        return ""
    values = front_end(torch.from_numpy(waveform)).numpy()
    return plots.data_uri(plots.thumbnail(values, front_end.settings.seconds))


def _class_tables(clips: pd.DataFrame) -> list[list[dict[str, Any]]]:
    """Clips of each class in each fold, classes in the order of their names, in one table or two."""
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
    half = -(-len(rows) // 2) if len(rows) > TALL else len(rows)
    return [part for part in (rows[:half], rows[half:]) if part]


@dataclass(frozen=True)
class Histogram:
    """`bars`: (what it spans, clips, share of the highest bar); `ends`: what stands left and right under them."""

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
        _histogram("Peak level", "dB", 0, peak, LEVELS),
        _histogram("Loudness (RMS)", "dB", 0, rms, LEVELS),
    ]


def _decibels(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    decibels: npt.NDArray[np.float64] = 20 * np.log10(np.maximum(shares, 1e-6))
    return decibels


def _histogram(
    title: str, unit: str, digits: int, values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> Histogram:
    """What lies beyond the edges counts in the outermost bars."""

    def text(value: float) -> str:
        return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")

    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
    bars = [
        (f"{text(low)} to {text(high)} {unit}", int(count), float(count / counts.max()))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    middle, least, most = text(np.median(values)), text(values.min()), text(values.max())
    summary = f"all {most} {unit}" if least == most else f"median {middle}, from {least} to {most} {unit}"
    ends = (f"{edges[0]:g} {unit}".replace("-", "\N{MINUS SIGN}"), f"{edges[-1]:g} {unit}")
    return Histogram(title, bars, ends, summary)


def _shares(values: pd.Series, name: Callable[[int], str]) -> list[tuple[str, int, float]]:
    """(name, clips, share of all), the most frequent first."""
    counts = values.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return [(name(int(value)), int(count), int(count) / len(values)) for value, count in counts.items()]
