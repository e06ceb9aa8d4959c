"""Steps in containers, with a fake `docker` that records its command line."""

import json
import os
import signal
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from components.ingest.sources import parse_source
from mlops.image import IMAGE
from pipeline import settings as pipeline_settings
from pipeline.containers import ContainerError, container_steps, find_engine
from pipeline.local import run_training
from pipeline.run_folders import RunError
from pipeline.settings import PipelineSettings

DOCKER = """import json, os, sys, time
from pathlib import Path
arguments = sys.argv[1:]
if arguments[0] == "image":
    sys.exit("Error: no such image" if os.environ.get("NO_IMAGE") else 0)
if arguments[0] == "rm":
    sys.exit()
if arguments[0] == "container":
    sys.exit(print(os.environ["STATUS"] if os.environ.get("FAILS", "none") in arguments[-1] else 0))
with open("calls.jsonl", "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
step = next(word for word in arguments if word.startswith("components.")).removeprefix("components.")
print(f"[{step}] in a container")
if os.environ.get("SLEEP"):
    try:
        print("asleep", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        Path("interrupted").touch()
        raise
if step == os.environ.get("FAILS"):
    print("error: clip 7 is too short\\nremove it", file=sys.stderr)
    sys.exit(0 if os.environ.get("LOSES_STATUS") else int(os.environ["STATUS"]))
output = Path(arguments[arguments.index("--output") + 1])
output.mkdir()
if step == "promote":
    record = dict(outcome=os.environ.get("OUTCOME", "promote"), reasons=[], name="a", challenger=1, champion=None)
    record |= dict(comparison=None, policy={}, decided_at="2026-01-01T00:00:00Z")
    (output / "decision.json").write_text(json.dumps(record))
"""


