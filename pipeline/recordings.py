"""Classify sound files of any length: with the endpoint, or with the registry's champion in this process."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from audiocnn.analysis import analyze
from audiocnn.errors import AudioCNNError, AudioError
from audiocnn.recordings import Analysis, AnswerOptions, build_answer, read_windows
from audiocnn.streams import open_stream
from audiocnn.windows import SENT_WINDOWS, Grid, chunks, cut, to_wav
from pipeline.settings import PipelineSettings
from serving.torchserve.client import ServingError, TorchServeClient
from serving.torchserve.tone import tone


class RecordingError(AudioCNNError):
    """There is no model to classify recordings with, or another one answered to a part of a recording."""


class RecordingClassifier(Protocol):
    """Classifies sound files. `classify` raises an AudioError if a file is no recording that can be classified.

    Attributes:
        classes: of the model, in the order of its outputs.
    """

    classes: Sequence[str]

    def classify(self, file: Path, options: AnswerOptions) -> dict[str, Any]:
        """Return the answer that `serving.torchserve.handler` documents."""


class EndpointClassifier:
    """Decodes recordings here, and sends them to TorchServe in chunks.

    Raises:
        ServingError: the endpoint does not answer, or refuses the key.
        RecordingError: an older release deployed the served version.
    """

    def __init__(self, settings: PipelineSettings) -> None:
        self._client = TorchServeClient.from_settings(settings.deploy)
        self._name = settings.register.name
        self._ffmpeg = settings.decode.ffmpeg
        answer = self._client.predict(tone(), self._name, windows="true")
        if "classes" not in answer:  # the handler is part of the archive
            raise RecordingError("the served version was deployed by an older release; run `audiocnn deploy`")
        self.classes: Sequence[str] = answer["classes"]
        self._model: dict[str, Any] = answer["model"]
        self._grid = Grid(answer["window"]["rate"], answer["window"]["seconds"])

    def classify(self, file: Path, options: AnswerOptions) -> dict[str, Any]:
        thresholds: dict[str, float] | None = None
        parts = []
        with open_stream(file, ffmpeg=self._ffmpeg) as stream:
            for chunk in chunks(stream, self._grid, self._grid.seconds_of(SENT_WINDOWS)):
                windows = cut(chunk, self._grid)
                if windows.silent.all():
                    parts.append(Analysis.silence(windows.starts, len(self.classes)))
                    continue
                answer = self._client.predict(to_wav(chunk, self._grid), self._name, windows="true")
                if answer["model"] != self._model:
                    raise RecordingError("another version of the model was deployed meanwhile; classify it again")
                parts.append(read_windows(answer, chunk.start))
                thresholds = answer["thresholds"]
        built = build_answer(Analysis.merge(parts), stream.seconds, self._grid, self.classes, options, thresholds)
        return {**built, "model": self._model, "clip": stream.describe()}


class LocalClassifier:
    """Classifies recordings with the registry's champion in this process.

    Args:
        folder: an empty folder to which the model is downloaded.
    Raises:
        RecordingError: there is no champion.
        TrackingError: MLflow cannot be reached, or the model is damaged.
    """

    def __init__(self, settings: PipelineSettings, folder: Path) -> None:
        from audiocnn.classifier import Classifier
        from mlops import tracking

        name = settings.register.name
        if (version := tracking.version_by_alias(name, tracking.CHAMPION)) is None:
            raise RecordingError(
                f"{name}: no version has the alias {tracking.CHAMPION}; run the pipeline, or approve a version"
            )
        self._classifier = Classifier.load(tracking.download_model(version, folder / "model"))
        self.classes: Sequence[str] = self._classifier.classes
        self._ffmpeg = settings.decode.ffmpeg
        digest = self._classifier.provenance.get("dataset", {}).get("digest")
        self._model = {"name": name, "version": version.number, "dataset": digest}

    def classify(self, file: Path, options: AnswerOptions) -> dict[str, Any]:
        grid = Grid.of(self._classifier.settings)
        analysis, stream = analyze(self._classifier, file, ffmpeg=self._ffmpeg)
        thresholds = self._classifier.thresholds
        built = build_answer(analysis, stream.seconds, grid, self.classes, options, thresholds)
        return {**built, "model": self._model, "clip": stream.describe()}


@contextmanager
def open_classifier(settings: PipelineSettings, local: bool) -> Iterator[RecordingClassifier]:
    """Yield the classifier that uses the endpoint, or the one that uses the champion in this process."""
    if not local:
        yield EndpointClassifier(settings)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield LocalClassifier(settings, Path(folder))


def classify_file(classifier: RecordingClassifier, file: Path, options: AnswerOptions) -> dict[str, Any]:
    """Return the answer to a file, or `error` and `reason` if there is none.

    Raises:
        ServingError: the endpoint cannot be reached any more.
    """
    name = os.fsencode(file).decode(errors="replace")  # a name in another encoding
    try:
        return {"file": name, **classifier.classify(file, options)}
    except AudioError as error:
        return {"file": name, "error": str(error), "reason": error.reason}
    except OSError as error:
        return {"file": name, "error": error.strerror or str(error), "reason": "unreadable"}
    except ServingError as error:
        if not error.status:  # no answer at all
            raise
        return {"file": name, "error": str(error), "reason": "endpoint"}
    except RecordingError as error:
        return {"file": name, "error": str(error), "reason": "endpoint"}
