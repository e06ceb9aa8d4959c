"""`audiocnn classify` with a real TorchServe: the same answers as in process, also about long recordings."""

import json

import numpy as np
import pytest
import requests
from helpers.project import ROOT
from helpers.torchserve import encode, noise
from typer.testing import CliRunner

from audiocnn.analysis import classify_windows, compute_spectrograms
from audiocnn.recordings import AnswerOptions, build_answer, read_windows
from audiocnn.streams import open_stream
from audiocnn.windows import Grid, chunks, cut
from pipeline.cli import app

pytestmark = pytest.mark.xdist_group("torchserve")
SILENCE = np.zeros((12 * 44100, 1), np.float32)
LONG = encode(np.concatenate([noise(17.0), SILENCE, noise(13.3, seed=1)]), kind="FLAC")


def classify(running, *arguments):
    given = ["classify", "--params", str(ROOT / "params.yaml"), "--set", "register.name=sounds"]
    for key in ("inference", "management", "metrics", "state"):
        given += ["--set", f"deploy.{key}={getattr(running.settings, key)}"]
    return CliRunner().invoke(app, [*given, *map(str, arguments)], catch_exceptions=False)


def in_process(running, content):
    grid = Grid.of(running.classifier.settings)
    with open_stream(content) as stream:
        (chunk,) = chunks(stream, grid)
    (analysis,) = classify_windows(
        running.classifier, [compute_spectrograms(running.classifier.front_end, cut(chunk, grid))]
    )
    options = AnswerOptions(top_k=6, events=True, windows=True)
    return analysis, build_answer(analysis, stream.seconds, grid, running.classifier.classes, options)


def assert_same(answer, expected):
    served, own = ({item["class"]: item["probability"] for item in one["predictions"]} for one in (answer, expected))
    assert served == pytest.approx(own, abs=1e-5)
    for field in ("label", "calibrated", "analyzed_seconds", "silent_seconds", "window"):
        assert answer[field] == expected[field]
    for one, other in zip(answer["events"], expected["events"], strict=True):
        assert one == {**other, "confidence": pytest.approx(other["confidence"], abs=1e-5)}


def test_a_long_recording_gets_the_answer_of_one_process(running, tmp_path):
    (tmp_path / "long.flac").write_bytes(LONG)
    result = classify(running, tmp_path / "long.flac", "--events", "--format", "json", "--top-k", 6)
    (answer,) = json.loads(result.stdout)
    _, expected = in_process(running, LONG)
    assert answer["silent_seconds"] >= 5 and answer["clip"] == {"seconds": 42.3, "rate": 44100, "channels": 1}
    assert_same(answer, expected)


def test_torchserve_answers_with_windows_and_events(running):
    fields = {"windows": "true", "events": "true", "top_k": "6"}
    response = requests.post(running.url, files={"data": LONG}, data=fields, headers=running.authorization, timeout=60)
    analysis, expected = in_process(running, LONG)
    assert_same(response.json(), expected)
    served = read_windows(response.json())
    assert served.starts == analysis.starts
    np.testing.assert_allclose(served.probabilities, analysis.probabilities, atol=1e-5)


def test_torchserve_refuses_options_that_it_does_not_have(running):
    for fields in ({"topk": "3"}, {"top_k": "0"}, {"events": "1"}):
        response = requests.post(
            running.url, files={"data": LONG}, data=fields, headers=running.authorization, timeout=60
        )
        assert (response.status_code, response.json()["reason"]) == (400, "invalid_option")


def test_without_an_endpoint_nothing_is_written(running, tmp_path):
    output = tmp_path / "result.csv"
    arguments = (tmp_path / "long.flac", "--format", "csv", "--output", output)
    result = classify(running, *arguments, "--set", "register.name=unknown")
    assert result.exit_code == 2 and not output.exists()
