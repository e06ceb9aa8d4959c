"""Training needs few packages, and the library imports no services: checked in processes of their own."""

import json
import re
import subprocess
import sys

from helpers.project import ROOT

# Import packages with all of their modules, in a process in which only the allowed third-party packages, and those
# that they load themselves, can be imported.
SCRIPT = """
import importlib, importlib.abc, json, pkgutil, sys

names, allowed, blocked = map(json.loads, sys.argv[1:])
for name in allowed:
    importlib.import_module(name)
available = {"audiocnn", "benchmarks", *sys.stdlib_module_names, *(name.partition(".")[0] for name in sys.modules)}

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root in blocked or (allowed and root not in available):
            raise ModuleNotFoundError(f"{name} is blocked by this test", name=name)

sys.meta_path.insert(0, Blocker())
for name in names:
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(getattr(package, "__path__", []), f"{name}."):
        importlib.import_module(module.name)
print(json.dumps(sorted({name.removeprefix("audiocnn.") for name in sys.modules if name.startswith("audiocnn.")})))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
SERVICES = ["mlflow", "kfp", "kubernetes", "kubeflow", "boto3", "botocore", "dvc", "ts", "docker"]
OUR_LAYERS = ["mlops", "components", "pipeline", "serving"]
FEW_PACKAGES = ["torch", "numpy", "pandas", "safetensors.torch", "yaml", "pydantic.fields"]


def imported(names: list[str], allowed: list[str], blocked: list[str]) -> tuple[set[str], set[str]]:
    """Import `names`, and return the modules of audiocnn and the packages that were loaded."""
    command = [sys.executable, "-c", SCRIPT, *map(json.dumps, (names, allowed, blocked))]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    modules, packages = map(json.loads, completed.stdout.splitlines())
    return set(modules), set(packages)


def test_training_imports_only_seven_third_party_packages() -> None:
    allowed = [*FEW_PACKAGES, "filelock"]
    modules, packages = imported(["audiocnn.training", "audiocnn.model", "audiocnn.data"], allowed, [])
    assert {"training.loop", "data.clips", "model"} <= modules
    assert not {"scipy", "sklearn", "matplotlib", "requests", "psutil", *SERVICES, *OUR_LAYERS} & packages


def test_the_benchmark_of_a_gpu_imports_only_six_third_party_packages() -> None:
    _, packages = imported(["benchmarks.gpu"], FEW_PACKAGES, [])
    assert not {"soundfile", "typer", *SERVICES, *OUR_LAYERS} & packages


def test_the_library_imports_no_services_and_no_other_layer() -> None:
    names = ["audiocnn", "audiocnn.training", "audiocnn.data", "audiocnn.synthetic"]
    modules, _ = imported(names, [], [*SERVICES, *OUR_LAYERS])
    assert {"classifier", "evaluation", "plots", "synthetic.dataset"} <= modules


def test_only_features_imports_torchaudio() -> None:
    folders = ("audiocnn", *OUR_LAYERS)
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    users = [file for file in files if re.search(r"(from|import) torchaudio", file.read_text(encoding="utf-8"))]
    assert users == [ROOT / "audiocnn" / "features.py"]
