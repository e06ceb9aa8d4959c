"""KServe's protocols, spoken by the gateway in front of a real TorchServe."""

import base64

import numpy as np
import pytest
from helpers.gateway import check_problem, rounded
from helpers.torchserve import CLASSES, encode, noise, probabilities

pytestmark = pytest.mark.xdist_group("torchserve")
CLIP = encode(noise())


def test_kserve_v1(running, served):
    encoded = base64.b64encode(CLIP).decode()
    assert served.get("/v1/models/sounds").json() == {"name": "sounds", "ready": True}
    sent = {"instances": [{"b64": encoded}, encoded, base64.b64encode(encode(np.zeros((44100, 1)))).decode()]}
    first, second, silent = served.post("/v1/models/sounds:predict", json=sent).json()["predictions"]
    assert rounded(first) == rounded(second) == rounded(running.answer(CLIP))
    assert silent["error"]["reason"] == "silent"
    refused = served.post("/v1/models/sounds:predict", json={"instances": []})
    check_problem(refused, 400, "malformed")
    (line,) = served.log_lines(refused.headers["X-Request-Id"])
    assert line["bytes"] == int(refused.request.headers["Content-Length"])


def test_kserve_v2(running, served):
    assert served.get("/v2").json() == {"name": "audiocnn", "version": "1", "extensions": []}
    assert served.get("/v2/health/live").json() == {"live": True}
    assert served.get("/v2/health/ready").json() == {"ready": True}
    assert served.get("/v2/models/sounds/ready").json() == {"name": "sounds", "ready": True}
    assert served.get("/v2/models/sounds").json()["outputs"][2]["shape"] == [-1, len(CLASSES)]
    data = [base64.b64encode(CLIP).decode()]
    tensor = {"name": "audio", "datatype": "BYTES", "shape": [1], "data": data}
    answer = served.post("/v2/models/sounds/infer", json={"id": "7", "inputs": [tensor]}).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("sounds", "1", "7")
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["probabilities"]["shape"] == [1, len(CLASSES)]
    expected = probabilities(running.classifier, CLIP)
    found = dict(zip(outputs["classes"]["data"], outputs["probabilities"]["data"], strict=True))
    assert found == pytest.approx(expected, abs=1e-4)
    versioned = "/v2/models/sounds/versions/1"
    for path in ("", "/ready"):
        assert served.get(versioned + path).json() == served.get("/v2/models/sounds" + path).json()
    again = served.post(f"{versioned}/infer", json={"inputs": [tensor]}).json()
    assert rounded(again["outputs"]) == rounded(answer["outputs"])
    broken = {**tensor, "data": [base64.b64encode(b"text").decode()]}
    check_problem(served.post("/v2/models/sounds/infer", json={"inputs": [broken]}), 415, "undecodable")


def test_version_that_is_not_served(served):
    path = "/v2/models/sounds/versions/2"
    for refused in (served.get(path), served.get(f"{path}/ready"), served.post(f"{path}/infer", json={"inputs": []})):
        check_problem(refused, 404, "not_found")
        assert "the gateway serves 1" in refused.json()["detail"]
    check_problem(served.get("/v2/models/other/versions/1"), 404, "not_found")
