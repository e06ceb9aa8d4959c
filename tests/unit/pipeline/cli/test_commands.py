"""The `audiocnn` command: what it refuses is one sentence and status 2, and it leaves nothing behind."""

import socket
from pathlib import Path

import pytest
from click.testing import Result
from helpers.project import ROOT
from helpers.torchserve import free_ports
from typer.testing import CliRunner

from components.deploy.settings import DeploySettings
from pipeline.cli import app


@pytest.fixture
def elsewhere(workplace: Path) -> list[str]:
    """Options that lead away from a TorchServe that may run on this machine."""
    given = ["--params", str(ROOT / "params.yaml")]
    for key, port in zip(("inference", "management", "metrics"), free_ports(3), strict=True):
        given += ["--set", f"deploy.{key}=http://127.0.0.1:{port}"]
    return given


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def assert_refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("error: ") == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("command", ["demo", "run", "down", "status", "deploy", "key", "rollback"])
def test_a_misspelt_setting_is_named(command: str, workplace: Path) -> None:
    result = call(command, "--params", str(ROOT / "params.yaml"), "--set", "train.epoch=3")
    assert_refused(result, "unknown key train.epoch", "epochs")
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("command", ["demo", "run"])
def test_what_runs_on_this_machine_offers_no_nodes(command: str, workplace: Path) -> None:
    result = call(command, "--nodes", "2")
    assert result.exit_code == 2 and "No such option" in result.stderr and list(workplace.iterdir()) == []


def test_settings_that_are_not_there_are_named(workplace: Path) -> None:
    assert_refused(call("status"), "params.yaml: cannot be read")


def test_data_that_are_not_there_are_named_before_anything_starts(elsewhere: list[str], workplace: Path) -> None:
    for name in ("nowhere", "nowhere.zip"):
        assert_refused(call("demo", "--data", name, *elsewhere), f"'{name}': there is no such file or folder")
    assert_refused(call("run", "--source", ".", *elsewhere), "'.' holds no meta/esc50.csv")
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("command", [["demo"], ["run"], ["rollback"], ["approve", "1"]])
def test_a_port_that_is_taken_is_named_before_anything_starts(
    command: list[str], elsewhere: list[str], workplace: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(elsewhere[-1].rpartition(":")[2])))
        other.listen()
        result = call(*command, *elsewhere)
    assert_refused(result, "deploy.metrics: port", "is taken", "--set deploy.inference=", "ARGS=")
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        (["demo", "--fold", "9"], "no fold 9 in demo; there are 1, 2, 3, 4, 5"),
        (["demo", "--data", "clips", "--fold", "0"], "no fold 0 in clips; there are 1, 3"),
        (["run", "--source", "clips"], "no fold 5 in clips; there are 1, 3"),
    ],
)
def test_a_test_fold_that_is_not_there_is_named_before_anything_starts(
    arguments: list[str], there: str, elsewhere: list[str], workplace: Path
) -> None:
    (workplace / "clips" / "meta").mkdir(parents=True)
    (workplace / "clips" / "meta" / "esc50.csv").write_text("filename,fold\na.wav,3\nb.wav,1\nc.wav,\n")
    assert_refused(call(*arguments, *elsewhere), "train.fold", there, "FOLD=")
    assert [path.name for path in workplace.iterdir()] == ["clips"]


def test_a_block_that_is_set_to_a_value_is_named(elsewhere: list[str], workplace: Path) -> None:
    assert_refused(call("demo", *elsewhere, "--set", "train=3"), "train: expected a mapping")


def test_an_empty_source_does_not_pass_for_the_embedded_clips(elsewhere: list[str], workplace: Path) -> None:
    assert_refused(call("demo", "--data", "", *elsewhere), "source '' is of no known kind")


