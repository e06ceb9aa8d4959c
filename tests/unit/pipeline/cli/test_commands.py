"""The `audiocnn` command: errors are one sentence and status 2, and leave no files."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from click.testing import Result
from helpers.project import ROOT
from helpers.torchserve import free_ports
from typer.testing import CliRunner

from components.deploy.settings import DeploySettings
from pipeline.cli import app
from pipeline.cli.options import handle_errors
from pipeline.run_folders import RunError


@pytest.fixture
def free_endpoint(workplace: Path) -> list[str]:
    """Return options for ports that no TorchServe uses."""
    given = ["--params", str(ROOT / "params.yaml")]
    *ports, gateway = free_ports(4)
    given += ["--set", f"gateway.port={gateway}"]
    for key, port in zip(("inference", "management", "metrics"), ports, strict=True):
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
def test_misspelt_settings_are_named(command: str, workplace: Path) -> None:
    result = call(command, "--params", str(ROOT / "params.yaml"), "--set", "train.epoch=3")
    assert_refused(result, "train.epoch: unknown key", "epochs")
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("command", ["demo", "run"])
def test_local_runs_have_no_option_for_nodes(command: str, workplace: Path) -> None:
    result = call(command, "--nodes", "2")
    assert result.exit_code == 2 and "No such option" in result.stderr and list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], "No such command 'bogus'; see `root --help`"),
        (["run", "--epochs", "3"], "No such option: --epochs; see `root run --help`"),
        (["classify", "--format", "xml", "a.wav"], "Invalid value for '--format': 'xml' is not one of"),
        (["approve"], "Missing argument 'version'; see `root approve --help`"),
        (["demo", "--epochs", "0"], "Invalid value for '--epochs'"),
        (["cache", "gc"], "Missing option '--max-size'; see `root cache gc --help`"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: list[str], words: str, workplace: Path) -> None:
    assert_refused(call(*arguments), words)
    assert list(workplace.iterdir()) == []


def test_without_arguments_the_help_is_shown() -> None:
    result = call()
    assert "Usage:" in result.output and "error:" not in result.output and "demo" in result.output


def test_a_missing_settings_file_is_named(workplace: Path) -> None:
    assert_refused(call("status"), "params.yaml: there is no such file; change to its folder")


def test_a_missing_source_is_named_before_anything_starts(free_endpoint: list[str], workplace: Path) -> None:
    for name in ("nowhere", "nowhere.zip"):
        assert_refused(call("demo", "--data", name, *free_endpoint), f"'{name}': no such file or folder")
    assert_refused(call("run", "--source", ".", *free_endpoint), "'.' is not a data set: meta/esc50.csv")
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("command", [["demo"], ["run"], ["rollback"], ["approve", "1"]])
def test_a_taken_port_is_named_before_anything_starts(
    command: list[str], free_endpoint: list[str], workplace: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(free_endpoint[-1].rpartition(":")[2])))
        other.listen()
        result = call(*command, *free_endpoint)
    assert_refused(result, "deploy.metrics: port", "is in use", "--set deploy.inference=", "ARGS=")
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        (["demo", "--fold", "9"], "demo has no fold 9; its folds are 1, 2, 3, 4, 5"),
        (["demo", "--data", "clips", "--fold", "0"], "clips has no fold 0; its folds are 1, 3"),
        (["run", "--source", "clips"], "clips has no fold 5; its folds are 1, 3"),
    ],
)
def test_a_missing_test_fold_is_named_before_anything_starts(
    arguments: list[str], there: str, free_endpoint: list[str], workplace: Path
) -> None:
    (workplace / "clips" / "meta").mkdir(parents=True)
    (workplace / "clips" / "meta" / "esc50.csv").write_text("filename,fold\na.wav,3\nb.wav,1\nc.wav,\n")
    assert_refused(call(*arguments, *free_endpoint), "train.fold", there, "FOLD=")
    assert [path.name for path in workplace.iterdir()] == ["clips"]


def test_a_block_set_to_a_value_is_named(free_endpoint: list[str], workplace: Path) -> None:
    assert_refused(call("demo", *free_endpoint, "--set", "train=3"), "train: expected a mapping")


def test_an_empty_source_is_refused(free_endpoint: list[str], workplace: Path) -> None:
    assert_refused(call("demo", "--data", "", *free_endpoint), "source '' is unknown")


def test_the_error_of_a_step_ends_the_run(free_endpoint: list[str], workplace: Path) -> None:
    (workplace / "clips" / "meta").mkdir(parents=True)
    (workplace / "clips" / "audio").mkdir()
    (workplace / "clips" / "meta" / "esc50.csv").write_text("filename,fold,target,category,src_file\na.wav,1,0,dog,1\n")
    result = call("run", "--source", "clips", *free_endpoint, "--set", "train.fold=1")
    assert_refused(result, "Ingest clips: ", "a.wav", "The whole log: var/logs/training-")
    assert "[ingest]" in result.stdout or "ingest: failed" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["crossval", "--folds", "1;2"], "--folds 1;2: expected all, or numbers"),
        (["crossval", "--set", "train.epoch=3"], "train.epoch: unknown key"),
        (["sweep", "--grid", "train.max_lr"], "expected a key of the block train and its values"),
        (["sweep", "--grid", "train.epoch=1,2"], "train.epoch: unknown key"),
        (["sweep", "--grid", "train.max_lr=0.001"], "has one trial"),
        (["crossval", "--folds", "1,1"], "folds: 1 is duplicated"),
        (["crossval", "--folds", "-1"], "folds.0: should be greater than or equal to 0"),
        (["crossval", "--folds", "1,9"], "folds: demo has no fold 9; its folds are 1, 2, 3, 4, 5"),
        (["crossval", "--folds", "1,2", "--set", "train.hold_out=[2]"], "fold 2 is held out"),
        (["crossval", "--set", "train.hold_out=[7]"], "train.hold_out: demo has no fold 7"),
        (["sweep", "--folds", "4,5", "--grid", "train.max_lr=0.001,0.002"], "fold 5 is held out"),
        (
            ["sweep", "--grid", "train.max_lr=0.001,1e-3"],
            "the trials 'max_lr=0.001' and 'max_lr=1e-3' have the same settings",
        ),
    ],
)
def test_impossible_cross_validations_and_sweeps_are_refused(
    arguments: list[str], words: str, free_endpoint: list[str], workplace: Path
) -> None:
    assert_refused(call(*arguments, *free_endpoint), words)
    assert list(workplace.iterdir()) == []


def test_a_missing_source_of_a_cross_validation_is_named(free_endpoint: list[str], workplace: Path) -> None:
    assert_refused(call("crossval", "--source", "nowhere", *free_endpoint), "'nowhere': no such file or folder")
    assert list(workplace.iterdir()) == []


def test_a_cross_validation_needs_two_folds(free_endpoint: list[str], workplace: Path) -> None:
    held = ["--set", "train.hold_out=[1,2,3,4]"]
    words = ("train.hold_out=[1, 2, 3, 4] leaves 1 of the folds 1, 2, 3, 4, 5 of demo", "at least two are needed")
    assert_refused(call("crossval", "--source", "demo", *held, *free_endpoint), *words)
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("seeds", ["0", "1000000", "99999999999999999999"])
def test_the_number_of_seeds_is_limited(seeds: str, workplace: Path) -> None:
    result = call("crossval", "--params", str(ROOT / "params.yaml"), "--seeds", seeds)
    assert result.exit_code == 2 and "or equal to 1" in result.stderr and list(workplace.iterdir()) == []


def test_classify_without_an_endpoint_says_how_to_start_it(free_endpoint: list[str], workplace: Path) -> None:
    (workplace / "clip.wav").write_bytes(b"RIFF")
    assert_refused(call("classify", "clip.wav", *free_endpoint), "cannot be reached", "audiocnn deploy")
    assert_refused(call("key", *free_endpoint), "cannot read the inference key")


def test_status_of_a_fresh_checkout(free_endpoint: list[str]) -> None:
    result = call("status", *free_endpoint, "--set", "register.name=nothing-yet")
    assert result.exit_code == 0
    assert "champion    none" in result.stdout and "cannot be reached" in result.stdout


def test_nothing_to_stop_deploy_or_roll_back_is_reported(free_endpoint: list[str]) -> None:
    assert "Nothing was running" in call("down", *free_endpoint).stdout
    nameless = [*free_endpoint, "--set", "register.name=nothing-yet"]
    assert_refused(call("deploy", *nameless), "no version under the alias champion")
    assert_refused(call("rollback", *nameless), "no previous champion in its history")
    assert_refused(call("approve", "1", *nameless), "has no version 1")


def test_every_command_has_help() -> None:
    for command in app.registered_commands:
        name = command.name or command.callback.__name__  # type: ignore[union-attr]
        result = call(name, "--help")
        assert result.exit_code == 0 and "Usage" in result.stdout


def test_the_defaults_listen_on_loopback() -> None:
    from pipeline import settings as pipeline_settings

    deploy: DeploySettings = pipeline_settings.load(ROOT / "params.yaml").deploy
    assert all(url.startswith("http://127.0.0.1:") for url in (deploy.inference, deploy.management, deploy.metrics))


@pytest.mark.parametrize("status", [1, 2])
def test_a_failed_run_has_the_exit_status_of_its_error(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as raised, handle_errors():
        raise RunError("Train: it failed", "train", status)
    assert raised.value.exit_code == status and capsys.readouterr().err == "error: Train: it failed\n"


def test_commands_and_settings_load_without_slow_packages_and_with_passive_threads() -> None:
    program = "import os, sys, pipeline.cli, pipeline.recordings, pipeline.settings; "
    program += "print({'torch', 'mlflow', 'scipy'} & sys.modules.keys(), os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "set() PASSIVE\n"


def test_missing_data_is_reported_before_torchserve_is_checked(
    free_endpoint: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.servers.check_deploy", lambda _: pytest.fail("TorchServe was checked"))
    assert_refused(call("demo", "--data", "/nope", *free_endpoint), "/nope", "no such file or folder")
