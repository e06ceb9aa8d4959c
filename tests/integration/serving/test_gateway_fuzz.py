"""Broken and random requests to the gateway: none may fail in it, or change other answers."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.gateway import RunningGateway, gateway, multipart
from helpers.torchserve import encode, noise

pytestmark = pytest.mark.xdist_group("torchserve")
INPUTS = 400
CLIENTS = 4
SOUNDS = [encode(noise(0.5, 22050), 22050, kind) for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64")]
SIZES = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\x00\x00\x00\x80")
KINDS = ("application/octet-stream", "audio/wav", "application/json", "multipart/form-data; boundary=b", "text/plain")


@pytest.fixture(scope="module")
def served(running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with gateway(tmp_path_factory.mktemp("gateway"), running.settings, "sounds") as started:
        yield started


def broken(rng: random.Random) -> tuple[bytes, str]:
    """Return a sound file or a form with errors, and its content type."""
    content = bytearray(rng.choice(SOUNDS))
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        # The headers, which are first, are where most errors matter.
        start = rng.randrange(min(len(content), rng.choice((64, len(content)))))
        change = rng.randrange(5)
        if change == 0:
            content[start] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif change == 1:
            content[start : start + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\x00\x00\x00\x80")
            )
        elif change == 2:
            content[start:start] = rng.randbytes(rng.randrange(32))
        elif change == 3:
            del content[start : start + rng.randrange(64)]
        else:
            del content[max(1, start) :]
        if not content:
            break
    if rng.randrange(8) == 0:
        form, kind = multipart({"file": ("name.wav", bytes(content))})
        cut = rng.randrange(len(form)) if rng.randrange(2) else len(form)
        return form[:cut], kind
    return bytes(content), rng.choice(KINDS)


def test_broken_files_get_a_4xx_and_change_no_other_answer(served):
    good = encode(noise())
    expected = served.post(data=good).json()["predictions"]

    def send(seed: int) -> tuple[int, str]:
        content, kind = broken(random.Random(seed))
        response = served.post(data=content, headers={"Content-Type": kind})
        if seed % 10 == 0:
            answer = served.post(data=good).json()["predictions"]
            assert [item["class"] for item in answer] == [item["class"] for item in expected]
        return response.status_code, response.text

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(send, range(INPUTS)))
    assert {status for status, _ in answers} <= {200, 400, 413, 415, 422}, [each for each in answers if each[0] >= 500]
    assert sum(status != 200 for status, _ in answers) > INPUTS / 2


@pytest.mark.slow
def test_openapi_document_describes_what_the_gateway_does(served, tmp_path):
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{served.url}/openapi.json"]
    command += ["--max-examples", "5", "--generation-deterministic", "--no-shrink", "--no-color"]
    # Random bytes that fit the schema are not sound, so most requests that it allows are refused.
    command += ["--continue-on-failure", "--exclude-checks", "positive_data_acceptance"]
    environment = {**os.environ, "NO_PROXY": "*"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-4000:]
