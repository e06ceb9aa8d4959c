"""Compile the graphs to compiled/*.yaml, which Kubeflow reads.

python -m pipeline.compile            # write the files
python -m pipeline.compile --check    # fail if one is outdated
"""

import sys
import tempfile
from collections.abc import Callable
from itertools import dropwhile
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from mlops.command_line import run
from mlops.image import IMAGE_VARIABLE
from pipeline.settings import PipelineSettings, load

HERE = Path(__file__).resolve().parent
COMPILED = HERE / "compiled"
TRAINING = COMPILED / "training.yaml"
CROSSVAL = COMPILED / "crossval.yaml"


def compile_all(folder: Path) -> list[Path]:
    """Compile every graph into `folder`, with the defaults of params.yaml; the same sources give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    defaults = load(HERE.parent / "params.yaml")
    written = [folder / name for name in (CROSSVAL.name, TRAINING.name)]
    for path in written:
        path.write_text(compile_graph(path.name, defaults), encoding="utf-8")
    return written


def compile_graph(name: str, settings: PipelineSettings) -> str:
    """Return a graph as YAML.

    Args:
        name: of the compiled file, training.yaml or crossval.yaml.
        settings: the defaults of its parameters, and what its tasks request from the cluster.
    """
    from kfp.compiler import Compiler

    from pipeline.crossval import crossval_pipeline
    from pipeline.training import training_pipeline

    graphs: dict[str, Callable[..., Any]] = {TRAINING.name: training_pipeline, CROSSVAL.name: crossval_pipeline}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, name)
        Compiler().compile(graphs[name](settings), package_path=str(path))
        lines = path.read_text(encoding="utf-8").splitlines()
    # KFP's header lists dictionaries in an order that changes from process to process.
    body = dropwhile(lambda line: line.startswith("#"), lines)
    header = f"# Written by `make compile` from pipeline/{Path(name).stem}.py"
    return "\n".join([header, *body, ""])


def set_image(compiled: str, image: str) -> str:
    documents = list(yaml.safe_load_all(compiled))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = image
        for variable in executor["container"].get("env", []):
            if variable["name"] == IMAGE_VARIABLE:
                variable["value"] = image
    return str(yaml.safe_dump_all(documents, sort_keys=True))


def outdated(folder: Path = COMPILED) -> list[str]:
    """Return the names of committed files that are missing, outdated or not compiled from any graph."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = {path.name: path.read_bytes() for path in compile_all(Path(scratch))}
    committed = {path.name: path.read_bytes() for path in folder.glob("*.yaml")}
    return sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))


def main(check: Annotated[bool, typer.Option(help="Write nothing; fail if a file is outdated.")] = False) -> None:
    """Compile the pipelines."""
    if not check:
        for path in compile_all(COMPILED):
            print(path)
    elif names := outdated():
        print(f"pipeline/compiled: outdated: {', '.join(names)}; run `make compile` and commit", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    run(main)
