"""The gateway in front of a real TorchServe."""

import base64
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from helpers.ffmpeg import convert
from helpers.gateway import RunningGateway, check_problem, gateway, rounded
from helpers.torchserve import CLASSES, encode, noise, probabilities

from audiocnn.recordings import read_windows
from serving.gateway.answers import Answer

pytestmark = pytest.mark.xdist_group("torchserve")
CLIP = encode(noise())
SILENT = encode(np.zeros((44100, 1)))
LONG = encode(np.concatenate([noise(130.0, 16000), np.zeros((480_000, 1), np.float32)]), 16000, "FLAC")
KEY = "k" * 32


@pytest.fixture(scope="module")
def guarded(running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("guarded")
    limits = {"max_request_bytes": 1_000_000, "requests_per_minute": 20, "read_timeout_s": 1.0}
    with gateway(folder, running.settings, "sounds", f"alice:{KEY}", ffmpeg=False, **limits) as started:
        yield started


def test_answer_is_that_of_torchserve(running, served):
    for options in ({}, {"top_k": "2"}, {"events": "true"}, {"windows": "true"}):
        answer = served.post(params=options, data=CLIP).json()
        assert rounded(answer) == rounded(running.answer(CLIP, **options))


def test_form_json_and_body_give_the_same_answer(served):
    encoded = base64.b64encode(CLIP).decode()
    answers = [
        served.post(data=CLIP),
        served.post(data=CLIP, headers={"Content-Type": "application/x-www-form-urlencoded"}),
        served.post(files={"any name": ("a.wav", CLIP)}),
        served.post(json={"audio": encoded}),
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({json.dumps(rounded(answer.json())) for answer in answers}) == 1


@pytest.mark.parametrize("name", ["a.m4a", "a.webm"])
def test_the_gateway_decodes_with_ffmpeg(served, guarded, tmp_path, name):
    content = convert(CLIP, tmp_path / name)
    answer = served.post(data=content, params={"top_k": len(CLASSES), "events": "true"}).json()
    assert answer["clip"]["seconds"] == pytest.approx(1.0, abs=0.1) and "events" in answer
    expected = served.post(data=CLIP, params={"top_k": len(CLASSES)}).json()
    scores, wanted = ({each["class"]: each["probability"] for each in one["predictions"]} for one in (answer, expected))
    assert scores == pytest.approx(wanted, abs=0.1)
    assert served.post("/explain", data=content).json()["window"]["start"] == 0
    check_problem(served.post(data=content[: len(content) // 2]), 422, "truncated")
    assert {"M4A", "WebM"} <= set(served.get("/model").json()["limits"]["formats"])
    refusal = guarded.post(data=content, headers={"Authorization": f"Bearer {KEY}"})
    check_problem(refusal, 415, "undecodable")
    assert "decoded by the program ffmpeg only" in refusal.json()["detail"]
    assert "M4A" not in guarded.get("/model").json()["limits"]["formats"]


def test_several_files_get_an_answer_or_a_problem_each(served):
    files = [("f", ("good.wav", CLIP)), ("f", ("silent.wav", SILENT)), ("g", ("text.txt", b"not a sound"))]
    response = served.post(files=files)
    good, silent, text = response.json()["results"]
    assert response.status_code == 200
    assert good["file"] == "good.wav" and good["label"] in CLASSES
    assert (silent["file"], silent["error"]["reason"], silent["error"]["status"]) == ("silent.wav", "silent", 422)
    assert (text["file"], text["error"]["reason"], text["error"]["status"]) == ("text.txt", "undecodable", 415)
    listed = served.post(json={"files": [{"name": "a", "audio": base64.b64encode(CLIP).decode()}]}).json()
    assert rounded(listed["results"]) == rounded([{**good, "file": "a"}])


@pytest.mark.parametrize("body", [CLIP, LONG], ids=["clip", "recording"])
@pytest.mark.parametrize("query", ["unknown=1", "top_k=0", "top_k=7", "top_k=x", "events=perhaps", "windows=2"])
def test_invalid_option_is_refused(served, body, query):
    refusal = served.post(f"/classify?{query}", data=body)
    check_problem(refusal, 400, "invalid_option")
    name, given = query.split("=")
    allowed = {"top_k": "a number from 1 to", "unknown": "the options are top_k, events, windows"}
    assert allowed.get(name, "true or false") in refusal.json()["detail"]
    assert (name if name == "unknown" else f"not {given}") in refusal.json()["detail"].replace("'", "")


INVALID = {
    "nothing": (b"", 400, "empty"),
    "text": (b"not a sound", 415, "undecodable"),
    "cut": (CLIP[: len(CLIP) // 2], 422, "truncated"),
    "silent": (SILENT, 422, "silent"),
    "short": (encode(noise(0.05)), 422, "too_short"),
}


@pytest.mark.parametrize("case", INVALID)
def test_refused_clip_gets_a_problem(served, case):
    body, status, reason = INVALID[case]
    check_problem(served.post(data=body), status, reason)


def test_long_recording_is_classified_in_chunks(running, served):
    answer = served.post("/classify?events=true&top_k=6", data=LONG).json()
    assert answer["clip"] == {"seconds": 160.0, "rate": 16000, "channels": 1}
    assert 130 <= answer["analyzed_seconds"] <= 135  # the resampler's filter makes the beginning of the silence audible
    assert answer["analyzed_seconds"] + answer["silent_seconds"] == pytest.approx(160.0)
    assert len(answer["predictions"]) == len(CLASSES)
    windows = [encode(noise(130.0, 16000)[start * 40_000 :][:80_000], 16000) for start in (0, 20, 50)]
    for window in windows:  # the events contain the class of each window that is probable enough
        best, value = max(probabilities(running.classifier, window).items(), key=lambda item: item[1])
        assert value < 0.6 or best in {event["class"] for event in answer["events"]}
    short = running.answer(encode(noise(130.0, 16000)[:800_000], 16000), top_k="6")
    assert set(answer) - {"events"} == set(short)


def test_windows_of_a_long_recording_are_those_of_its_parts(running, served):
    answer = served.post("/classify?windows=true", data=LONG).json()
    part = running.answer(encode(noise(130.0, 16000)[:800_000], 16000, "FLAC"), windows="true")
    assert set(answer) == set(part) and answer["thresholds"] is None
    analysis, expected = read_windows(answer), read_windows(part)
    assert analysis.starts == tuple(2.5 * index for index in range(63))  # 160 s
    np.testing.assert_allclose(analysis.probabilities[:18], expected.probabilities[:18], atol=1e-4)
    assert answer["windows"][-1] == {"start": 155.0, "probabilities": None}
    documented = Answer.model_validate(answer)
    assert documented.windows and documented.classes == list(CLASSES)


def test_long_silence_and_a_long_broken_file_are_refused(served):
    check_problem(served.post(data=encode(np.zeros((16000 * 130, 1)), 16000, "FLAC")), 422, "silent")
    check_problem(served.post(data=encode(noise(130.0, 16000), 16000)[:-10_000]), 422, "truncated")


def test_recording_above_the_maximum_is_refused(running, tmp_path):
    with gateway(tmp_path, running.settings, "sounds", max_seconds=100.0) as started:
        check_problem(started.post(data=LONG), 413, "too_long")


@pytest.mark.parametrize(
    ("body", "start"), [(CLIP, 0.0), (LONG, 0.0), (LONG, 71.0), (LONG, 125.0)], ids=["clip", "first", "middle", "last"]
)
def test_window_of_any_recording_is_explained(served, body, start):
    explanation = served.post("/explain", params={"start": start, "class": "rain"}, data=body).json()
    assert explanation["class"] == "rain"
    assert explanation["window"]["start"] == pytest.approx(start, abs=0.01)
    assert explanation["layers"] and explanation["spectrogram"]["values"]


def test_explanation_of_nothing_is_refused(served):
    check_problem(served.post("/explain?class=bagpipe", data=CLIP), 400, "invalid_option")
    early = served.post("/explain?start=-1", data=CLIP)
    check_problem(early, 400, "invalid_option")
    assert early.json()["detail"] == "the option start is a time in s from the beginning of the recording, not '-1'"
    late = served.post("/explain?start=160", data=LONG)
    check_problem(late, 400, "invalid_option")
    assert "which lasts 160.000 s, not 160" in late.json()["detail"]
    check_problem(served.post("/explain", data=encode(np.zeros((16000 * 130, 1)), 16000, "FLAC")), 422, "silent")
    check_problem(served.post("/explain", files={"a": ("a", CLIP), "b": ("b", CLIP)}), 413, "too_many_files")


def test_model_is_described(served):
    response = served.get("/model")
    described = response.json()
    assert (described["name"], described["version"], set(described["classes"])) == ("sounds", 1, set(CLASSES))
    assert described["window"] == {"seconds": 5.0, "hop": 2.5, "rate": 22050}
    assert described["key_required"] is False
    assert {"WAV", "FLAC", "OGG", "MP3"} <= set(described["limits"]["formats"])


def test_identifiers_are_kept_in_answer_and_log(served):
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    sent = {"X-Request-Id": "my-request-7", "traceparent": trace}
    response = served.post(data=b"not a sound", headers=sent)
    assert {name: response.headers[name] for name in sent} == sent
    (line,) = served.log_lines("my-request-7")
    assert (line["status"], line["reason"], line["traceparent"]) == (415, "undecodable", trace)
    assert line["detail"] == response.json()["detail"]


def test_a_request_is_one_line_in_the_log(served):
    response = served.get("/%E2%80%A8%C2%85%C2%9B31m")  # ends of a line in Unicode, and a code for terminals
    (line,) = served.log_lines(response.headers["X-Request-Id"])
    assert line["path"] == "/\u2028\u0085\u009b31m" and line["status"] == 404


def test_web_socket_is_not_opened(served):
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "a"}
    check_problem(served.get("/nothing", headers=headers), 404, "not_found")


@pytest.mark.parametrize("identifier", ["a b", "x" * 129, 'a"b', "é".encode("latin-1").decode("latin-1")])
def test_malformed_identifier_is_replaced(served, identifier):
    headers = {"X-Request-Id": identifier, "traceparent": "00-" + "0" * 32 + "-" + "b" * 16 + "-01"}
    response = served.get("/healthz", headers=headers)
    assert response.headers["X-Request-Id"] != identifier
    assert "traceparent" not in response.headers


def test_key_is_checked_before_the_body_is_read(guarded):
    url = guarded.url.removeprefix("http://")
    host, port = url.split(":")
    for authorization, status in (("", b"401"), (f"Authorization: Bearer {'x' * 32}\r\n", b"403")):
        with socket.create_connection((host, int(port)), timeout=10) as client:
            head = f"POST /classify HTTP/1.1\r\nHost: {url}\r\n{authorization}Content-Length: 900000\r\n\r\n"
            client.sendall(head.encode())  # and no body
            assert status in client.recv(4096).splitlines()[0]
    response = guarded.post(data=CLIP, headers={"Authorization": f"Bearer {KEY}"})
    assert response.status_code == 200
    assert KEY not in guarded.log.read_text()
    assert guarded.get("/model").json()["key_required"] is True


def test_sizes_timeouts_and_rates_are_limited(guarded):
    authorized = {"Authorization": f"Bearer {KEY}"}
    check_problem(guarded.post(data=bytes(1_000_001), headers=authorized), 413, "too_large")

    def pieces() -> Iterator[bytes]:
        for _ in range(11):
            yield bytes(100_000)

    check_problem(guarded.post(data=pieces(), headers=authorized), 413, "too_large")

    def stalling() -> Iterator[bytes]:
        yield CLIP
        time.sleep(2)

    with pytest.raises(requests.ConnectionError):  # the answer, 408, arrives while requests still sends
        sent = {**authorized, "X-Request-Id": "stalls"}
        check_problem(guarded.post(data=stalling(), headers=sent), 408, "read_timeout")
        raise requests.ConnectionError
    (line,) = guarded.log_lines("stalls")
    assert line["reason"] == "read_timeout"
    statuses = [guarded.post(data=b"", headers=authorized) for _ in range(25)]
    check_problem(statuses[-1], 429, "rate_limited")
    assert int(statuses[-1].headers["Retry-After"]) > 0


def test_only_listed_origins_are_allowed(served):
    def preflight(origin: str) -> requests.Response:
        headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        return requests.options(f"{served.url}/classify", headers=headers, timeout=60)

    allowed = preflight("https://sounds.example.org")
    assert allowed.ok and allowed.headers["Access-Control-Allow-Origin"] == "https://sounds.example.org"
    assert "Access-Control-Allow-Origin" not in preflight("https://other.example.org").headers


def test_name_with_half_a_character_is_answered(served):
    sent = {"files": [{"name": "a\ud800", "audio": base64.b64encode(CLIP).decode()}]}
    (result,) = served.post(json=sent).json()["results"]
    assert result["file"] == "a?" and result["label"] in CLASSES


def test_no_redirect_to_an_address_of_the_client(served):
    response = requests.post(f"{served.url}/classify/", data=CLIP, allow_redirects=False, timeout=60)
    check_problem(response, 404, "not_found")


def test_management_is_not_reachable(served):
    paths = ("/models", "/models/sounds", "/predictions/sounds", "/v1/models/..%2f..%2fmodels", "/v1/models/other")
    for path in paths:
        check_problem(served.get(path), 404, "not_found")
    check_problem(served.post("/v1/models/%2e%2e:predict", json={"instances": ["UklG"]}), 404, "not_found")
    refusal = requests.delete(f"{served.url}/classify", timeout=60)
    check_problem(refusal, 405, "method_not_allowed")
    assert set(refusal.headers["Allow"].split(", ")) == {"POST", "PUT"}


def test_metrics_have_versions_classes_and_reasons(served):
    label = served.post(data=CLIP).json()["label"]
    served.post(data=SILENT)
    text = served.get("/metrics").text
    assert 'audiocnn_gateway_request_seconds_bucket{le="0.5",route="/classify",version="1"}' in text
    assert f'audiocnn_gateway_answers_total{{class="{label}",version="1"}}' in text
    assert 'audiocnn_gateway_refusals_total{reason="silent"}' in text
    assert 'audiocnn_gateway_requests_total{route="/classify",status="422"}' in text


def test_readiness_is_a_prediction(running, served, tmp_path):
    assert served.get("/readyz").json() == {"status": "ready"}
    with gateway(tmp_path, running.settings, "another") as started:
        assert started.get("/healthz").status_code == 200
        check_problem(started.get("/readyz"), 503, "unavailable")
        refused = requests.head(f"{started.url}/readyz", timeout=60)
        assert (refused.status_code, refused.content) == (503, b"")
    for path in ("/healthz", "/readyz", "/model", "/"):
        answer = requests.head(served.url + path, timeout=60)
        assert (answer.status_code, answer.content) == (200, b"")
    assert requests.delete(f"{served.url}/healthz", timeout=60).headers["Allow"] == "GET, HEAD"


def test_page_has_a_strict_policy(served):
    first, second = served.get("/"), served.get("/")
    policies = [response.headers["Content-Security-Policy"] for response in (first, second)]
    assert all(policy.startswith("default-src 'self';") for policy in policies) and policies[0] != policies[1]
    nonce = policies[0].split("'nonce-")[1].split("'")[0]
    assert nonce in first.text and "{{nonce}}" not in first.text
    script = served.get("/static/api.js")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert script.headers["X-Content-Type-Options"] == "nosniff" and script.headers["ETag"]
    check_problem(served.get("/static/../app.py"), 404, "not_found")


def test_gateway_without_keys_listens_on_loopback_only(running, tmp_path: Path):
    message = "can be reached from other machines, which needs keys"
    with pytest.raises(AssertionError, match=message), gateway(tmp_path, running.settings, "sounds", host="0.0.0.0"):
        pass
