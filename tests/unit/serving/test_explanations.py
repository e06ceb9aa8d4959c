"""The handler's answers to /explanations, without a server."""

import numpy as np
import pytest
import torch
from helpers.handler import ask
from helpers.torchserve import CLASSES, encode, noise, probabilities

from audiocnn.audio import load

RATE = 22050
EXPLAIN = {"explain": "True"}  # the header that TorchServe adds


def explain(handler, model, items):
    return ask(handler, model, items, [EXPLAIN] * len(items))


def two_parts() -> np.ndarray:
    """Return 12 s: noise, and from 6 s on a tone."""
    return np.concatenate([noise(6.0, RATE)[:, 0], 0.3 * np.sin(2 * np.pi * 440 * np.arange(6 * RATE) / RATE)]).astype(
        np.float32
    )


def test_an_explanation_has_the_prediction_of_a_clip_and_the_inside_of_the_network(handler, model):
    clip = encode(noise(5.0))
    (answer, prediction), statuses = ask(handler, model, [{"body": clip}] * 2, [EXPLAIN, {}])
    assert statuses == [200, 200]
    for field in ("label", "calibrated", "analyzed_seconds", "silent_seconds", "model", "clip"):
        assert answer[field] == prediction[field]
    expected = probabilities(model[1], clip)
    for item in answer["predictions"]:
        assert item["probability"] == pytest.approx(expected[item["class"]], abs=1e-5)
    assert answer["window"] == {**prediction["window"], "start": 0.0}
    assert answer["class"] == answer["predictions"][0]["class"] and len(answer["layers"]) == 17
    assert answer["activation"]["shape"] == answer["layers"][-1]["size"] and answer["spectrogram"]["shape"][0] == 128
    assert answer["waveform"]["seconds"] == 5.0 and len(answer["waveform"]["max"]) == 1000
    assert "layers" not in prediction


@pytest.mark.parametrize(("asked", "start"), [(None, 0.0), ("2.5", 2.5), ("6.25", 6.25), ("11", 7.0)])
def test_the_window_begins_where_it_is_asked_to(handler, model, asked, start):
    waveform = two_parts()
    item = {"body": encode(waveform, RATE)} | ({} if asked is None else {"start": asked})
    (answer,), statuses = explain(handler, model, [item])
    assert statuses == [200] and answer["window"]["start"] == pytest.approx(start, abs=1e-3)
    first = round(start * RATE)
    decoded = load(encode(waveform[first : first + 5 * RATE], RATE), model[1].settings)
    expected = model[1].classify(torch.from_numpy(decoded)[None])[0]
    index = CLASSES.index(answer["class"])
    assert answer["probability"] == pytest.approx(float(expected[index]), abs=1e-4)
    assert answer["clip"]["seconds"] == answer["waveform"]["seconds"] == 12.0


def test_the_class_can_be_chosen(handler, model):
    clip = encode(noise(5.0))
    answers, statuses = explain(handler, model, [{"body": clip, "class": name.encode()} for name in CLASSES])
    assert statuses == [200] * len(CLASSES) and [answer["class"] for answer in answers] == list(CLASSES)
    assert len({answer["activation"]["values"] for answer in answers}) > 1


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"class": "cat"}, "the model has no class 'cat'; its classes are dog, rain"),
        ({"start": "-1"}, "the option start is a time in s from the beginning of the recording, not '-1'"),
        ({"start": "nan"}, "not 'nan'"),
        ({"start": "inf"}, "not 'inf'"),
        ({"start": "soon"}, "not 'soon'"),
        ({"start": "5"}, "the option start is a time in the recording, which lasts 5.000 s, not 5"),
        ({"top_k": "2"}, "there is no option 'top_k'; the options are start and class"),
    ],
)
def test_invalid_options_are_refused(handler, model, query, message):
    (answer,), statuses = explain(handler, model, [{"body": encode(noise(5.0)), **query}])
    assert statuses == [400] and answer["reason"] == "invalid_option" and message in answer["error"]


def test_a_silent_window_and_a_broken_file_are_refused(handler, model):
    waveform = two_parts()
    waveform[: 6 * RATE] = 0
    items = [{"body": encode(waveform, RATE)}, {"body": encode(waveform, RATE), "start": "6"}, {"body": b"not audio"}]
    answers, statuses = explain(handler, model, items)
    assert statuses == [422, 200, 415] and answers[0]["reason"] == "silent"
    assert "the window that begins at 0.000 s is silent" in answers[0]["error"]
