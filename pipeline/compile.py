"""Compile the graphs to compiled/*.yaml, which Kubeflow reads.

python -m pipeline.compile            # write the files
python -m pipeline.compile --check    # fail if one is outdated
"""

import sys
import tempfile
from itertools import dropwhile
from pathlib import Path
from typing import Annotated

import typer

HERE = Path(__file__).resolve().parent
COMPILED = HERE / "compiled"
TRAINING = COMPILED / "training.yaml"
CROSSVAL = COMPILED / "crossval.yaml"


def compile_all(folder: Path) -> list[Path]:
    """Compile every graph into `folder`, with the defaults of params.yaml; the same sources give the same bytes."""
    from kfp.compiler import Compiler

    from pipeline.crossval import crossval_pipeline
    from pipeline.settings import load
    from pipeline.training import training_pipeline

    settings = load(HERE.parent / "params.yaml")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, pipeline in (("crossval", crossval_pipeline), ("training", training_pipeline)):
        path = folder / f"{name}.yaml"
        Compiler().compile(pipeline(settings), package_path=str(path))
        # KFP's header lists dictionaries in an order that changes from process to process.
        body = dropwhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        header = f"# Written by `make compile` from pipeline/{name}.py"
        path.write_text("\n".join([header, *body, ""]), encoding="utf-8")
        written.append(path)
    return written


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
    typer.run(main)