def test_a_step_that_refuses_its_input_ends_the_run_with_its_sentence(elsewhere: list[str], workplace: Path) -> None:
    (workplace / "clips" / "meta").mkdir(parents=True)
    (workplace / "clips" / "audio").mkdir()
    (workplace / "clips" / "meta" / "esc50.csv").write_text("filename,fold,target,category,src_file\na.wav,1,0,dog,1\n")
    result = call("run", "--source", "clips", *elsewhere, "--set", "train.fold=1")
    assert_refused(result, "Ingest clips: ", "a.wav", "The whole log: var/logs/training-")
    assert "[ingest]" in result.stdout or "ingest: failed" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["crossval", "--folds", "1;2"], "--folds 1;2: expected all, or numbers"),
        (["crossval", "--set", "train.epoch=3"], "unknown key train.epoch"),
        (["sweep", "--grid", "train.max_lr"], "expected a key of the block train and values"),
        (["sweep", "--grid", "train.epoch=1,2"], "unknown key train.epoch"),
        (["sweep", "--grid", "train.max_lr=0.001"], "holds one trial"),
        (["submit", "http://127.0.0.1:9", "--folds", "x"], "--folds x"),
        (["submit", "http://127.0.0.1:9", "--grid", "train.fold=1,2"], "sets train.fold"),
        (["submit", "http://127.0.0.1:9", "--folds", "all", "--nodes", "2"], "--nodes is for one training"),
        (["submit", "http://127.0.0.1:9", "--folds", "all", "--gpus-per-node", "1"], "--gpus-per-node is for one"),
        (["submit", "http://127.0.0.1:9", "--gpus-per-node", "4"], "--gpus-per-node is for several nodes"),
        (["submit", "http://127.0.0.1:9", "--seeds", "3"], "--seeds is for a cross-validation or a sweep"),
        (["crossval", "--folds", "1,1"], "folds: one stands there twice: 1, 1"),
        (["crossval", "--folds", "-1"], "folds: expected whole numbers from 0 on"),
        (["crossval", "--folds", "1,9"], "--folds 1,9: there is no fold 9 in demo; there are 1, 2, 3, 4, 5"),
        (["crossval", "--folds", "1,2", "--set", "train.hold_out=[2]"], "fold 2 is held out"),
        (["crossval", "--set", "train.hold_out=[7]"], "train.hold_out: there is no fold 7 in demo"),
        (["sweep", "--folds", "4,5", "--grid", "train.max_lr=0.001,0.002"], "fold 5 is held out"),
        (["sweep", "--grid", "train.max_lr=0.001,1e-3"], "the trials 'max_lr=0.001' and 'max_lr=1e-3' are the same"),
    ],
)
def test_a_cross_validation_or_sweep_that_cannot_be_is_one_sentence(
    arguments: list[str], words: str, elsewhere: list[str], workplace: Path
) -> None:
    assert_refused(call(*arguments, *elsewhere), words)
    assert list(workplace.iterdir()) == []


def test_a_source_of_a_cross_validation_that_is_not_there_is_named(elsewhere: list[str], workplace: Path) -> None:
    assert_refused(call("crossval", "--source", "nowhere", *elsewhere), "'nowhere': there is no such file or folder")
    assert list(workplace.iterdir()) == []


def test_a_cross_validation_needs_two_folds_that_are_not_held_out(elsewhere: list[str], workplace: Path) -> None:
    held = ["--set", "train.hold_out=[1,2,3,4]"]
    words = ("demo has fold 1, 2, 3, 4, 5", "train.hold_out=[1, 2, 3, 4] leaves 1", "two are needed")
    assert_refused(call("crossval", "--source", "demo", *held, *elsewhere), *words)
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("seeds", ["0", "1000000", "99999999999999999999"])
def test_seeds_are_so_many_as_anybody_trains(seeds: str, workplace: Path) -> None:
    result = call("crossval", "--params", str(ROOT / "params.yaml"), "--seeds", seeds)
    assert result.exit_code == 2 and "or equal to 1" in result.stderr and list(workplace.iterdir()) == []


def test_asking_an_endpoint_that_does_not_run_says_how_to_start_it(elsewhere: list[str], workplace: Path) -> None:
    (workplace / "clip.wav").write_bytes(b"RIFF")
    assert_refused(call("classify", "clip.wav", *elsewhere), "no TorchServe answers", "audiocnn deploy")
    assert_refused(call("classify", "gone.wav", "lost.wav", *elsewhere), "gone.wav: No such", "lost.wav: No such")
    assert_refused(call("key", *elsewhere), "no inference key")


def test_status_of_a_fresh_checkout(elsewhere: list[str]) -> None:
    result = call("status", *elsewhere, "--set", "register.name=nothing-yet")
    assert result.exit_code == 0
    assert "champion    none" in result.stdout and "no TorchServe answers" in result.stdout


def test_nothing_to_stop_deploy_or_take_back_is_said(elsewhere: list[str]) -> None:
    assert "Nothing was running" in call("down", *elsewhere).stdout
    nameless = [*elsewhere, "--set", "register.name=nothing-yet"]
    assert_refused(call("deploy", *nameless), "no version under the alias champion")
    assert_refused(call("rollback", *nameless), "no champion to go back to")
    assert_refused(call("approve", "1", *nameless), "has no version 1")


def test_help_of_every_command_names_its_options() -> None:
    for command in app.registered_commands:
        name = command.name or command.callback.__name__  # type: ignore[union-attr]
        result = call(name, "--help")
        assert result.exit_code == 0 and "Usage" in result.stdout


def test_the_defaults_listen_on_loopback() -> None:
    from pipeline import settings as pipeline_settings

    deploy: DeploySettings = pipeline_settings.load(ROOT / "params.yaml").deploy
    assert all(url.startswith("http://127.0.0.1:") for url in (deploy.inference, deploy.management, deploy.metrics))
