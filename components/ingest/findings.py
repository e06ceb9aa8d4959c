"""Findings: problems of a data set, and how the policy treats them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import pandas as pd

from audiocnn.audio import MAX_SECONDS, MIN_SECONDS
from components.ingest.settings import Action, IngestPolicy

# Texts of the report, in its order: problems that invalidate the metrics of a model first, then problems of single
# clips, the most severe first.
DESCRIPTIONS = {
    "table": "Invalid rows or contradicting labels in meta/esc50.csv. Correct the table.",
    "source_in_two_folds": "Clips of one recording (src_file) are in different folds: test data leaks into training.",
    "duplicate_audio": "Clips with identical samples. In different folds, test data leaks into training.",
    "one_fold": "All clips of the class are in one fold: it cannot be both trained and tested. Use several folds.",
    "few_clips": "The class has fewer clips than ingest.min_clips_per_class. Add clips, or lower the setting.",
    "listed_twice": "The clip has several rows in the table. The first one is used.",
    "missing": "The file of the clip is missing or cannot be read. Add the file, or remove the row.",
    "undecodable": "The file cannot be decoded as audio. Export it as WAV, FLAC, Ogg, MP3 or AIFF.",
    "truncated": "The file is shorter than its header declares. Copy or download it again.",
    "empty": "The file has no samples. Remove the row or replace the file.",
    "not_finite": "Samples are NaN, infinite or out of range. Export the clip again.",
    "too_long": f"The clip is longer than {MAX_SECONDS:g} s. Split it: only its beginning would be used.",
    "too_short": f"The clip is shorter than {MIN_SECONDS:g} s. Remove the clip.",
    "silent": "What the network is given is digital silence. Remove the clip, cut its beginning or record it again.",
    "clipped": "More than ingest.max_clipped_share of the samples are at full scale. Lower the recording level.",
    "unlisted": "Files in audio/ that are not in the table. They are ignored.",
}
FIXED_ACTIONS: dict[str, Action] = {"table": "error", "unlisted": "warn"}  # not configurable in ingest.policy
ACTIONS: tuple[Action, ...] = ("error", "quarantine", "warn")  # the most severe first


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        clip: the file name of a clip; or a class, a line of the table, or a folder.
        finding: the kind, a key of DESCRIPTIONS.
    """

    clip: str
    finding: str
    action: Action
    detail: str

    def __str__(self) -> str:
        return f"{self.clip}: {self.finding}: {self.detail}"


@dataclass
class Findings:
    """All findings of one run, and the names of the clips to leave out."""

    policy: IngestPolicy
    quarantined: set[str] = field(default_factory=set)
    _findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, subject: str, detail: str, clips: Iterable[str] = ()) -> None:
        """Add a finding about `subject`. If the policy says so, quarantine `clips`."""
        action = cast(Action, FIXED_ACTIONS.get(kind) or getattr(self.policy, kind))
        self._findings.append(Finding(subject, kind, action, detail))
        if action == "quarantine":
            self.quarantined.update(clips)

    def sorted(self) -> list[Finding]:
        """Return the findings, the most severe first; the order does not depend on that of the clip table."""
        kinds = list(DESCRIPTIONS)
        return sorted(
            self._findings,
            key=lambda found: (ACTIONS.index(found.action), kinds.index(found.finding), found.clip, found.detail),
        )

    def with_action(self, action: Action) -> list[Finding]:
        return [finding for finding in self.sorted() if finding.action == action]

    def remaining(self, clips: pd.DataFrame) -> pd.DataFrame:
        return clips[~clips["filename"].isin(self.quarantined)].reset_index(drop=True)
