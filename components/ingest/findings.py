"""What is wrong with a data set, and what the policy makes of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from components.ingest.settings import Action, IngestPolicy

# Each kind of finding, in the words of the report: what it means and how to mend it. In the report's order: first what
# makes every figure of a model doubtful, then what is wrong with single clips, the worst first.
MEANING = {
    "table": "A row of meta/esc50.csv that cannot be understood, or labels that contradict each other. Mend the table.",
    "source_in_two_folds": "Clips of one recording (src_file) lie in two folds: training hears what it is tested on.",
    "duplicate_audio": "Clips hold the very same samples. Across folds, training hears what it is tested on.",
    "one_fold": "The class lies in one fold only: it can be learnt or tested, never both. Spread it over two or more.",
    "few_clips": "The class has fewer clips than ingest.min_clips_per_class.",
    "listed_twice": "The table lists a clip more than once; its first row counts.",
    "missing": "The table lists a clip that cannot be read in audio/. Add the file or remove its row.",
    "undecodable": "The file is no audio that can be decoded. Export it again as WAV, FLAC, Ogg, MP3 or AIFF.",
    "truncated": "The file ends before the audio that it announces. Copy or download it again.",
    "empty": "The file holds no sample.",
    "not_finite": "Samples are NaN, infinite or beyond any loudness. Export the clip again.",
    "too_long": "The clip is longer than ingest.max_seconds. Cut it: only its beginning would ever be heard.",
    "too_short": "The clip is shorter than ingest.min_seconds.",
    "silent": "The clip is digital silence: nothing can be learnt from it.",
    "clipped": "More samples than ingest.max_clipped_share stand at full scale: recorded too loud.",
    "unlisted": "Files in audio/ that the table does not list; they are left out.",
}
ALWAYS: dict[str, Action] = {"table": "error", "unlisted": "warn"}  # no policy makes sense of a contradiction
_ORDER = ("error", "quarantine", "warn")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `clip` is a file's name, or else a class, a line of the table, a folder."""

    clip: str
    finding: str
    action: Action
    detail: str

    @property
    def place(self) -> tuple[int, int, str, str]:
        """Sorting key: what is worst first, then by kind and name, whatever order the table has."""
        return _ORDER.index(self.action), list(MEANING).index(self.finding), self.clip, self.detail


@dataclass
class Findings:
    """All findings of one run, collected before anything is decided."""

    policy: IngestPolicy
    quarantined: set[str] = field(default_factory=set)
    _all: list[Finding] = field(default_factory=list)

    def add(self, kind: str, subject: str, detail: str, clips: Iterable[str] = ()) -> None:
        """Note a finding about `subject`; under `quarantine` the files `clips` are set aside."""
        action = cast(Action, ALWAYS.get(kind) or getattr(self.policy, kind))
        self._all.append(Finding(subject, kind, action, detail))
        if action == "quarantine":
            self.quarantined.update(clips)

    def sorted(self) -> list[Finding]:
        """The worst first; the same findings in the same order for the same data."""
        return sorted(self._all, key=lambda finding: finding.place)

    def of(self, action: Action) -> list[Finding]:
        """Those with this action, sorted."""
        return [finding for finding in self.sorted() if finding.action == action]
