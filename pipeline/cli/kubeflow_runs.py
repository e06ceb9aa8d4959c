"""The commands runs, runs show, runs cancel and runs retry: runs on a Kubeflow cluster."""

from dataclasses import asdict
from itertools import islice
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import JsonOption, command_name, print_json

if TYPE_CHECKING:
    from pipeline.kubeflow.client import KubeflowClient
    from pipeline.kubeflow.run_state import RunState

URL = typer.Option("--url", metavar="URL", help="Of the Kubeflow Pipelines API.", envvar="KF_PIPELINES_ENDPOINT")
UrlOption = Annotated[str, URL]
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        help="Namespace of your Kubeflow profile; omit on a single-user cluster.", envvar="KF_PIPELINES_NAMESPACE"
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        help="Bearer token for the API; by default the service-account token of the pod, if there is one.",
        envvar="KF_PIPELINES_TOKEN",
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="ID", help="Of the run.")]
PIPED_WIDTH = 200  # columns, so that no line is folded in a file
SINGLE_USER_NAMESPACE = "kubeflow"  # where runs are on a cluster without profiles


def list_runs(
    context: typer.Context,
    url: Annotated[str | None, URL] = None,
    namespace: NamespaceOption = None,
    token: TokenOption = None,
    experiment: Annotated[str, typer.Option(help="KFP experiment of the runs.")] = "audiocnn",
    limit: Annotated[int, typer.Option(min=1, help="Number of runs, the newest first.")] = 20,
    json_: JsonOption = False,
) -> None:
    """List the newest runs."""
    from pipeline.kubeflow.client import KubeflowClient
    from pipeline.kubeflow.errors import KubeflowError
    from pipeline.kubeflow.run_state import run_state

    if context.invoked_subcommand is not None:
        for option in context.params:
            source = context.get_parameter_source(option)
            if source is not None and source.name == "COMMANDLINE":
                raise KubeflowError(f"--{option.rstrip('_')}: write it after `{context.invoked_subcommand}`")
        return
    if url is None:
        raise KubeflowError(
            "--url is missing, and KF_PIPELINES_ENDPOINT is not set: the URL of the Kubeflow Pipelines API"
        )
    client = KubeflowClient(url, namespace, token)
    runs = [*map(run_state, islice(client.runs(experiment), limit))]
    if json_:
        print_json([_record(state) for state in runs])
    elif runs:
        _show_runs(runs)
    else:
        typer.echo(f"No runs in the experiment {experiment}.")


