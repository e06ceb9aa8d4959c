"""The commands history and adopt: what happened in the registry, and versions without a manifest."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import PARAMS, JsonOption, ParamsOption, SetOption, load_settings, print_json

if TYPE_CHECKING:
    from mlops.tracking.history import Entry


def history(
    json_: JsonOption = False,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Show every change of the champion, and verify that none was edited or removed. Exit status 1 if one was."""
    from mlops.tracking import history as records

    name = load_settings(params, set_).register.name
    entries, findings = records.entries(name), records.verify(name)
    if json_:
        print_json({"name": name, "entries": [asdict(entry) for entry in entries], "findings": findings})
    else:
        _show(name, entries, findings)
    if findings:
        raise typer.Exit(1)


def adopt(
    version: Annotated[int, typer.Argument(help="Version of the model in the registry.")],
    because: Annotated[str, typer.Option(help="Why its files can be trusted; it is recorded.")] = "",
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Give a version of an earlier release a manifest of its files, without which it is not served.

    With AUDIOCNN_SIGNING_KEY, the version is signed too, also one that has a manifest.
    """
    from mlops import tracking
    from mlops.tracking import adoption, signature

    name = load_settings(params, set_).register.name
    adoption.adopt(tracking.get_version(name, version), because)
    signed = " and a signature" if os.environ.get(signature.SIGNING_KEY) else ""
    typer.echo(f"{name} version {version} has a manifest{signed} now.")


def _show(name: str, entries: "Sequence[Entry]", findings: Sequence[str]) -> None:
    for entry in entries:
        typer.echo(f"{entry.number:>5}  {entry.at}  {describe(entry)}")
    if not entries:
        typer.echo(f"The model {name!r} has no history.")
    for finding in findings:
        typer.echo(f"not intact: {finding}", err=True)
    if entries and not findings:
        typer.echo(f"The history is intact; its last entry has the digest {entries[-1].sha256[:12]}.")


def describe(entry: "Entry") -> str:
    if entry.kind in ("adopt", "delete"):
        what = f"{entry.kind} version {entry.version_to}"
    else:
        before, after = (number or "none" for number in (entry.version_from, entry.version_to))
        what = f"{entry.kind}: champion {before} to {after}"
    return f"{what}, by {entry.by}" + (f": {entry.because}" if entry.because else "")
