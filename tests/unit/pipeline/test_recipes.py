"""Every runner trains the recipe that was named: the laptop, DVC and Kubeflow."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from helpers.project import ROOT
from typer import Typer
from typer.testing import CliRunner

from audiocnn.classifier import Classifier
from audiocnn.data.clips import DatasetError
from components.ingest.sources import parse_source
from components.train.__main__ import main
from components.train.component import train
from mlops.settings import flatten
from pipeline import settings as pipeline_settings
from pipeline.local import step_functions
from pipeline.settings import PipelineSettings

TRAIN = {"epochs": 1, "batch_size": 16, "device": "cpu", "architecture": {"width": 0.0625}}
COMMAND = Typer()
COMMAND.command()(main)


@pytest.fixture(scope="module")
def strong() -> PipelineSettings:
    """The recipe strong for a short training."""
    return pipeline_settings.load(ROOT / "params.yaml", {"recipe": "strong", "train": {**TRAIN, "fold": 2}})


@pytest.fixture(scope="module")
def spectrograms(strong: PipelineSettings, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strong")
    steps = step_functions(strong, parse_source(str(demo_folder)))
    steps["ingest"](output=folder / "dataset")
    steps["spectrograms"](dataset=folder / "dataset", output=folder / "spectrograms", cache=str(folder / "cache"))
    return folder / "spectrograms"


def check_model(folder: Path, settings: PipelineSettings) -> None:
    """Check that a model has the front end and the training settings of the recipe."""
    classifier = Classifier.load(folder)
    assert classifier.provenance["recipe"] == "strong"
    assert classifier.provenance["train"] == settings.train.to_dict()
    assert (classifier.settings, classifier.settings.rate) == (settings.spectrograms, 44100)
    assert classifier.network.architecture == settings.train.architecture
    assert classifier.network.architecture.squeeze_excitation and settings.train.augment.tempo == 0.3


def test_local_runner(strong: PipelineSettings, spectrograms: Path, workplace: Path) -> None:
    steps = step_functions(strong, parse_source("demo"))
    steps["train"](spectrograms=spectrograms, output=workplace / "model", checkpoints=str(workplace / "checkpoints"))
    check_model(workplace / "model", strong)


def test_kubeflow_component(strong: PipelineSettings, spectrograms: Path, workplace: Path) -> None:
    model, curves = (SimpleNamespace(path=str(workplace / name), metadata={}) for name in ("model", "curves"))
    overrides = {"train": TRAIN, "storage.checkpoints": str(workplace / "checkpoints")}
    train.python_func(SimpleNamespace(path=str(spectrograms)), "strong", overrides, 1, 1, model, curves, fold=2)
    check_model(workplace / "model", strong)
    assert model.metadata["recipe"] == "strong"


def run_stage(folder: Path, spectrograms: Path, recipe: str) -> None:
    """Run the command of DVC's stage train in a folder whose params.yaml names a recipe."""
    for name in ("recipes", "spectrograms"):
        (folder / name).symlink_to({"recipes": ROOT / "recipes", "spectrograms": spectrograms}[name])
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params |= {"recipe": recipe, "train": {**params["train"], **TRAIN, "fold": 2}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["train"]["cmd"]
    python, module, name, *arguments = stage.split()
    assert (python, module, name) == ("python", "-m", "components.train")
    done = CliRunner().invoke(COMMAND, arguments, catch_exceptions=False)
    if done.exit_code:
        raise DatasetError(done.output)


def test_dvc_stage(strong: PipelineSettings, spectrograms: Path, workplace: Path) -> None:
    run_stage(workplace, spectrograms, "strong")
    check_model(workplace / "model", strong)


def test_dvc_stage_refuses_spectrograms_of_another_recipe(spectrograms: Path, workplace: Path) -> None:
    with pytest.raises(DatasetError, match="rate is 44100, not 22050, n_fft is 2048, not 1024, f_max is 22050, not"):
        run_stage(workplace, spectrograms, "seed")
    assert not (workplace / "model").exists()


def test_kubeflow_component_refuses_spectrograms_of_another_recipe(spectrograms: Path, workplace: Path) -> None:
    model, curves = (SimpleNamespace(path=str(workplace / name), metadata={}) for name in ("model", "curves"))
    with pytest.raises(DatasetError, match="rate is 44100, not 22050"):
        train.python_func(SimpleNamespace(path=str(spectrograms)), "seed", {}, 1, 1, model, curves)


def test_strong_is_the_recipe_of_the_docs() -> None:
    found = flatten(pipeline_settings.load(ROOT / "params.yaml", {"recipe": "strong"}).to_dict())
    expected = {
        "spectrograms.rate": 44100, "spectrograms.n_fft": 2048, "spectrograms.hop": 512, "spectrograms.n_mels": 128,
        "train.batch_size": 64, "train.epochs": 225, "train.max_lr": 0.002, "train.pct_start": 0.1,
        "train.cycle_momentum": False, "train.weight_decay": 0.01, "train.label_smoothing": 0.1,
        "train.architecture.width": 1.0, "train.architecture.dropout": 0.5, "train.architecture.top_db": 80.0,
        "train.augment.mix": "power", "train.augment.mix_alpha": 1.0, "train.augment.mix_share": 0.5,
        "train.augment.freq_mask": 30, "train.augment.time_mask": 159, "train.augment.mask_fill": "mean",
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    steps = 225 * 1600 // 64
    assert round(found["train.ema_horizon"] * steps) in range(990, 1010)
