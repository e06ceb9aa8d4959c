"""The command reproduce: train a registered version again, and say how close the second model comes."""

from contextlib import nullcontext
from typing import Annotated

import typer

from audiocnn.errors import AudioCNNError
from pipeline.cli.options import (
    PARAMS,
    SOURCES,
    JsonOption,
    ParamsOption,
    SetOption,
    load_settings,
    output_on_stderr,
    print_json,
)

BLOCKS = ("ingest.", "storage.", "register.")  # what may be set, but for what the version records


class OverrideError(AudioCNNError):
    """An override of a setting that comes from the version."""


def reproduce(
    version: Annotated[int, typer.Argument(min=1, help="Version of the model in the registry.")],
    source: Annotated[
        str, typer.Option(metavar="SOURCE", help=f"Where its data is now, by default where it was; {SOURCES}.")
    ] = "",
    json_: JsonOption = False,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Train a version again from its data, settings and seed, and compare both models. Registers nothing.

    Before it starts, it prints what differs from the first training: processor, packages, git revision.
    """
    from pipeline.reproduce import DATA_KEYS, Reproduction

    recorded = tuple(f"ingest.{key}" for key in DATA_KEYS)
    for text in map(str.strip, set_):
        if text.startswith(recorded) or not text.startswith(BLOCKS):
            raise OverrideError(
                f"--set {text}: a version is trained again with its own settings; only the blocks storage and "
                "register, and the addresses and limits of the block ingest can be set"
            )
    settings = load_settings(params, set_)
    with output_on_stderr() if json_ else nullcontext():
        reproduction = Reproduction(settings.register.name, version)
        typer.echo(reproduction.title)
        for sentence in reproduction.differences or ["Processor, packages and git revision are the same as then."]:
            typer.echo(f"  {sentence}")
        comparison, folder = reproduction.run(settings, source)
    if json_:
        record = {"model": settings.register.name, "version": version, "differences": reproduction.differences}
        print_json({**record, **comparison.to_dict(), "folder": str(folder)})
        return
    for sentence in comparison.sentences():
        typer.echo(sentence)
    typer.echo(f"Folder: {folder}")
