"""Train a registered version again, and say how close the second model comes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import registry as artifacts
from helpers.mlflow import recorded
from helpers.project import ROOT
from typer.testing import CliRunner

from audiocnn.data.spectrogram_set import SpectrogramSet
from components.register.step import register
from mlops import tracking
from mlops.artifacts import ModelFolder
from mlops.register_settings import RegisterSettings
from pipeline import reproduce
from pipeline.cli import app
from pipeline.comparison import compare
from pipeline.reproduce import ReproduceError, Reproduction
from pipeline.settings import PipelineSettings

NAME = "reproduced"


@pytest.fixture(scope="module")
def version(
    model_folder: Path, evaluation_folder: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tracking.Version:
    """A version of the small classifier, trained on 50 clips."""
    folder = tmp_path_factory.mktemp("registration")
    return register(model_folder, evaluation_folder, dataset, RegisterSettings(name=NAME), folder / "registration")


def test_the_same_training_gives_the_same_bits(
    version: tracking.Version,
    demo_folder: Path,
    workplace: Path,
    tiny: PipelineSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = _versions()
    reproduction = Reproduction(NAME, version.number)
    # Other settings of ingest than then, which would give other data: the recorded ones are used.
    settings = tiny.replace(ingest=tiny.ingest.replace(subset="esc10"))
    comparison, folder = reproduction.run(settings, str(demo_folder))

    assert not [text for text in reproduction.differences if text.startswith(("The processor", "The version"))]
    assert comparison.identical
    assert (comparison.largest_weight_difference, comparison.largest_probability_difference) == (0, 0)
    assert (comparison.clips, comparison.classified_differently) == (10, 0)
    assert comparison.accuracy[0] == comparison.accuracy[1]
    assert "bit-identical" in comparison.sentences()[0]
    assert _versions() == before, "nothing is registered"
    run = tracking.resume_run(ModelFolder(folder / "train" / "model").run().run_id)
    assert recorded(run).data.tags["reproduces"] == f"{NAME} version {version.number}"
    assert "fold 2, epoch 2/2" in capsys.readouterr().out


def test_other_weights_are_described(model_folder: Path, spectrogram_folder: Path, tiny: PipelineSettings) -> None:
    first, second = (ModelFolder(model_folder).classifier() for _ in range(2))
    second.weights_sha256 = "0" * 64
    bias = second.network.head[-1].bias
    with torch.no_grad():
        bias[3] += 50.0  # all clips get class 3

    comparison = compare(first, second, SpectrogramSet.open(spectrogram_folder), tiny.train)

    assert not comparison.identical
    assert comparison.largest_weight_difference == pytest.approx(50.0)
    assert comparison.largest_probability_difference > 0.5
    assert comparison.classified_differently > 0 and comparison.accuracy[1] == pytest.approx(0.1)
    text = " ".join(comparison.sentences())
    assert "not bit-identical" in text and "difference of a weight is 50" in text and "10.0% now" in text


def test_other_data_is_refused(
    version: tracking.Version, demo_folder: Path, workplace: Path, tiny: PipelineSettings
) -> None:
    other = shutil.copytree(demo_folder, workplace / "other")
    rows = (other / "meta" / "esc50.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (other / "meta" / "esc50.csv").write_text("".join(rows[:-1]), encoding="utf-8")
    with pytest.raises(
        ReproduceError, match=r"gives the data set \w{12}, and reproduced version 1 was trained on \w{12}; name"
    ):
        Reproduction(NAME, version.number).run(tiny, str(other))
    assert not list(workplace.glob("var/runs/*/spectrograms/*"))


def test_it_says_what_is_different_now(version: tracking.Version, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "hardware_name", lambda device: "Abacus")
    monkeypatch.setattr(reproduce, "git_revision", lambda: "f" * 40 + "-dirty")
    differences = Reproduction(NAME, version.number).differences
    assert differences[0].startswith("The processor is Abacus, and was ")
    assert differences[1].startswith("The git revision is ffff")
    assert differences[2] == "Files of this working tree differ from its git revision."


def test_a_version_without_its_settings_is_refused(tmp_path: Path) -> None:
    data = artifacts.write_data(tmp_path / "data")
    made = artifacts.candidate(tmp_path / "model", "incomplete", data)  # records two settings of its training
    with pytest.raises(ReproduceError, match=r"incomplete version 1 does not record all settings .*git revision 000"):
        Reproduction("incomplete", made.version.number)


def test_the_command_prints_json_only(
    version: tracking.Version,
    demo_folder: Path,
    workplace: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = ["reproduce", str(version.number), "--source", str(demo_folder), "--set", f"register.name={NAME}"]
    result = CliRunner().invoke(app, [*arguments, "--params", str(ROOT / "params.yaml"), "--json"])
    values = json.loads(result.stdout)
    assert values["identical"] and values["model"] == NAME
    assert values["accuracy"]["then"] == values["accuracy"]["now"]
    progress = capfd.readouterr().err
    assert f"{NAME} version 1: demo" in progress and "train: done" in progress


@pytest.mark.parametrize("override", ["train.epochs=3", "ingest.subset=esc10"])
def test_recorded_settings_cannot_be_overridden(override: str, workplace: Path) -> None:
    result = CliRunner().invoke(app, ["reproduce", "1", "--set", override])
    assert result.exit_code == 2 and "a version is trained again with its own settings" in result.stderr


def _versions() -> list[int]:
    client = tracking.connect().client
    return sorted(int(found.version) for found in client.search_model_versions(f"name = '{NAME}'"))