@pytest.fixture(autouse=True)
def docker(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a fake engine on the PATH, alone."""
    engine = workplace / "bin" / "docker"
    engine.parent.mkdir()
    script = workplace / "docker.py"
    script.write_text(DOCKER, encoding="utf-8")
    engine.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n', encoding="utf-8")
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", str(engine.parent))
    monkeypatch.delenv("DOCKER", raising=False)
    return engine


def calls() -> dict[str, list[str]]:
    """Return the arguments of `docker run` by step."""
    lines = [json.loads(line) for line in Path("calls.jsonl").read_text().splitlines()]
    return {line[line.index("-m") + 1].removeprefix("components."): line for line in lines}


def values(arguments: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(arguments) if name == option]


def clips(folder: Path) -> Path:
    """Write the skeleton of a data set."""
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").touch()
    return folder


def test_every_step_runs_in_a_container(tiny: PipelineSettings, workplace: Path) -> None:
    run = run_training(tiny, "demo", containers=True)
    assert list(calls()) == run.executed == list(run.executed) and run.executed[-1] == "deploy"
    arguments = calls()["evaluate"]
    assert arguments[0] == "run"
    assert values(arguments, "--user") == [f"{os.getuid()}:{os.getgid()}"]
    assert values(arguments, "--network") == ["host"]
    assert values(arguments, "--workdir") == [str(workplace)]
    assert values(arguments, "--mount") == [f"type=bind,source={workplace}/var,target={workplace}/var"]
    assert arguments[arguments.index(IMAGE) :] == [
        *(IMAGE, "python", "-m", "components.evaluate", "--params", str(run.folder / "params.yaml")),
        *("--model", str(run.output("train")), "--spectrograms", str(run.output("spectrograms"))),
        *("--dataset", str(run.output("ingest")), "--output", str(run.output("evaluate"))),
    ]
    assert "[evaluate] in a container" in run.log.read_text()


def test_options_of_the_steps_are_those_of_their_command_lines(tiny: PipelineSettings) -> None:
    run_training(tiny, "demo", containers=True)
    for step, arguments in calls().items():
        command_line = typer.Typer(add_completion=False)
        command_line.command()(import_module(f"components.{step}.__main__").main)
        known = {name for parameter in typer.main.get_command(command_line).params for name in parameter.opts}
        options = {word for word in arguments[arguments.index(IMAGE) :] if word.startswith("--")}
        assert options and options <= known, step


def test_resolved_settings_reach_the_containers(tiny: PipelineSettings) -> None:
    run = run_training(tiny, "demo", containers=True)
    read = pipeline_settings.load(run.folder / "params.yaml")
    assert read == tiny.replace(deploy=tiny.deploy.replace(start=False))


@pytest.mark.parametrize("name", ["clips", "clips.zip"])
def test_local_sources_are_mounted_read_only(name: str, tiny: PipelineSettings, workplace: Path) -> None:
    if name.endswith(".zip"):
        Path(name).touch()
    else:
        clips(workplace / name)
    run_training(tiny, name, containers=True)
    path = workplace / name
    arguments = calls()["ingest"]
    assert values(arguments, "--source") == [str(path)]
    assert values(arguments, "--mount")[1:] == [f"type=bind,source={path},target={path},readonly"]


@pytest.mark.parametrize("source", ["demo", "esc50", "s3://bucket/x"])
def test_other_sources_are_not_mounted(source: str, tiny: PipelineSettings, workplace: Path) -> None:
    for name in ("demo", "esc50"):
        (workplace / name).mkdir()  # not sources, though they are folders
    run_training(tiny, source, containers=True)
    assert values(calls()["ingest"], "--source") == [source] and len(values(calls()["ingest"], "--mount")) == 1


def test_credentials_are_passed_and_nothing_else(tiny: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"AWS_ENDPOINT_URL", "AUDIOCNN_DVC_REMOTE", "AUDIOCNN_INFERENCE_KEYS", "MLFLOW_TRACKING_URI"}
    for name in (*own, "SECRET_OF_ANOTHER"):
        monkeypatch.setenv(name, "x")
    run_training(tiny, "demo", containers=True)
    passed = set(values(calls()["train"], "--env"))
    assert {*own, "HOME=/tmp"} < passed
    assert "SECRET_OF_ANOTHER" not in passed


def test_a_refused_model_is_not_deployed(tiny: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCOME", "refuse")
    assert run_training(tiny, "demo", containers=True).executed[-1] == "promote"


@pytest.mark.parametrize("lost", ["", "1"])
@pytest.mark.parametrize(
    ("status", "expected", "message"), [("2", 2, "Train: clip 7"), ("137", 1, "Train: RuntimeError: .* status 137")]
)
def test_a_failed_container_is_reported(
    status: str, expected: int, message: str, lost: str, tiny: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "train")
    monkeypatch.setenv("STATUS", status)
    monkeypatch.setenv("LOSES_STATUS", lost)
    with pytest.raises(RunError, match=rf"{message}.*too short\nremove it\nThe whole log: var/logs/") as raised:
        run_training(tiny, "demo", containers=True)
    assert raised.value.status == expected and "evaluate" not in calls()


def test_missing_engine_or_image_is_reported(
    docker: Path, tiny: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_IMAGE", "1")
    with pytest.raises(ContainerError, match=r"no such image.*make images"):
        run_training(tiny, "demo", containers=True)
    assert not Path("var").exists()
    docker.rename(docker.with_name("podman"))
    monkeypatch.delenv("NO_IMAGE")
    assert find_engine() == str(docker.with_name("podman"))
    monkeypatch.setenv("DOCKER", "nerdctl")
    with pytest.raises(ContainerError, match="nerdctl: not found"):
        find_engine()


def test_an_interrupt_reaches_the_container(
    tiny: PipelineSettings, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLEEP", "1")
    steps = container_steps(find_engine(), tiny, parse_source("demo"), workplace)

    def interrupt(line: str, **_: Any) -> None:
        if line == "asleep\n":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("pipeline.containers.print", interrupt, raising=False)
    with pytest.raises(KeyboardInterrupt):
        steps["ingest"](source="demo", output=workplace / "dataset")
    assert Path("interrupted").exists()