def _show_runs(runs: "list[RunState]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.display import duration

    table = Table(box=None, pad_edge=False)
    for column in ("id", "name", "state", "started (UTC)", "time"):
        table.add_column(column, no_wrap=column == "id", overflow="fold")
    for state in runs:
        created = f"{state.created:%Y-%m-%d %H:%M}" if state.created else ""
        table.add_row(state.id, Text(state.name), state.state, created, duration(state.seconds))
    console = Console()
    (console if console.is_terminal else Console(width=PIPED_WIDTH)).print(table)


def _record(state: "RunState") -> dict[str, Any]:
    return {**asdict(state), "created": state.created.isoformat() if state.created else None}


def show(
    run_id: RunArgument,
    url: UrlOption,
    namespace: NamespaceOption = None,
    token: TokenOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the steps of a run; of a failed one the step, the reason and where its log is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.display import STYLES, duration
    from pipeline.kubeflow.client import KubeflowClient
    from pipeline.kubeflow.run_state import run_state, step_titles

    client = KubeflowClient(url, namespace, token)
    run = client.run(run_id)
    state = run_state(run, step_titles(client.pipeline_spec(run)))
    if json_:
        print_json({**_record(state), "page": client.run_url(run_id)})
        return
    table = Table.grid(padding=(0, 2))
    for step in state.steps:
        count = f"{step.done} of {step.count} done" if step.count > 1 else ""
        seconds = duration(step.seconds) if step.seconds else ""
        table.add_row(Text(step.title), Text(step.state, STYLES[step.state]), seconds, count)
    Console().print(table)
    show_outcome(client, state)


def cancel(run_id: RunArgument, url: UrlOption, namespace: NamespaceOption = None, token: TokenOption = None) -> None:
    """End a run that is pending or running."""
    from pipeline.kubeflow.client import KubeflowClient
    from pipeline.kubeflow.errors import KubeflowError
    from pipeline.kubeflow.run_state import run_state

    client = KubeflowClient(url, namespace, token)
    state = run_state(client.run(run_id))
    if state.ended:
        raise KubeflowError(f"{state.name} ({run_id}) has ended already: {state.state}")
    client.cancel(run_id)
    typer.echo(f"{state.name}: is being canceled")


def retry(run_id: RunArgument, url: UrlOption, namespace: NamespaceOption = None, token: TokenOption = None) -> None:
    """Run the failed steps of a run again, and those that come after them."""
    from pipeline.kubeflow.client import KubeflowClient
    from pipeline.kubeflow.errors import KubeflowError
    from pipeline.kubeflow.run_state import CANCELED, FAILED, run_state

    client = KubeflowClient(url, namespace, token)
    state = run_state(client.run(run_id))
    if state.state not in (FAILED, CANCELED):
        raise KubeflowError(f"{state.name} ({run_id}) is {state.state}; only a failed or canceled run can be retried")
    client.retry(run_id)
    typer.echo(f"{state.name}: is retried\n{follow_up(client, 'show', run_id)}")


def follow(client: "KubeflowClient", run_id: str) -> "RunState":
    """Show the steps of a run until it ends, and return its final state."""
    from rich.console import Console

    from pipeline.kubeflow.errors import KubeflowError
    from pipeline.kubeflow.wait import wait_for_run

    goes_on = f"the run goes on: `{follow_up(client, 'show', run_id)}`, `{follow_up(client, 'cancel', run_id)}`"
    try:
        return wait_for_run(client, run_id, Console())
    except KubeflowError as error:
        raise KubeflowError(f"{error}; {goes_on}") from error
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {goes_on}", err=True)
        raise typer.Exit(130) from None


def finish(client: "KubeflowClient", state: "RunState") -> None:
    """Show the outcome of a run, and exit with status 1 if it did not succeed."""
    from pipeline.kubeflow.run_state import SUCCEEDED

    show_outcome(client, state)
    if state.state != SUCCEEDED:
        raise typer.Exit(1)


def show_outcome(client: "KubeflowClient", state: "RunState") -> None:
    """Show the state of a run, and for each failed step why it failed and where its log is."""
    from pipeline.display import duration
    from pipeline.kubeflow.run_state import FAILED, NO_REASON

    typer.echo(f"{state.name}: {state.state} after {duration(state.seconds)}")
    for step in state.failed_steps:
        typer.echo(f"Failed    {step.name} ({step.title})")
        typer.echo(f"Reason    {step.reason or state.reason or NO_REASON}")
        typer.echo(f"Log       {log_command(client, state.id, step.pod)}")
    if state.state == FAILED and not state.failed_steps:
        typer.echo(f"Reason    {state.reason or NO_REASON}\nLog       {log_command(client, state.id)}")
    typer.echo(f"Page      {client.run_url(state.id)}")


def log_command(client: "KubeflowClient", run_id: str, pod: str = "") -> str:
    """Return the command that prints the log of a pod, or of all pods of a run if the API does not name the pod."""
    which = quote(pod) if pod else f"--selector pipeline/runid={quote(run_id)} --prefix --tail 100"
    return f"kubectl logs --namespace {quote(client.namespace or SINGLE_USER_NAMESPACE)} --container main {which}"


def follow_up(client: "KubeflowClient", command: str, run_id: str) -> str:
    """Return a further command on a run of the same server. The token is not repeated."""
    namespace = f" --namespace {quote(client.namespace)}" if client.namespace else ""
    return f"{command_name()} runs {command} {quote(run_id)} --url {quote(client.host)}{namespace}"
