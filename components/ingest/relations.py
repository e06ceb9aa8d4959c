"""Checks of clips against each other: duplicates, recordings in several folds, classes with too few clips or folds."""

import pandas as pd

from audiocnn.audio import SILENCE_THRESHOLD
from components.ingest.findings import Findings


def check_relations(clips: pd.DataFrame, min_clips_per_class: int, findings: Findings) -> pd.DataFrame:
    """Check the clips of `inspect_clips` against each other; return those that are not quarantined.

    A quarantined clip is not considered in later checks.
    """
    clips = findings.remaining(clips)
    _check_duplicates(clips, findings)
    clips = findings.remaining(clips)
    _check_recordings(clips, findings)
    clips = findings.remaining(clips)
    _check_classes(clips, min_clips_per_class, findings)
    return findings.remaining(clips)


def _check_duplicates(clips: pd.DataFrame, findings: Findings) -> None:
    """Report all but the first of clips with equal samples; all of them if their labels differ."""
    audible = clips[clips["peak"] >= SILENCE_THRESHOLD]  # silent clips are equal too, but have their own finding
    for _, group in audible[audible["samples_hash"].duplicated(keep=False)].groupby("samples_hash"):
        labels_differ = group["category"].nunique() > 1
        for name in group["filename"] if labels_differ else group["filename"].iloc[1:]:
            others = group[group["filename"] != name] if labels_differ else group.iloc[:1]
            listing = ", ".join(f"{clip.filename} ({clip.category}, fold {clip.fold})" for clip in others.itertuples())
            findings.add("duplicate_audio", name, f"has the same samples as {listing}", [name])


def _check_recordings(clips: pd.DataFrame, findings: Findings) -> None:
    """Report the clips of a recording that are not in its main fold: that with most of its clips, or the lowest."""
    folds = clips.groupby("src_file")["fold"].nunique()
    for recording in folds.index[folds > 1]:
        group = clips[clips["src_file"] == recording]
        main_fold = group["fold"].mode().min()
        others = ", ".join(group["filename"][group["fold"] == main_fold])
        for clip in group[group["fold"] != main_fold].itertuples():
            detail = f"recording {recording} is also in fold {main_fold}: {others}"
            findings.add("source_in_two_folds", clip.filename, detail, [clip.filename])


def _check_classes(clips: pd.DataFrame, min_clips: int, findings: Findings) -> None:
    for category, group in clips.groupby("category"):
        if len(group) < min_clips:
            detail = f"{len(group)} clips; at least {min_clips} are required"
            findings.add("few_clips", f"class {category}", detail, group["filename"])
        elif group["fold"].nunique() == 1:
            detail = f"all clips are in fold {group['fold'].iloc[0]}"
            findings.add("one_fold", f"class {category}", detail, group["filename"])
