"""Classify sound files of any length: with the gateway, or with the registry's champion in this process."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from audiocnn.errors import AudioCNNError, AudioError
from audiocnn.recordings import Analysis, AnswerOptions, build_answer, read_windows
from audiocnn.streams import open_stream
from audiocnn.windows import SENT_WINDOWS, Grid, chunks, cut, to_wav
from pipeline.settings import PipelineSettings
from serving.gateway.client import KEY, GatewayClient, GatewayError
from serving.torchserve.tone import tone

VERSIONS = 2  # the model may be replaced once while a recording is classified


class RecordingError(AudioCNNError):
    """There is no model to classify recordings with, or it was replaced again and again."""


class _Replaced(Exception):
    """Another version answered than that of the chunks before."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer


class RecordingClassifier(Protocol):
    """Classifies sound files. `classify` raises an AudioError if a file is no recording that can be classified.

    Attributes:
        classes: of the model, in the order of its outputs.
    """

    classes: Sequence[str]

    def classify(self, file: Path, options: AnswerOptions) -> dict[str, Any]:
        """Return the answer that docs/serving.md describes."""


class EndpointClassifier:
    """Decodes recordings here, and sends them to the gateway in chunks.

    Args:
        url: of the gateway; empty for that of the settings.
    Raises:
        GatewayError: the gateway or its model does not answer, or refuses the key.
        RecordingError: it does not return windows.
    """

    def __init__(self, settings: PipelineSettings, url: str = "") -> None:
        self._client = GatewayClient(url or settings.gateway.url, os.environ.get(KEY, "").strip())
        self._ffmpeg = settings.decode.ffmpeg
        self._client.check()  # without a model, the next request would wait for one
        try:
            self._read_model(self._client.classify(tone(), windows="true"))
        except GatewayError as error:
            if error.reason != "invalid_option":
                raise
            raise RecordingError(
                f"the gateway at {self._client.url}, or the version that it serves, is of an older release, which does "
                "not return windows: restart it with `audiocnn serve`, and run `audiocnn deploy`"
            ) from error
        except (KeyError, TypeError) as error:  # of another program
            raise RecordingError(
                f"{self._client.url}: this is not an answer of the gateway; check the address"
            ) from error

    def classify(self, file: Path, options: AnswerOptions) -> dict[str, Any]:
        for _ in range(VERSIONS):
            try:
                return self._classify(file, options)
            except _Replaced as replaced:
                self._read_model(replaced.answer)
        raise RecordingError("the model was replaced while it classified the recording; classify it again")

    def _classify(self, file: Path, options: AnswerOptions) -> dict[str, Any]:
        thresholds: dict[str, float] | None = None
        parts = []
        with open_stream(file, ffmpeg=self._ffmpeg) as stream:
            for chunk in chunks(stream, self._grid, self._grid.seconds_of(SENT_WINDOWS)):
                windows = cut(chunk, self._grid)
                if windows.silent.all():
                    parts.append(Analysis.silence(windows.starts, len(self.classes)))
                    continue
                answer = self._client.classify(to_wav(chunk, self._grid), windows="true")
                if answer["model"] != self._model:
                    raise _Replaced(answer)
                parts.append(read_windows(answer, chunk.start))
                thresholds = answer["thresholds"]
        built = build_answer(Analysis.merge(parts), stream.seconds, self._grid, self.classes, options, thresholds)
        return {**built, "model": self._model, "clip": stream.describe()}

    def _read_model(self, answer: dict[str, Any]) -> None:
        self.classes: Sequence[str] = answer["classes"]
        self._model: dict[str, Any] = answer["model"]
        self._grid = Grid(answer["window"]["rate"], answer["window"]["seconds"])


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
        from audiocnn.analysis import analyze  # PyTorch takes a second, which the endpoint's classifier does not need

        grid = Grid.of(self._classifier.settings)
        analysis, stream = analyze(self._classifier, file, ffmpeg=self._ffmpeg)
        thresholds = self._classifier.thresholds
        built = build_answer(analysis, stream.seconds, grid, self.classes, options, thresholds)
        return {**built, "model": self._model, "clip": stream.describe()}


@contextmanager
def open_classifier(settings: PipelineSettings, local: bool, url: str = "") -> Iterator[RecordingClassifier]:
    """Yield the classifier that uses the champion in this process, or the one that uses the gateway.

    Args:
        url: of the gateway; empty for that of the settings.
    """
    if not local:
        yield EndpointClassifier(settings, url)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield LocalClassifier(settings, Path(folder))


def classify_file(classifier: RecordingClassifier, file: Path, options: AnswerOptions) -> dict[str, Any]:
    """Return the answer to a file, or `error` and `reason` if there is none."""
    name = os.fsencode(file).decode(errors="replace")  # a name in another encoding
    try:
        return {"file": name, **classifier.classify(file, options)}
    except (AudioError, GatewayError) as error:
        return {"file": name, "error": str(error), "reason": error.reason}
    except OSError as error:
        return {"file": name, "error": error.strerror or str(error), "reason": "unreadable"}
    except RecordingError as error:
        return {"file": name, "error": str(error), "reason": "endpoint"}
