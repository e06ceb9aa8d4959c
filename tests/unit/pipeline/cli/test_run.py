"""How `audiocnn demo` and `audiocnn run` use their arguments."""

from pathlib import Path

import pytest
from helpers.project import ROOT

from components.plan_trials.request import PlanError
from pipeline import local
from pipeline.cli.options import EndpointOptions
from pipeline.cli.run import demo_settings, run_and_report
from pipeline.experiments import check_fold
from pipeline.local import Run
from pipeline.run_folders import RunError
from pipeline.settings import PipelineSettings, load

PARAMS = ROOT / "params.yaml"


def write_table(folder: Path, text: str) -> None:
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "esc50.csv").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("data", "overrides", "fold"),
    [
        ("set", [], 7),
        ("set", ["train.fold=3"], 3),
        ("set", ["train.hold_out=[7]"], 3),
        ("s3://b/set", [], 5),
        ("esc50", [], 5),
        (None, [], 5),
    ],
)
def test_demo_tests_on_the_highest_known_fold(
    data: str | None, overrides: list[str], fold: int, workplace: Path
) -> None:
    write_table(workplace / "set", "filename,fold\na.wav,7\nb.wav,3\n")
    settings = demo_settings(PARAMS, overrides, data)
    assert (settings.train.fold, settings.recipe) == (fold, "demo")


def test_demo_shows_the_fold_that_it_chose(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(workplace / "q[" / "b]", "filename,fold\na.wav,2\n")
    demo_settings(PARAMS, [], "q[/b]")
    assert "Test fold: 2, the highest in q[/b] (" in capsys.readouterr().out
    demo_settings(PARAMS, ["train.fold=2"], "q[/b]")
    assert capsys.readouterr().out == ""


def test_real_clips_have_no_fold_5(real_clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo_settings(PARAMS, [], str(real_clips)).train.fold == 4
    assert "Test fold: 4, the highest in" in capsys.readouterr().out
    assert demo_settings(PARAMS, ["train.hold_out=[4]"], str(real_clips)).train.fold == 3
    assert "3, the highest that is not held out, in" in capsys.readouterr().out
    with pytest.raises(PlanError, match="has no fold 5"):
        check_fold(load().train, str(real_clips))


def test_a_failed_deployment_can_be_repeated_alone(tiny: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Run:
        raise RunError("Deploy: port 8080 is taken", "deploy", 2)

    monkeypatch.setattr(local, "run_training", fail)
    settings = tiny.replace(deploy=tiny.deploy.replace(start=False))
    with pytest.raises(
        RunError, match=r"is taken\nThe champion has been moved already: .*audiocnn deploy --set deploy.workers=2`"
    ):
        run_and_report(settings, "demo", EndpointOptions(assignments=["train.epochs=1", "deploy.workers=2"]))
