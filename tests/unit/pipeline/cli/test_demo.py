"""What the demo makes of its arguments, and the line for the shell that it shows."""

import dataclasses
import shlex
import subprocess
from pathlib import Path

import pytest
from helpers.project import ROOT
from rich.console import Console

from components.ingest.sources import SourceError
from pipeline.cli import demo, endpoint
from pipeline.run import Run, RunError
from pipeline.settings import PipelineSettings


def table(folder: Path, text: str) -> Path:
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("data", "fold", "used"),
    [("set", None, 7), ("set", 3, 3), ("s3://b/set", None, 5), ("esc50", None, 5), ("esc50", 2, 2), (None, None, 5)],
)
def test_data_may_be_any_source_whether_its_folds_are_known_beforehand_or_not(
    data: str | None, fold: int | None, used: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    table(tmp_path / "set", "filename,fold\na.wav,7\nb.wav,3\n")
    asked: list[dict] = []
    monkeypatch.setattr(demo, "run_local", lambda arguments, console: asked.append(arguments))
    monkeypatch.setattr(demo, "conclude", lambda *_: None)
    demo.demo(ROOT / "params.yaml", {"deploy": {"start": False}}, data, fold, Console())
    assert asked[0]["source"] == (data or "demo") and asked[0]["train"]["fold"] == used


def test_a_source_is_shown_as_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "road", lambda *_, **__: None)
    (tmp_path / "q[" / "b]").mkdir(parents=True)
    table(tmp_path / "q[" / "b]", "filename,fold\na.wav,2\n")
    demo.demo(ROOT / "params.yaml", {}, "q[/b]", None, Console(width=500))
    assert "Test fold: 2, the highest in q[/b] (" in capsys.readouterr().out


def test_an_answer_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"predictions": [{"class": "dog [/old]", "probability": 0.5}]}
    Console(width=200).print(endpoint.table(answer, "[night] a[/b].wav"))
    said = capsys.readouterr().out
    assert "[night] a[/b].wav" in said and "dog [/old]" in said


def test_a_source_of_no_kind_is_refused_before_anything_starts(tiny: PipelineSettings) -> None:
    with pytest.raises(SourceError, match="no known kind"):
        demo.run_arguments(tiny, "gs://bucket/clips")


def test_the_real_clips_have_no_fold_5_and_the_demo_finds_that_out(
    real_clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[PipelineSettings] = []
    monkeypatch.setattr(demo, "road", lambda settings, *_, **__: asked.append(settings))
    demo.demo(ROOT / "params.yaml", {}, str(real_clips), None, Console(width=500))
    assert asked[0].train.fold == 4 and "Test fold: 4, the highest in" in capsys.readouterr().out
    demo.demo(ROOT / "params.yaml", {"train": {"fold": 2}}, str(real_clips), None, Console(width=500))
    assert asked[1].train.fold == 2 and "Test fold" not in capsys.readouterr().out
    demo.demo(ROOT / "params.yaml", {"train": {"hold_out": [4]}}, str(real_clips), None, Console(width=500))
    assert asked[2].train.fold == 3 and "3, the highest that is not held out, in" in capsys.readouterr().out
    with pytest.raises(demo.DemoError, match="there is no fold 5 in"):
        demo.check_fold(str(real_clips), 5)


def test_the_line_for_the_shell_survives_names_with_spaces_and_keeps_the_key_out(tiny: PipelineSettings) -> None:
    line = endpoint.curl("my clips/a 'b'.wav", tiny)
    words = shlex.split(line)
    assert words[words.index("-T") + 1] == "my clips/a 'b'.wav"
    assert words[-1] == f"{tiny.deploy.inference}/predictions/{tiny.register.name}"
    assert f"key {tiny.deploy.state})" in line


def test_further_commands_are_shown_with_the_options_that_name_the_endpoint() -> None:
    given = ["deploy.inference=http://127.0.0.1:9080", "train.epochs=3", "register.name=mine"]
    assert endpoint.options(Path("params.yaml"), []) == ""
    shown = shlex.split(endpoint.options(Path("my params.yaml"), given))
    assert shown == ["--params", "my params.yaml", "--set", given[0], "--set", given[2]]


def test_a_run_that_fails_at_its_last_step_says_that_deploying_is_enough(
    tiny: PipelineSettings, tmp_path: Path
) -> None:
    def fails(*_: object, **__: object) -> Run:
        raise RunError("Deploy: port 8080 is taken", task="deploy")

    with pytest.raises(RunError, match=r"is taken\nThe champion has moved already: `.*audiocnn deploy --set a=b` is"):
        demo.road(tiny, "demo", fails, Console(), options=" --set a=b")


def test_the_command_that_is_shown_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = subprocess.run(["/bin/sh", "-c", f"{endpoint.command()} --help"], capture_output=True, text=True)
    assert done.returncode == 0 and "classify" in done.stdout


def test_every_parameter_of_the_pipeline_is_given_by_the_settings(tiny: PipelineSettings) -> None:
    from pipeline import graph
    from pipeline.run import TRAINING

    arguments = demo.run_arguments(tiny, "demo")
    assert set(graph.read(TRAINING).parameters) - set(arguments) == {"cache", "checkpoints"}
    assert {field.name for field in dataclasses.fields(tiny)} < set(arguments)
    assert len(arguments["code_digest"]) == 64
