"""The steps under DVC: the pinned data set, the dependencies of the stages, reproduction and experiments."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from helpers.project import ROOT, read_json

OFFICIAL = ROOT / "components" / "ingest" / "esc50-md5.csv"
WAV_BYTES = 441_044  # 5 s of 44.1 kHz, 16 bit, mono, and the header: every clip of the release
TABLE_BYTES = 93_742


def dvc(*arguments: str, cwd: Path) -> str:
    # The stages call `python`: it has to be this one.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    environment |= {
        f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True)


def repository(folder: Path, train: Mapping[str, Any] | None = None) -> Path:
    """Commit the files of this project with the recipe demo and changes to the block train."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    params["recipe"] = "demo"
    params["train"] |= train or {}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "project")
    return folder


def folder_hash(entries: dict[str, str]) -> str:
    """Return DVC's hash of a directory whose files, by relative path, have these MD5s."""
    listed = [{"md5": entries[path], "relpath": path} for path in sorted(entries)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


@pytest.fixture(scope="module")
def official() -> dict[str, str]:
    """Path -> MD5 of every file of the official release."""
    with OFFICIAL.open(encoding="utf-8", newline="") as rows:
        return {row["path"]: row["md5"] for row in csv.DictReader(rows)}


@pytest.fixture(scope="module")
def pinned() -> dict:
    return yaml.safe_load((ROOT / "data.dvc").read_text(encoding="utf-8"))["outs"][0]


def test_data_is_pinned_to_the_official_release(official: dict[str, str], pinned: dict) -> None:
    clips = [path for path in official if path.startswith("audio/")]
    assert len(clips) == 2000 and set(official) - set(clips) == {"meta/esc50.csv"}
    assert pinned["path"] == "data"
    assert pinned["md5"] == folder_hash(official)
    assert pinned["nfiles"] == len(official)
    assert pinned["size"] == len(clips) * WAV_BYTES + TABLE_BYTES


def test_the_pin_was_computed_as_dvc_computes_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    dvc("init", "--quiet", cwd=tmp_path)
    # Names that sort differently by folder, by text and by number.
    for path in ("audio/10.wav", "audio/9.wav", "audio-b/1.wav", "meta/esc50.csv", "audio/ü.wav"):
        (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / path).write_text(f"content of {path}", encoding="utf-8")
    dvc("add", "--quiet", "data", cwd=tmp_path)
    files = {
        path.relative_to(tmp_path / "data").as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in (tmp_path / "data").rglob("*")
        if path.is_file()
    }
    assert yaml.safe_load((tmp_path / "data.dvc").read_text())["outs"][0]["md5"] == folder_hash(files)


def test_no_remote_and_no_analytics_are_committed() -> None:
    config = (ROOT / ".dvc" / "config").read_text(encoding="utf-8")
    assert "analytics = false" in config
    assert "remote" not in config


# Settings are tracked as parameters, plots do not change results, and `make repro` reads no synthetic clips. The front
# end makes the spectrograms; other steps import it for images, or to build a classifier.
NO_DEPENDENCY = (
    "errors",
    "deferred_signals",
    "atomic",
    "config",
    "strict_model",
    "device",
    "plots",
    "synthetic",
    "features",
)
STAGES = ("ingest", "spectrograms", "train", "evaluate")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_library_modules_that_it_uses(stage: str, imports: grimp.ImportGraph) -> None:
    declared = [Path(path) for path in stages()[stage]["deps"] if path.startswith("audiocnn/")]
    assert all((ROOT / path).exists() for path in declared)
    assert f"components/{stage}" in stages()[stage]["deps"]
    missing = [
        module
        for module in library_modules(stage, imports)
        if not any(Path(*module.split(".")).with_suffix(".py").is_relative_to(path) for path in declared)
    ]
    assert missing == []


def library_modules(stage: str, imports: grimp.ImportGraph) -> list[str]:
    """The modules of audiocnn that a step imports, directly or through other modules of audiocnn."""
    step = {f"components.{stage}", *imports.find_descendants(f"components.{stage}")}
    direct = {found for module in step for found in imports.find_modules_directly_imported_by(module)}
    used = {module for module in direct if module.startswith("audiocnn.")}
    used |= {found for module in used for found in imports.find_upstream_modules(module)}
    # Packages re-export their modules, which are used themselves.
    files = [module for module in used if (ROOT / Path(*module.split(".")).with_suffix(".py")).is_file()]
    return sorted(module for module in files if module.split(".")[1] not in NO_DEPENDENCY)


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """The import graph of the library and of the steps."""
    return grimp.build_graph("audiocnn", "components", cache_dir=None)


def test_the_front_end_is_a_dependency_of_the_spectrograms() -> None:
    assert "audiocnn/features.py" in stages()["spectrograms"]["deps"]


def test_the_recipe_is_a_parameter_of_the_stages_that_use_it() -> None:
    for stage in ("spectrograms", "train"):
        params = stages()[stage]["params"]
        assert "recipe" in params and stage in params and {"recipes/${recipe}.yaml": [stage]} in params


def stages() -> dict[str, Any]:
    """The stages of dvc.yaml."""
    return yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_experiments_change_params_and_recipe(demo_folder: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path, {"architecture": {"width": 0.0625}, "epochs": 1, "batch_size": 16, "device": "cpu"})
    shutil.copytree(demo_folder, clone / "data")
    dvc("add", "--quiet", "data", cwd=clone)
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "data")
    # A key of the recipe is not in params.yaml; DVC says how to add it.
    with pytest.raises(AssertionError, match=r"use \+train\.max_lr"):
        dvc("exp", "run", "-S", "train.max_lr=0.001", cwd=clone)
    given = ["train.fold=4", "train.hold_out=[5]", "++train.augment.mix_alpha=0.4", "++train.max_lr=0.001,0.002"]
    dvc("exp", "run", "--queue", *(word for one in given for word in ("-S", one)), cwd=clone)
    dvc("exp", "run", "--run-all", cwd=clone)

    (commit,) = (one for one in json.loads(dvc("exp", "show", "--json", cwd=clone)) if one["rev"] != "workspace")
    tried = {}
    for experiment in commit["experiments"]:
        data = experiment["revs"][0]["data"]
        train = data["params"]["params.yaml"]["data"]["train"]
        assert (train["fold"], train["hold_out"], train["augment"]) == (4, [5], {"mix_alpha": 0.4})
        tried[train["max_lr"]] = data["metrics"]["evaluation/metrics.json"]["data"]
    assert set(tried) == {0.001, 0.002}
    assert all(figures["clips"] == 10 for figures in tried.values())
    assert tried[0.001]["loss"] != tried[0.002]["loss"]
    assert all(isinstance(value, int | float) for figures in tried.values() for value in figures.values())


