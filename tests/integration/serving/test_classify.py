"""`audiocnn classify` with a real gateway and TorchServe: the answers of one process, also about long recordings."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
import soundfile
from helpers.ffmpeg import convert
from helpers.gateway import gateway
from helpers.project import ROOT
from helpers.responses import problem, responding
from helpers.torchserve import CLASSES, build, encode, free_ports, noise, small_model, workers
from typer.testing import CliRunner

from audiocnn.analysis import classify_windows, compute_spectrograms
from audiocnn.recordings import AnswerOptions, build_answer, read_windows
from audiocnn.streams import open_stream
from audiocnn.windows import Grid, chunks, cut
from pipeline.cli import app
from serving.gateway.client import GatewayClient

pytestmark = pytest.mark.xdist_group("torchserve")
SILENCE = np.zeros((12 * 44100, 1), np.float32)
LONG = encode(np.concatenate([noise(17.0), SILENCE, noise(13.3, seed=1)]), kind="FLAC")


def classify(*arguments):
    given = ["classify", "--params", str(ROOT / "params.yaml"), *map(str, arguments)]
    return CliRunner().invoke(app, given, catch_exceptions=False)


def port(served):
    return ("--set", f"gateway.port={urlsplit(served.url).port}")


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


def test_a_long_recording_gets_the_answer_of_one_process(running, served, tmp_path):
    (tmp_path / "long.flac").write_bytes(LONG)
    result = classify(tmp_path / "long.flac", "--events", "--format", "json", "--top-k", 6, *port(served))
    (answer,) = json.loads(result.stdout)
    _, expected = in_process(running, LONG)
    assert answer["silent_seconds"] >= 5 and answer["clip"] == {"seconds": 42.3, "rate": 44100, "channels": 1}
    assert answer["model"] == {"name": "sounds", "version": 1, "dataset": "d" * 64}
    assert_same(answer, expected)


def test_a_broken_file_is_a_row_and_ffmpeg_decodes_here(running, served, tmp_path):
    convert(encode(noise()), tmp_path / "phone.m4a")
    (tmp_path / "text.wav").write_text("not a sound")
    result = classify(tmp_path, "--format", "json", *port(served))
    phone, text = json.loads(result.stdout)
    assert (result.exit_code, text["reason"]) == (1, "undecodable")
    assert phone["label"] in CLASSES and phone["clip"]["seconds"] == pytest.approx(1.0, abs=0.1)


def test_the_key_is_read_from_the_environment(running, tmp_path, monkeypatch):
    (tmp_path / "clip.wav").write_bytes(encode(noise()))
    with gateway(tmp_path, running.settings, "sounds", f"alice:{'a' * 32}") as guarded:
        arguments = (tmp_path / "clip.wav", "--url", f"{guarded.url}/")
        missing = classify(*arguments)
        monkeypatch.setenv("AUDIOCNN_KEY", "b" * 32)
        wrong = classify(*arguments)
        monkeypatch.setenv("AUDIOCNN_KEY", "a" * 32)
        right = classify(*arguments)
    assert "needs a key: set the environment variable AUDIOCNN_KEY to yours (HTTP 401)" in missing.stderr
    assert "refuses the key in the environment variable AUDIOCNN_KEY (HTTP 403)" in wrong.stderr
    assert [result.exit_code for result in (missing, wrong, right)] == [2, 2, 0]
    assert "a" * 32 not in right.output + guarded.log.read_text() and "b" * 32 not in wrong.output


def after_answers(monkeypatch, count, act):
    """Call a function when the client has got this number of answers, before it sends its next request."""
    send, answers = GatewayClient.classify, []

    def counted(client, sound, **options):
        answers.append(send(client, sound, **options))
        if len(answers) == count:
            act()
        return answers[-1]

    monkeypatch.setattr(GatewayClient, "classify", counted)


def long_file(folder):
    file = folder / "long.flac"
    file.write_bytes(encode(noise(120.0, 8000), 8000, "FLAC"))
    return file


@pytest.mark.slow
def test_a_killed_worker_costs_no_row(running, served, tmp_path, monkeypatch):
    def kill() -> None:
        for worker in workers(Path(running.settings.state)):
            worker.suspend()  # so that it has the next request when it is killed
            threading.Timer(2.5, worker.kill).start()  # before the gateway repeats the request by itself

    after_answers(monkeypatch, 3, kill)
    result = classify(long_file(tmp_path), "--format", "json", *port(served))
    (answer,) = json.loads(result.stdout)
    assert (result.exit_code, answer["analyzed_seconds"]) == (0, 120.0)
    assert any(line["retries"] for line in map(json.loads, served.log.read_text().splitlines()) if "retries" in line)


@pytest.mark.slow
def test_a_recording_is_classified_by_one_version(running, served, tmp_path, monkeypatch):
    small_model(tmp_path / "two", seed=2)
    index = build(tmp_path / "two", "sounds", 2, running.model_store)
    running.client.register(index)
    after_answers(monkeypatch, 3, lambda: running.client.set_default("sounds", index.served_version))
    try:
        result = classify(long_file(tmp_path), "--format", "json", "--top-k", 6, *port(served))
    finally:
        running.client.set_default("sounds", running.version)
        running.client.unregister("sounds", index.served_version)
        (running.model_store / index.archive).unlink()
    (answer,) = json.loads(result.stdout)
    assert (answer["model"]["version"], answer["analyzed_seconds"]) == (2, 120.0)


def test_answers_are_kept_when_the_gateway_ends(running, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.gateway.client.PATIENCE", 0.5)
    (tmp_path / "clip.wav").write_bytes(encode(noise()))
    with gateway(tmp_path, running.settings, "sounds") as started:
        after_answers(monkeypatch, 4, started.process.kill)
        result = classify(tmp_path / "clip.wav", long_file(tmp_path), "--format", "json", *port(started))
    clip, long = json.loads(result.stdout)
    assert (result.exit_code, clip["model"]["version"], long["reason"]) == (1, 1, "endpoint")
    assert "cannot be reached (Connection refused): start it with `audiocnn serve`" in long["error"]


MEMORY = """
import sys
from helpers.memory import peak_megabytes
from typer.testing import CliRunner
from pipeline.cli import app

