"""The REST API of a real TorchServe."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from helpers.torchserve import CLASSES, encode, noise, probabilities

from serving.torchserve import launch, worker_probe
from serving.torchserve import server as torchserve

pytestmark = pytest.mark.xdist_group("torchserve")
OCTETS = {"Content-Type": "application/octet-stream"}
CLIP = encode(noise())


def post(running, body=None, headers=OCTETS, **more) -> requests.Response:
    return requests.post(running.url, data=body, headers={**running.authorization, **headers}, timeout=60, **more)


def test_answer_contains_top_five_classes_model_and_clip(running):
    response = post(running, CLIP)
    answer = response.json()
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    values = [item["probability"] for item in answer["predictions"]]
    assert len(values) == 5 and values == sorted(values, reverse=True)
    assert {item["class"] for item in answer["predictions"]} < set(CLASSES)
    assert answer["model"] == {"name": "sounds", "version": 1, "dataset": "d" * 64}
    assert answer["clip"] == {"seconds": 1.0, "rate": 44100, "channels": 1}


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
@pytest.mark.parametrize(("rate", "channels"), [(22050, 1), (48000, 2)])
def test_served_probabilities_equal_those_of_the_library(running, kind, rate, channels):
    clip = encode(noise(2.0, rate, channels), rate, kind)
    expected = probabilities(running.classifier, clip)
    answer = post(running, clip).json()
    for item in answer["predictions"]:
        assert item["probability"] == pytest.approx(expected[item["class"]], abs=1e-5)
    assert answer["predictions"][0]["class"] == max(expected, key=expected.__getitem__)
    assert answer["clip"] == {"seconds": pytest.approx(2.0, abs=0.1), "rate": rate, "channels": channels}


def test_served_probabilities_equal_those_of_the_library_on_real_clips(running, real_clips):
    for path in sorted((real_clips / "audio").iterdir())[:8]:
        clip = path.read_bytes()
        expected = probabilities(running.classifier, clip)
        for item in post(running, clip).json()["predictions"]:
            assert item["probability"] == pytest.approx(expected[item["class"]], abs=1e-5)


NAN = noise()
NAN[100] = np.nan
INVALID = {
    "nothing": (b"", 400, "empty"),
    "header only": (encode(np.zeros((0, 1))), 400, "empty"),
    "text": (b"this text is not a sound file at all", 415, "undecodable"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(400), 415, "undecodable"),
    "cut WAV": (CLIP[: len(CLIP) // 2], 422, "truncated"),
    "cut Ogg": (encode(noise(), kind="OGG")[:-2000], 422, "truncated"),
    "NaN": (encode(NAN, subtype="FLOAT"), 422, "not_finite"),
    "too short": (encode(noise(0.05)), 422, "too_short"),
    "silent": (encode(np.zeros((44100, 1))), 422, "silent"),
    "below 16 bit": (encode(1e-6 * noise(), subtype="FLOAT"), 422, "silent"),
    "a minute and a second": (encode(np.zeros((61 * 8000, 1), np.int16), 8000, "FLAC"), 413, "too_long"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_clip_gets_status_reason_and_one_sentence(running, case):
    body, status, reason = INVALID[case]
    response = post(running, body)
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    assert response.headers["Content-Type"] == "application/json"
    assert response.json()["error"] and "\n" not in response.json()["error"]


def test_request_above_the_size_limit_gets_413(running):
    response = post(running, bytes(running.settings.max_request_bytes + 1))
    assert (response.status_code, response.content) == (413, b"")


@pytest.mark.parametrize("field", ["data", "body"])
def test_multipart_form_is_accepted(running, field):
    response = post(running, headers={}, files={field: ("clip.wav", CLIP)})
    assert response.status_code == 200


def test_multipart_form_without_the_field_names_it(running):
    response = post(running, headers={}, files={"sound": ("clip.wav", CLIP)})
    assert response.status_code == 400
    assert "multipart field data" in response.json()["error"]


@pytest.mark.parametrize("kind", ["audio/wav", "text/plain", "application/json", None])
def test_content_type_is_ignored(running, kind):
    assert post(running, CLIP, headers={"Content-Type": kind}).status_code == 200


def test_json_instead_of_a_clip_is_refused(running):
    response = post(running, json.dumps({"instances": []}), {"Content-Type": "application/json"})
    assert (response.status_code, response.json()["reason"]) == (415, "undecodable")


def test_concurrent_requests_get_their_own_answers(running):
    valid = [encode(noise(seed=seed)) for seed in range(12)]
    expected = [probabilities(running.classifier, clip) for clip in valid]
    invalid = [INVALID[case] for case in ("nothing", "text", "cut WAV", "NaN", "too short", "silent")]
    mixed = [body for pair in zip(valid, [case[0] for case in invalid] * 2, strict=True) for body in pair]
    with ThreadPoolExecutor(len(mixed)) as pool:
        answers = list(pool.map(lambda body: post(running, body), mixed))
    for answer, own in zip(answers[::2], expected, strict=True):
        served = {item["class"]: item["probability"] for item in answer.json()["predictions"]}
        assert served == pytest.approx({label: own[label] for label in served}, abs=1e-5)
    for answer, (_, status, reason) in zip(answers[1::2], invalid * 2, strict=True):
        assert (answer.status_code, answer.json()["reason"]) == (status, reason)


def test_missing_or_wrong_key_is_refused(running):
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        response = requests.post(running.url, data=CLIP, headers={**OCTETS, **headers}, timeout=60)
        assert (response.status_code, response.json()["type"]) == (400, "InvalidKeyException")


def test_inference_key_is_not_valid_for_the_management_api(running):
    response = requests.get(f"{running.settings.management}/models", headers=running.authorization, timeout=60)
    assert response.json()["type"] == "InvalidKeyException"


def test_unknown_model_or_version_is_404(running):
    for url in (f"{running.url}/9.0", running.url.replace("sounds", "unknown")):
        response = requests.post(url, data=CLIP, headers={**OCTETS, **running.authorization}, timeout=60)
        assert response.status_code == 404


def test_metrics_are_in_prometheus_format(running):
    post(running, CLIP)
    text = requests.get(f"{running.settings.metrics}/metrics", timeout=60).text
    assert 'ts_inference_requests_total{model_name="sounds"' in text


def test_only_allowed_variables_are_passed_to_torchserve(running):
    java = torchserve.find(Path(running.settings.state))
    workers = worker_probe.workers(java)
    assert workers
    for process in (java, *workers):
        variables = process.environ()
        assert variables["OMP_WAIT_POLICY"] == "PASSIVE"
        assert 1 <= int(variables["OMP_NUM_THREADS"]) <= launch.MAX_THREADS
        assert not [name for name in variables if name.startswith(("MLFLOW_", "AWS_", "AUDIOCNN_", "DB_"))]


def test_explanations_have_their_own_address(running):
    url = running.url.replace("/predictions/", "/explanations/")
    answers = [
        requests.post(url, files={"data": CLIP}, data=options, headers=running.authorization, timeout=60)
        for options in ({"class": CLASSES[2], "start": "0.5"}, {"class": "cat"})
    ]
    assert [answer.status_code for answer in answers] == [200, 400]
    answer = answers[0].json()
    assert (answer["class"], answer["window"]["start"]) == (CLASSES[2], 0.0), "a clip shorter than a window"
    assert len(answer["layers"]) == 17 and len(answers[0].content) < 600_000
    assert "no class 'cat'" in answers[1].json()["error"]
    assert "layers" not in post(running, CLIP).json()
