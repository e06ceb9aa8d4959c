"""No step writes over what is not its own: asked before any work, and before anything is told to a server."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.ingest import IngestFolder

from audiocnn.atomic import OutputError
from components.deploy.step import deploy
from components.evaluate.step import evaluate
from components.ingest.step import ingest
from components.promote.step import promote
from components.register.step import register
from components.spectrograms.step import spectrograms
from components.train.step import train
from pipeline.settings import PipelineSettings

# step -> how it is called with one folder for all its inputs
STEPS: dict[str, Callable[[Path, PipelineSettings, Path], object]] = {
    "ingest": lambda given, tiny, output: ingest(str(given), tiny.ingest, output),
    "spectrograms": lambda given, tiny, output: spectrograms(given, tiny.spectrograms, output, str(given / "cache")),
    "train": lambda given, tiny, output: train(given, tiny.train, output, str(given / "checkpoints")),
    "evaluate": lambda given, tiny, output: evaluate(given, given, tiny.evaluate, output),
    "register": lambda given, tiny, output: register(given, given, given, tiny.register, output),
    "promote": lambda given, tiny, output: promote(given, given, given, given, tiny.promote, output),
    "deploy": lambda given, tiny, output: deploy(tiny.register.name, given, tiny.deploy, output),
}


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("step", STEPS)
def test_a_folder_that_holds_something_else_is_left_alone(step: str, tiny: PipelineSettings, tmp_path: Path) -> None:
    source = IngestFolder(tmp_path / "clips")
    source.write()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"the only one")
    before = everything(tmp_path)
    with pytest.raises(
        OutputError, match=r"photos exists and is no earlier output of this step: it holds no \w+\.json"
    ):
        STEPS[step](source.path, tiny, tmp_path / "photos")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("step", STEPS)
def test_an_input_is_left_alone_even_where_it_looks_like_an_earlier_output(
    step: str, tiny: PipelineSettings, tmp_path: Path
) -> None:
    source = IngestFolder(tmp_path / "clips")
    source.write()
    for name in ("dataset", "spec", "model", "metrics", "version", "decision", "deployment"):
        (source.path / f"{name}.json").write_text("{}")
    before = everything(tmp_path)
    with pytest.raises(OutputError, match="is, or holds, the input"):
        STEPS[step](source.path, tiny, source.path)
    assert everything(tmp_path) == before