for file in sys.argv[1:3]:
    result = CliRunner().invoke(app, ["classify", file, *sys.argv[3:]])
    print(result.exit_code, peak_megabytes())
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(served, tmp_path):
    minute = noise(60.0, 8000)
    for name, hours in (("short", 0.1), ("long", 1.1)):  # the gateway itself refuses more than an hour
        with soundfile.SoundFile(tmp_path / f"{name}.flac", "w", 8000, 1, "PCM_16", format="FLAC") as sound:
            for index in range(round(hours * 60)):
                sound.write(minute if index % 30 == 0 else 0 * minute)
    files = [str(tmp_path / f"{name}.flac") for name in ("short", "long")]
    command = [sys.executable, "-c", MEMORY, *files, *port(served)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    (short, megabytes), (long, more) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert short == long == 0
    assert more - megabytes < 40  # the samples alone are 127 MB


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


def test_without_a_gateway_nothing_is_written(tmp_path):
    (tmp_path / "clip.wav").write_bytes(encode(noise()))
    output = tmp_path / "result.csv"
    (free,) = free_ports(1)
    result = classify(tmp_path / "clip.wav", "--format", "csv", "--output", output, "--set", f"gateway.port={free}")
    assert result.exit_code == 2 and not output.exists()
    remedy = "start it with `audiocnn serve`, or deploy a version with `audiocnn deploy`; `audiocnn classify --local`"
    assert f"the gateway at http://127.0.0.1:{free} cannot be reached" in result.stderr and remedy in result.stderr


def test_what_does_not_return_windows_is_refused(running, tmp_path):
    clip = tmp_path / "clip.wav"
    clip.write_bytes(encode(noise()))
    with responding((200, {}, {}), problem(400, "invalid_option")) as older:
        result = classify(clip, "--url", older.url)
        assert result.exit_code == 2 and "is of an older release, which does not return windows" in result.stderr
    result = classify(clip, "--url", running.settings.inference)
    assert result.exit_code == 2 and "this is not an answer of the gateway" in result.stderr
    with gateway(tmp_path, running.settings, "another") as empty:
        result = classify(clip, "--url", empty.url)
    assert result.exit_code == 2 and "the model did not answer within 5 s" in result.stderr
