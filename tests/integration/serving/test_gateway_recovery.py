"""A worker of TorchServe that is killed while clients send requests through the gateway."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.gateway import gateway
from helpers.torchserve import encode, noise, probabilities, workers

pytestmark = pytest.mark.xdist_group("torchserve")
CLIENTS, KILLS = 2, 2
PAUSE = 0.05  # s between two requests of a client; with shorter ones TorchServe loses none
CLIP = encode(noise())


@pytest.mark.slow
def test_killed_workers_cost_no_request(running, tmp_path):
    expected = probabilities(running.classifier, CLIP)
    best = max(expected, key=expected.__getitem__)
    ended = False

    def client(_: int) -> list[tuple[int, str]]:
        answers = []
        while not ended:
            response = served.post(data=CLIP)
            answers.append((response.status_code, response.json().get("label", response.text)))
            time.sleep(PAUSE)
        return answers

    with gateway(tmp_path, running.settings, "sounds") as served, ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, index) for index in range(CLIENTS)]
        try:
            for _ in range(KILLS):
                time.sleep(1)
                for worker in workers(Path(running.settings.state)):
                    worker.kill()
                wait_until_answered(served)
        finally:
            ended = True
        answers = [answer for future in clients for answer in future.result(timeout=120)]
        metrics = served.get("/metrics").text
    assert len(answers) > KILLS
    assert set(answers) == {(200, best)}
    retries = re.search(r"^audiocnn_gateway_retries_total (\S+)$", metrics, re.MULTILINE)
    assert retries and float(retries[1]) > 0  # the kills reached requests


def wait_until_answered(served) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if served.post(data=CLIP).status_code == 200:
            return
    raise AssertionError("no answer within 60 s after a worker was killed")
