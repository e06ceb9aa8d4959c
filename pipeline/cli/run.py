"""The commands demo, run, crossval and sweep: pipelines on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.options import (
    PARAMS,
    SOURCES,
    EndpointOptions,
    ParamsOption,
    SeedsOption,
    SetOption,
    SourceOption,
    command_name,
    load_settings,
)

if TYPE_CHECKING:
    from pipeline.settings import PipelineSettings


def demo(
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help=f"By default the embedded clips. One of: {SOURCES}.")
    ] = None,
    subset: Annotated[Literal["all", "esc10"] | None, typer.Option(help="esc10: ten classes only.")] = None,
    fold: Annotated[int | None, typer.Option(min=0, metavar="N", help="The test fold; by default the highest.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of epochs; by default that of the recipe demo.")
    ] = None,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Run the whole pipeline with the recipe demo: from clips to a REST answer, in a minute on two CPU cores."""
    shortcuts = {"ingest.subset": subset, "train.fold": fold, "train.epochs": epochs}
    assignments = [f"{key}={value}" for key, value in shortcuts.items() if value is not None]
    settings = demo_settings(params, [*assignments, *set_], data)
    run_and_report(settings, "demo" if data is None else data, EndpointOptions(params, set_))


def run(
    source: SourceOption = "demo",
    docker: Annotated[bool, typer.Option("--docker", help="Every step in a container (`make images` first).")] = False,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Run the whole pipeline on this machine with the settings of params.yaml."""
    run_and_report(load_settings(params, set_), source, EndpointOptions(params, set_), docker)


def crossval(
    source: SourceOption = "demo",
    folds: Annotated[str, typer.Option(help="The test folds: numbers such as 1,2,4, or all.")] = "all",
    seeds: SeedsOption = 1,
    together: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Trainings side by side on a GPU; by default as many as its memory holds."
        ),
    ] = None,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Train on all folds but one, for each fold, and report all predictions. Registers nothing."""
    from pipeline.cli.summary import show_crossval
    from pipeline.experiments import crossval_request
    from pipeline.local import run_crossval

    settings = load_settings(params, set_)
    request = crossval_request(settings, source, folds, seeds)
    show_crossval(run_crossval(settings, source, request, together))


def sweep(
    grid: Annotated[list[str], typer.Option(help="A key's values: train.max_lr=0.001,0.002. Repeatable.")],
    source: SourceOption = "demo",
    folds: Annotated[str, typer.Option(help="The validation folds: numbers, or all but the test fold.")] = "all",
    seeds: SeedsOption = 1,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Train with every combination of a grid and rank them on validation folds; the test fold is held out.

    The test fold is train.fold or, if the data lacks it, the highest fold. train.hold_out holds out others instead.
    """
    from pipeline.cli.summary import show_crossval
    from pipeline.experiments import sweep_request
    from pipeline.local import run_crossval

    settings, request = sweep_request(params, set_, source, grid, folds, seeds)
    show_crossval(run_crossval(settings, source, request))


def demo_settings(params: Path, assignments: list[str], data: str | None) -> "PipelineSettings":
    """Resolve params.yaml with the recipe demo; without train.fold the test fold is the data's highest, if known.

    The model of the embedded data is calibrated, by default on the highest fold that has no other role.
    """
    from components.ingest.sources import parse_source
    from mlops.settings import parse_overrides
    from pipeline.settings import load

    overrides = parse_overrides(assignments)
    settings = load(params, {"recipe": "demo", **overrides})
    chosen, train = overrides.get("train", {}), settings.train
    if data is None:
        if "calibration_fold" not in chosen:
            others = {*parse_source("demo").folds()} - {train.fold, *train.hold_out}
            train = train.replace(calibration_fold=max(others, default=None))
        return settings.replace(train=train)
    folds = set(parse_source(data).folds()) - set(train.reserved_folds)
    if "fold" in chosen or not folds:  # they may be unknown before the data is fetched
        return settings
    fold = max(folds)
    which = "the highest that is not held out," if train.reserved_folds else "the highest"
    typer.echo(f"Test fold: {fold}, {which} in {data} (FOLD=n for another)")
    return settings.replace(train=train.replace(fold=fold))


def run_and_report(
    settings: "PipelineSettings", source: str, options: EndpointOptions, containers: bool = False
) -> None:
    from components.ingest.sources import parse_source
    from pipeline.cli import servers
    from pipeline.cli.summary import show_training
    from pipeline.experiments import check_fold
    from pipeline.local import run_training
    from pipeline.run_folders import RunError

    check_fold(settings.train, source)
    parse_source(source).require_exists()  # before TorchServe is started
    if not containers:  # a container starts no TorchServe
        servers.check_deploy(settings)
    try:
        result = run_training(settings, source, containers)
    except RunError as error:
        if error.step != "deploy":
            raise
        repeat = f"{command_name()} deploy{options.text()}"
        hint = (
            f"The champion has been moved already: fix the cause and run `{repeat}`, with "
            "--set deploy.inference=... and so on for other ports"
        )
        raise RunError(f"{error}\n{hint}", error.step, error.status) from error
    show_training(result, settings, options)
