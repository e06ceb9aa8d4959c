"""`python -m benchmarks.recordings`: how the probabilities of windows become an answer about a recording.

Recordings are made of the clips of one fold, which has to be a validation fold of the model: the way of pooling and the
thresholds of events are chosen here, and a test fold selects nothing.

- `one class`: clips of one class, one after another. Accuracy of the most probable class.
- `several classes`: clips of different classes. Share of them among the most probable ones, as many as there are.
- `short sound`: one clip in a recording that is silent otherwise.

Events are scored by the share of seconds, for each class, that are found rightly (F1).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer

from audiocnn import audio
from audiocnn.analysis import classify_windows, compute_spectrograms
from audiocnn.classifier import Classifier
from audiocnn.config import fold_role
from audiocnn.errors import AudioCNNError
from audiocnn.events import EventSettings, find_events
from audiocnn.recordings import Analysis, pool
from audiocnn.windows import Chunk, Grid, cut
from mlops.command_line import run

FloatArray = npt.NDArray[np.float32]
CLIPS = 4  # of a recording; 20 s with clips of 5 s
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
RELEASES = (0.3, 0.5, 0.7, 1.0)


def _mean(heard: FloatArray) -> FloatArray:
    return pool(heard)


def _geometric(heard: FloatArray) -> FloatArray:
    mean = np.log(np.maximum(heard, 1e-7)).mean(axis=0)
    return np.exp(mean) / np.exp(mean).sum()


def _noisy_or(heard: FloatArray) -> FloatArray:
    return 1 - np.prod(1 - heard.astype(np.float64), axis=0)


def _maximum(heard: FloatArray) -> FloatArray:
    return heard.max(axis=0)


def _squares(heard: FloatArray) -> FloatArray:
    return np.sqrt(np.square(heard).mean(axis=0))


POOLINGS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "mean (used)": _mean,
    "geometric mean": _geometric,
    "root mean square": _squares,
    "noisy-or": _noisy_or,
    "maximum": _maximum,
}


@dataclass(frozen=True)
class Recording:
    """A recording made of clips, and what is in it: the index of the class of each part, in order; -1 is silence."""

    kind: str
    parts: tuple[int, ...]
    analysis: Analysis


def make_recordings(
    classifier: Classifier, clips: Sequence[tuple[FloatArray, int]], count: int, seed: int
) -> Iterator[Recording]:
    """Yield `count` recordings of each kind."""
    random = np.random.default_rng(seed)
    grid = Grid.of(classifier.settings)
    by_class: dict[int, list[FloatArray]] = {}
    for waveform, label in clips:
        by_class.setdefault(label, []).append(waveform)
    silence = np.zeros(grid.samples, np.float32)
    for number in range(count):
        label = number % len(classifier.classes)
        others = random.choice(sorted(by_class), CLIPS, replace=False).tolist()
        place = int(random.integers(CLIPS))
        plans = {
            "one class": [label] * CLIPS,
            "several classes": others,
            "short sound": [label if part == place else -1 for part in range(CLIPS)],
        }
        for kind, parts in plans.items():
            waveforms = [
                silence if part < 0 else by_class[part][int(random.integers(len(by_class[part])))] for part in parts
            ]
            # Not aligned with the windows, as in a recording that was not made for them.
            offset = int(random.integers(grid.hop))
            waveform = np.concatenate(waveforms)[offset:]
            spectrograms = compute_spectrograms(classifier.front_end, cut(Chunk(0.0, waveform), grid))
            (analysis,) = classify_windows(classifier, [spectrograms])
            if analysis.silent.all():  # of a clip whose second half is silent, only that is left
                continue
            shifted = tuple(start + offset / grid.rate for start in analysis.starts)
            yield Recording(kind, tuple(parts), Analysis(shifted, analysis.probabilities))


def summary_scores(recordings: Sequence[Recording]) -> dict[str, dict[str, float]]:
    """Return, by pooling and kind of recording, the share of its classes among the most probable ones."""
    scores: dict[str, dict[str, list[float]]] = {name: {} for name in POOLINGS}
    for recording in recordings:
        heard = recording.analysis.probabilities[~recording.analysis.silent]
        present = set(recording.parts) - {-1}
        for name, pooling in POOLINGS.items():
            top = set(np.argsort(-pooling(heard), kind="stable")[: len(present)].tolist())
            scores[name].setdefault(recording.kind, []).append(len(top & present) / len(present))
    return {name: {kind: float(np.mean(shares)) for kind, shares in kinds.items()} for name, kinds in scores.items()}


def event_scores(recordings: Sequence[Recording], classes: Sequence[str], seconds: float) -> dict[str, float]:
    """Return the F1 of the seconds of events by their thresholds: "threshold, release" -> F1."""
    return {
        f"{threshold:g}, {release:g}": _f1(recordings, classes, seconds, EventSettings(threshold, release))
        for threshold in THRESHOLDS
        for release in RELEASES
    }


def _f1(recordings: Sequence[Recording], classes: Sequence[str], seconds: float, settings: EventSettings) -> float:
    found = right = present = 0.0
    for recording in recordings:
        analysis = recording.analysis
        present += seconds * sum(part >= 0 for part in recording.parts)
        for event in find_events(analysis.probabilities, analysis.starts, seconds, classes, settings):
            found += event.end - event.start
            for place, part in enumerate(recording.parts):
                if part >= 0 and classes[part] == event.label:
                    right += max(0.0, min(event.end, (place + 1) * seconds) - max(event.start, place * seconds))
    return 2 * right / (found + present)


def read_clips(classifier: Classifier, data: Path, fold: int) -> list[tuple[FloatArray, int]]:
    """Return waveform and class of the clips of a fold, of a folder in ESC-50's layout."""
    train = classifier.provenance.get("train", {})
    if train.get("fold") != fold or fold_role(train.get("hold_out", ())) != "validation fold":
        raise AudioCNNError(
            f"--fold: fold {fold} is no validation fold of this model; train with train.fold={fold} and a fold in "
            "train.hold_out"
        )
    table = pd.read_csv(data / "meta" / "esc50.csv", keep_default_na=False)
    clips = []
    for row in table[table["fold"] == fold].itertuples():
        sound = audio.decode(data / "audio" / str(row.filename))
        clips.append((audio.to_waveform(sound, classifier.settings), classifier.classes.index(str(row.category))))
    return clips


def main(
    model: Annotated[Path, typer.Option(help="Folder of a model that was trained with a fold in train.hold_out.")],
    data: Annotated[Path, typer.Option(help="Folder in ESC-50's layout.")],
    fold: Annotated[int, typer.Option(help="The validation fold of the model.")],
    count: Annotated[int, typer.Option(min=1, help="Recordings of each kind.")] = 200,
    output: Annotated[Path, typer.Option(help="File for the figures.")] = Path("var/bench/recordings.json"),
) -> None:
    """Measure, print the figures and write them as JSON."""
    classifier = Classifier.load(model)
    recordings = list(make_recordings(classifier, read_clips(classifier, data, fold), count, seed=0))
    figures = {
        "recordings": count,
        "summary": summary_scores(recordings),
        "events": event_scores(recordings, classifier.classes, classifier.settings.seconds),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    run(main)
