"""The environment of TorchServe."""

import os
import subprocess
import sys

import pytest

from serving.torchserve import launch


def test_only_allowed_variables_are_passed_on(tmp_path, monkeypatch):
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASS",
        "MLFLOW_TRACKING_URI",
        "TS_CONFIG_FILE",
        "AUDIOCNN_INFERENCE_KEYS",
    ):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1g")
    environment = launch.environment(tmp_path)
    assert environment["JAVA_TOOL_OPTIONS"] == "-Xmx1g"
    assert "secret" not in environment.values()
    allocation = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
    computed = {*allocation, "LC_ALL", "TMPDIR", "LOG_LOCATION", "METRICS_LOCATION", "PYTHONPATH"}
    assert set(environment) <= {*launch.INHERITED, *computed}


@pytest.mark.parametrize(("cores", "given", "threads"), [(64, None, "4"), (1, None, "1"), (64, "16", "16")])
def test_threads_are_limited_unless_omp_num_threads_is_set(tmp_path, monkeypatch, cores, given, threads):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert launch.environment(tmp_path)["OMP_NUM_THREADS"] == threads


def test_torch_uses_the_number_of_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    done = subprocess.run(command, env=launch.environment(tmp_path), capture_output=True, text=True)
    assert done.stdout.split() == ["1"], done.stderr
