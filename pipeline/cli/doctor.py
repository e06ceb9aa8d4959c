"""The command doctor: check this machine and the services, and say how to fix what is wrong."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from pipeline.cli.options import PARAMS, JsonOption, ParamsOption, SetOption, load_settings, print_json

if TYPE_CHECKING:
    from pipeline.checks.result import Check, Level

STYLES: "dict[Level, str]" = {"ok": "green", "info": "dim", "warning": "yellow", "failure": "bold red"}


def doctor(
    json_: JsonOption = False,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Check MLflow, storage, TorchServe, Java, disk, ports and proxies. Status 1 if something does not work."""
    from pipeline.checks import run_checks

    checks = run_checks(load_settings(params, set_))
    if json_:
        print_json([asdict(check) for check in checks])
    else:
        show(checks)
    if any(check.level == "failure" for check in checks):
        raise typer.Exit(1)


def show(checks: "list[Check]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for check in checks:
        message = Text(check.message)
        if check.remedy:
            message.append(f"\nFix: {check.remedy}", style="bold")
        table.add_row(Text(check.level, STYLES[check.level]), check.name, message)
    console = Console()
    console.print(table)
    failures, warnings = (sum(check.level == level for check in checks) for level in ("failure", "warning"))
    console.print(f"\nFailures: {failures}, warnings: {warnings}", highlight=False)
