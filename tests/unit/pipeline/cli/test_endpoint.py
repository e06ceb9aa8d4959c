"""Commands and answers that address the endpoint."""

import shlex
import subprocess
from pathlib import Path

import pytest
from helpers.project import ROOT
from rich.console import Console

from pipeline.cli.classify_output import answer_table, print_tables
from pipeline.cli.endpoint import curl_command
from pipeline.cli.options import EndpointOptions, command_name
from pipeline.settings import PipelineSettings


def test_answers_show_names_literally(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"predictions": [{"class": "dog [/old]", "probability": 0.5}]}
    name = "a/path/longer/than/the/terminal/is/wide/" * 2 + "[night] a[/b].wav"
    Console(width=60).print(answer_table(answer, name), soft_wrap=True)
    first, second = capsys.readouterr().out.splitlines()
    assert first == name and "dog [/old]" in second


@pytest.mark.parametrize("files", [1, 2])
def test_an_unknown_sound_is_said_of_one_file_too(capsys: pytest.CaptureFixture[str], files: int) -> None:
    answer = {"file": "a.wav", "predictions": [{"class": "dog", "probability": 0.5}], "label": "unknown"}
    answer |= {"silent_seconds": 0, "clip": {"seconds": 5.0}}
    print_tables([answer] * files, False, Console(width=80))
    assert capsys.readouterr().out.count("unknown: below the threshold of the class") == files
    print_tables([{**answer, "label": "dog"}] * files, False, Console(width=80))
    assert "threshold" not in capsys.readouterr().out


def test_curl_command_quotes_names_and_sends_to_the_gateway(tiny: PipelineSettings) -> None:
    words = shlex.split(curl_command("my clips/a 'b'.wav", tiny))
    assert words == ["curl", "-sSg", "-T", "my clips/a 'b'.wav", f"http://127.0.0.1:{tiny.gateway.port}/classify"]


def test_curl_command_for_a_gateway_with_keys_hides_that_of_torchserve(
    tiny: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOCNN_GATEWAY_KEYS", "me:0123456789abcdef")
    command = curl_command("my clips/a 'b'.wav", tiny)
    words = shlex.split(command)
    assert words[words.index("-T") + 1] == "my clips/a 'b'.wav"
    assert words[-1] == f"{tiny.deploy.inference}/predictions/{tiny.register.name}"
    assert f"key {tiny.deploy.state})" in command


def test_endpoint_options_select_the_same_endpoint() -> None:
    overrides = ["deploy.inference=http://127.0.0.1:9080", "train.epochs=3", "register.name=mine", "gateway.port=9000"]
    assert EndpointOptions().text() == ""
    words = shlex.split(EndpointOptions(Path("my params.yaml"), overrides).text())
    assert words == ["--params", "my params.yaml", "--set", overrides[0], "--set", overrides[2], "--set", overrides[3]]


def test_command_name_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = subprocess.run(["/bin/sh", "-c", f"{command_name()} --help"], capture_output=True, text=True)
    assert done.returncode == 0 and "classify" in done.stdout
