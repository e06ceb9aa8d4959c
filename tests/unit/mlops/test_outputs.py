"""Output folders: no step overwrites anything but its own earlier output."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.ingest import IngestFolder

from components.deploy.step import deploy
from components.evaluate.step import evaluate
from components.ingest.step import ingest
from components.promote.step import promote
from components.register.step import register
from components.spectrograms.step import spectrograms
from components.train.step import train
from mlops.artifacts import TrainingRequest
from mlops.outputs import OutputError, check_output, output_folder
from pipeline.settings import PipelineSettings


def request(tiny: PipelineSettings) -> TrainingRequest:
    return TrainingRequest(recipe=tiny.recipe, settings=tiny.train)


# step -> a call with one folder for all inputs
STEPS: dict[str, Callable[[Path, PipelineSettings, Path], object]] = {
    "ingest": lambda given, tiny, output: ingest(str(given), tiny.ingest, tiny.spectrograms, output),
    "spectrograms": lambda given, tiny, output: spectrograms(given, tiny.spectrograms, output, str(given / "cache")),
    "train": lambda given, tiny, output: train(given, request(tiny), output, str(given / "checkpoints")),
    "evaluate": lambda given, tiny, output: evaluate(given, given, given, tiny.evaluate, output),
    "register": lambda given, tiny, output: register(given, given, given, tiny.register, output),
    "promote": lambda given, tiny, output: promote(given, given, given, given, tiny.promote, output),
    "deploy": lambda given, tiny, output: deploy(tiny.register.name, given, tiny.deploy, output),
}


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("step", STEPS)
def test_step_does_not_overwrite_other_data(step: str, tiny: PipelineSettings, tmp_path: Path) -> None:
    source = IngestFolder(tmp_path / "clips")
    source.write()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"the only copy")
    before = entries(tmp_path)
    with pytest.raises(OutputError, match=r"not an earlier output of this step \(it has no \w+\.json\)"):
        STEPS[step](source.path, tiny, tmp_path / "photos")
    assert entries(tmp_path) == before


@pytest.mark.parametrize("step", STEPS)
def test_step_does_not_overwrite_its_input(step: str, tiny: PipelineSettings, tmp_path: Path) -> None:
    source = IngestFolder(tmp_path / "clips")
    source.write()
    for name in ("dataset", "spec", "model", "metrics", "version", "decision", "deployment"):
        (source.path / f"{name}.json").write_text("{}")
    before = entries(tmp_path)
    with pytest.raises(OutputError, match="is or contains the input"):
        STEPS[step](source.path, tiny, source.path)
    assert entries(tmp_path) == before


@pytest.mark.parametrize("output", ["set", "."])
def test_input_is_refused_even_with_the_marker(output: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for folder in (tmp_path, tmp_path / "set"):
        (folder / "spec.json").write_text("{}")
    with pytest.raises(OutputError, match="is or contains the input"):
        check_output(tmp_path / output, "spec.json", [tmp_path / "other", tmp_path / "set"])


@pytest.mark.parametrize("output", [".", "..", "../here", "/"])
def test_working_directory_is_refused(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OutputError, match="is or contains the working directory"):
        check_output(Path(output), "spec.json")


@pytest.mark.parametrize("output", ["/proc/x", "/proc/x/y", "{}/file/x"])
def test_output_that_cannot_be_created_is_refused(output: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(OutputError, match=r"cannot be created in .*; choose another output"):
        check_output(Path(output.format(tmp_path)), "spec.json")
    assert entries(tmp_path) == [tmp_path / "file"]


def test_check_creates_nothing(tmp_path: Path) -> None:
    output = tmp_path / "new" / "deep" / "out"
    assert check_output(output, "spec.json") == output
    assert entries(tmp_path) == []


def test_earlier_output_is_replaced_and_other_data_kept(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with output_folder(tmp_path / "out", "spec.json") as part:
            (part / "spec.json").write_text(content)
    assert (tmp_path / "out" / "spec.json").read_text() == "new"
    with pytest.raises(OutputError, match="not an earlier output"), output_folder(tmp_path / "out", "model.json"):
        pytest.fail("the block must not run")
