"""The project in a folder whose name has characters that mean something to shells, URLs, SQL or Java."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ts
from helpers.project import ROOT
from helpers.torchserve import free_ports

NAME = """p x (1) #a?b%20 é 🐸 $HOME "q" it's"""
CODE = ("audiocnn", "mlops", "components", "pipeline", "serving", "recipes", "params.yaml")
NEEDED_BY_MAKE = ("Makefile", "pyproject.toml", "requirements.lock", ".ci")


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of the code, and an environment whose command `audiocnn` runs it."""
    folder = tmp_path / NAME
    folder.mkdir()
    for name in (*CODE, *NEEDED_BY_MAKE):
        if (ROOT / name).is_dir():
            # Other processes write bytecode: a temporary file that is renamed meanwhile could not be copied.
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*"))
        else:
            shutil.copy(ROOT / name, folder / name)
    shutil.copytree(Path(ts.__file__).parent, folder / "ts")
    command = folder / ".venv" / "bin" / "audiocnn"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pipeline.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    mark_ready(folder)
    yield folder
    mark_ready(folder)
    make(folder, "down")


def mark_ready(folder: Path) -> None:
    (folder / ".venv" / "ready").write_text(f"{folder}\n", encoding="utf-8")


def make(folder: Path, *arguments: str) -> str:
    return call(folder, "make", *arguments)


def call(folder: Path, *command: str) -> str:
    """Run a command in the copy, and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment |= {"PYTHONPATH": str(folder), "MLFLOW_TRACKING_URI": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.xdist_group("torchserve")
def test_the_demo_runs_in_a_folder_with_any_name_and_deploys_after_a_move(checkout: Path) -> None:
    names = ("inference", "management", "metrics")
    *free, gateway = free_ports(4)
    ports = [f"--set deploy.{name}=http://127.0.0.1:{port}" for name, port in zip(names, free, strict=True)]
    ports.append(f"--set gateway.port={gateway}")
    gates = ["--set promote.min_accuracy=0", "--set promote.min_class_recall=0"]  # one epoch reaches neither
    output = make(checkout, "demo", "EPOCHS=1", f"ARGS={' '.join(ports + gates)}")
    assert "$ curl" in output and "labeled" in output
    assert (checkout / "var" / "mlflow.db").is_file() and (checkout / "var" / "mlflow-artifacts").is_dir()
    assert {path.name for path in checkout.parent.iterdir()} == {NAME}
    assert not (checkout / "mlruns").exists()

    make(checkout, "down")
    moved = checkout.rename(checkout.with_name("moved é"))
    try:
        mark_ready(moved)
        deployed = call(moved, ".venv/bin/audiocnn", "deploy", *" ".join(ports).split())
        assert "version 1 is served" in deployed
        assert "Stopped: the gateway, TorchServe" in make(moved, "down")
    finally:
        moved.rename(checkout)
