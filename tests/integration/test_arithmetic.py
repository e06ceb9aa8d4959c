"""Every entry point that classifies computes with full float32, whatever precision the process uses otherwise."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from helpers import registry as make
from helpers.torchserve import encode, noise
from torch.nn.modules.module import register_module_forward_pre_hook

from audiocnn.model import AudioCNN
from components.deploy.smoke_test import SmokeTest
from components.evaluate.step import evaluate
from components.promote.step import promote
from mlops.tracking.pyfunc_model import SoundClassifier
from pipeline.settings import PipelineSettings
from serving.torchserve.handler import AudioCNNHandler

CLIP = encode(noise(rate=8000), 8000)


def precisions() -> tuple[str, str]:
    return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> make.Data:
    return make.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def used() -> Iterator[set[tuple[str, str]]]:
    """Allow TF32 everywhere, and collect the precisions with which networks are called.

    Spectrograms are computed on the CPU, to which the settings of GPUs do not apply.
    """
    seen: set[tuple[str, str]] = set()
    before = precisions()
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "tf32"

    def collect(module: torch.nn.Module, _: object) -> None:
        if isinstance(module, AudioCNN):
            seen.add(precisions())

    hook = register_module_forward_pre_hook(collect)
    yield seen
    hook.remove()
    assert precisions() == ("tf32", "tf32")  # a later training in the same process is not affected
    torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision = before


def run_evaluate(folder: Path, data: make.Data, tiny: PipelineSettings) -> None:
    model = make.write_model(folder / "model", data)
    evaluate(model, data.spectrograms, data.dataset, tiny.evaluate, folder / "evaluation")


def run_promote(folder: Path, data: make.Data, _: PipelineSettings) -> None:
    for number in (1, 2):
        made = make.candidate(folder / ("a" * number), "arithmetic", data)
        output = folder / f"decision{number}"
        promote(made.registration, made.model, made.evaluation, data.spectrograms, make.POLICY, output)


def run_mlflow_model(folder: Path, data: make.Data, _: PipelineSettings) -> None:
    model = SoundClassifier()
    model.load_context(SimpleNamespace(artifacts={"model": str(make.write_model(folder / "model", data))}))
    model.predict(pd.DataFrame({"audio": [CLIP]}))


def run_handler(folder: Path, data: make.Data, _: PipelineSettings) -> None:
    handler, context = AudioCNNHandler(), make_context(make.write_model(folder / "model", data))
    handler.initialize(context)
    handler.handle([{"body": CLIP}], context)


def make_context(model: Path) -> Any:
    return SimpleNamespace(
        system_properties={"model_dir": str(model), "gpu_id": None},
        model_name="sounds",
        manifest={"registryVersion": 1},
        get_all_request_header=lambda _: {},
        set_response_content_type=lambda *_: None,
    )


def run_smoke_test(folder: Path, data: make.Data, _: PipelineSettings) -> None:
    SmokeTest.prepare(make.write_model(folder / "model", data), "clip", CLIP, tolerance=1e-4, max_latency_ms=1000.0)


@pytest.mark.parametrize("run", [run_evaluate, run_promote, run_mlflow_model, run_handler, run_smoke_test])
def test_full_float32(
    run: Callable[[Path, make.Data, PipelineSettings], None],
    data: make.Data,
    used: set[tuple[str, str]],
    tiny: PipelineSettings,
    tmp_path: Path,
) -> None:
    run(tmp_path, data, tiny)
    assert used == {("ieee", "ieee")}
