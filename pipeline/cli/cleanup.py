"""The command gc: remove old versions."""

from typing import Annotated

import typer

from pipeline.cli.options import PARAMS, JsonOption, ParamsOption, SetOption, load_settings, print_json

KEEP = 10  # newest versions


def gc(
    keep: Annotated[int, typer.Option(min=1, metavar="N", help="Number of newest versions to keep.")] = KEEP,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    json_: JsonOption = False,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Remove old versions and their files, but no champion, challenger, or version that a rollback may need."""
    from rich.filesize import decimal

    from mlops.tracking import cleanup

    name = load_settings(params, set_).register.name
    removals = cleanup.plan(name, keep)
    verb = "would remove" if dry_run else "removed"
    for removal in removals:
        if not dry_run:
            cleanup.remove(removal)
        if not json_:
            typer.echo(f"{verb} {removal.version}, {decimal(removal.size)}")
    total = sum(removal.size for removal in removals)
    if json_:
        items = [{"version": removal.version.number, "bytes": removal.size} for removal in removals]
        print_json({"name": name, "dry_run": dry_run, "versions": items, "bytes": total})
    else:
        typer.echo(f"{verb} {decimal(total)} in all" if removals else f"{name} has no version to remove")
