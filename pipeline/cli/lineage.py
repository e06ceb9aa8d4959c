"""The command lineage: what a version was made of, and which versions were made of something."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import PARAMS, JsonOption, ParamsOption, SetOption, load_settings, print_json

if TYPE_CHECKING:
    from mlops.tracking import Version

LABEL_WIDTH = 44


def lineage(
    version: Annotated[int | None, typer.Argument(help="Version of the model in the registry.")] = None,
    data: Annotated[str, typer.Option(metavar="DIGEST", help="List the versions trained on this data set.")] = "",
    git: Annotated[str, typer.Option(metavar="REVISION", help="List the versions of this git revision.")] = "",
    image: Annotated[str, typer.Option(metavar="IMAGE", help="List the versions trained in this image.")] = "",
    run: Annotated[str, typer.Option(metavar="ID", help="List the versions of this MLflow or Kubeflow run.")] = "",
    json_: JsonOption = False,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Show the data, code, settings and computer that a version was made with; or list the versions of one of them.

    Digests and revisions may be shortened. Several options are combined.
    """
    from mlops.tracking.lineage import find_by_lineage

    name = load_settings(params, set_).register.name
    if (version is None) != any((data, git, image, run)):
        raise typer.BadParameter("give a version, or at least one of --data, --git, --image and --run")
    if version is not None:
        _show_lineage(name, version, json_)
    else:
        _list_versions(find_by_lineage(name, data=data, git=git, image=image, run=run), json_)


def _show_lineage(name: str, number: int, json_: bool) -> None:
    from mlops import tracking
    from mlops.settings import flatten
    from mlops.tracking.lineage import lineage as facts_of

    facts = facts_of(tracking.get_version(name, number))
    if json_:
        print_json(facts)
        return
    for key, value in flatten(facts).items():
        shown = "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
        typer.echo(f"{key:<{LABEL_WIDTH}}{shown}")


def _list_versions(found: "list[Version]", json_: bool) -> None:
    if json_:
        print_json([{"version": item.number, "run": item.run_id, "tags": item.tags} for item in found])
        return
    for item in found:
        tags = ", ".join(item.tags[key] for key in ("decision", "dataset", "git_revision") if key in item.tags)
        typer.echo(f"version {item.number}: {tags}")
    if not found:
        typer.echo("no version")
