"""Clips against each other: the same sound twice, one recording in two folds, a class too small or in one fold."""

import pandas as pd

from audiocnn.audio import SILENCE_THRESHOLD
from components.ingest.findings import Findings


def check_relations(clips: pd.DataFrame, min_clips_per_class: int, findings: Findings) -> pd.DataFrame:
    """Note what is wrong between clips.

    Args:
        clips: of inspect_clips, sorted by file name.
    Returns:
        the clips that are not quarantined.
    """
    _check_duplicates(clips, findings)
    clips = _left(clips, findings)
    _check_sources(clips, findings)
    clips = _left(clips, findings)
    _check_classes(clips, min_clips_per_class, findings)
    return _left(clips, findings)


def _left(clips: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    return clips[~clips["filename"].isin(findings.quarantined)].reset_index(drop=True)


def _check_duplicates(clips: pd.DataFrame, findings: Findings) -> None:
    """Of clips with the same samples all but the first; all where their labels differ, for none can be trusted."""
    heard = clips[clips["peak"] >= SILENCE_THRESHOLD]  # silent clips are all equal, and reported as silent
    for _, group in heard[heard["sound"].duplicated(keep=False)].groupby("sound"):
        differ = group["category"].nunique() > 1
        for name in group["filename"] if differ else group["filename"].iloc[1:]:
            others = group[group["filename"] != name] if differ else group.iloc[:1]
            named = ", ".join(f"{clip.filename} ({clip.category}, fold {clip.fold})" for clip in others.itertuples())
            findings.add("duplicate_audio", name, f"holds the same samples as {named}", [name])


def _check_sources(clips: pd.DataFrame, findings: Findings) -> None:
    """A recording belongs to the fold that has most of its clips, the lower one if equal; its other clips are leaks."""
    folds = clips.groupby("src_file")["fold"].nunique()
    for source in folds.index[folds > 1]:
        group = clips[clips["src_file"] == source]
        home = group["fold"].mode().min()
        there = ", ".join(group["filename"][group["fold"] == home])
        for leak in group[group["fold"] != home].itertuples():
            detail = f"is of recording {source}, which also lies in fold {home}: {there}"
            findings.add("source_in_two_folds", leak.filename, detail, [leak.filename])


def _check_classes(clips: pd.DataFrame, minimum: int, findings: Findings) -> None:
    for category, group in clips.groupby("category"):
        if len(group) < minimum:
            detail = f"has {len(group)} of the {minimum} clips that it needs"
            findings.add("few_clips", f"class {category}", detail, group["filename"])
        elif group["fold"].nunique() == 1:
            detail = f"lies in fold {group['fold'].iloc[0]} only"
            findings.add("one_fold", f"class {category}", detail, group["filename"])