@pytest.mark.slow
def test_repro_runs_every_stage_once_and_then_nothing(demo_folder: Path, tmp_path: Path) -> None:
    clone = tmp_path / "p x (1) #a?b é 🐸"
    clone.mkdir()
    repository(clone, {"architecture": {"width": 0.125}, "epochs": 1, "batch_size": 16, "device": "cpu"})
    shutil.copytree(demo_folder, clone / "data")

    pin = (clone / "data.dvc").read_bytes()
    target = next(
        line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "dvc repro --" in line
    )
    first = dvc(*target.partition(" -m dvc ")[2].split(), cwd=clone)
    assert (clone / "data.dvc").read_bytes() == pin, "other data does not replace the pin of ESC-50"
    origin = read_json(clone / "model" / "model.json")["dataset"]["origin"]
    dvc("add", "--quiet", "data", cwd=clone)
    added = yaml.safe_load((clone / "data.dvc").read_text(encoding="utf-8"))["outs"][0]["md5"]
    assert origin == f"dvc:{added}"
    stages = ("ingest", "spectrograms", "train", "evaluate")
    assert all(f"Running stage '{stage}'" in first for stage in stages)
    assert "Running stage" not in dvc("repro", cwd=clone)

    declared = {path.name for path in (clone / "evaluation").iterdir()} - {".gitignore"}
    listed = yaml.safe_load((clone / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["evaluate"]
    outs = listed["outs"] + [name for metric in listed["metrics"] for name in metric]
    assert declared == {Path(path).name for path in outs}
    shown = json.loads(dvc("metrics", "show", "--json", cwd=clone))
    assert shown[""]["data"]["evaluation/metrics.json"]["data"] == read_json(clone / "evaluation" / "metrics.json")
    plots = json.loads(dvc("plots", "show", "--json", "--split", cwd=clone))
    assert set(plots["data"]) == {"loss", "accuracy", "learning rate", "confusion"}
    assert changed_stages(clone, "train", {"lr": 0.001}) == {"train"}
    assert changed_stages(clone, "spectrograms", {"n_mels": 40}) == {"spectrograms", "train"}


def changed_stages(clone: Path, block: str, changes: dict[str, Any]) -> set[str]:
    """The stages that DVC would run again after a change to the recipe."""
    file = clone / "recipes" / "demo.yaml"
    recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump(recipe | {block: recipe[block] | changes}), encoding="utf-8")
    return set(json.loads(dvc("status", "--json", cwd=clone)))
