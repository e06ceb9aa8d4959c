"""The graphs -> compiled/*.yaml, which Kubeflow reads; `--check` fails on a stale file."""

import sys
import tempfile
from collections.abc import Mapping
from itertools import dropwhile
from pathlib import Path
from typing import Annotated, Any

import typer

COMPILED = Path(__file__).resolve().parent / "compiled"


def graphs() -> Mapping[str, Any]:
    """Every pipeline by the name of its file."""
    from pipeline.crossval import crossval_pipeline
    from pipeline.training import training_pipeline

    return {"crossval": crossval_pipeline(), "training": training_pipeline()}


def compile_all(folder: Path = COMPILED) -> list[Path]:
    """Compile every graph into `folder`; the bytes depend on the sources alone."""
    from kfp.compiler import Compiler

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, graph in graphs().items():
        path = folder / f"{name}.yaml"
        Compiler().compile(graph, package_path=str(path))
        # KFP's heading lists dictionaries in an order that changes from process to process.
        body = dropwhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        heading = f"# Written by `make compile` from pipeline/{name}.py"
        path.write_text("\n".join([heading, *body, ""]), encoding="utf-8")
        written.append(path)
    return written


def stale(folder: Path = COMPILED) -> list[str]:
    """Names of committed files that are missing, outdated, or of no graph."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = {path.name: path.read_bytes() for path in compile_all(Path(scratch))}
    committed = {path.name: path.read_bytes() for path in folder.glob("*.yaml")}
    return sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))


def main(check: Annotated[bool, typer.Option(help="Write nothing; fail when a file is stale.")] = False) -> None:
    """Compile the pipelines."""
    if not check:
        for path in compile_all():
            print(path)
    elif names := stale():
        print(f"pipeline/compiled: {', '.join(names)}: stale; run `make compile` and commit", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
