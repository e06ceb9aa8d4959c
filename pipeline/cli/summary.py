"""What is shown after a run: its result, and the commands and files to look at next."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlops.artifacts import OUTCOMES, AggregateFolder, DatasetFolder, DecisionFolder, ModelFolder
from pipeline.cli.classify_output import answer_table
from pipeline.cli.endpoint import curl_command, open_gateway
from pipeline.cli.options import EndpointOptions, command_name, relative_path
from pipeline.local import Run
from pipeline.settings import PipelineSettings
from serving.torchserve.client import ServingError, TorchServeClient

WORST_CLASSES = 5  # that are shown
REQUEST_KEYS = ("deploy.inference", "deploy.state", "register.name")  # what a request to the endpoint reads


def show_training(
    run: Run,
    settings: PipelineSettings,
    options: EndpointOptions = EndpointOptions(),  # noqa: B008  immutable
    console: Console | None = None,
) -> None:
    """Show an answer of the endpoint or the reasons why the model was not deployed, and where to go on."""
    console = console or Console()
    deployed = "deploy" in run.executed
    record = DecisionFolder(run.output("promote")).record()
    console.print()
    if deployed:
        show_request(run, settings, console)
    else:
        console.print(
            "[yellow]Not deployed.[/]", f"{record.name} version {record.challenger}: {OUTCOMES[record.outcome]}"
        )
        for reason in record.reasons:
            console.print(Text(f"  {reason}"), soft_wrap=True)
    console.print()
    links = {
        "Evaluation report": relative_path(run.output("evaluate") / "report.html"),
        "Data report": relative_path(DatasetFolder(run.output("ingest")).report),
        "Runs and model registry": "make mlflow",
    }
    command = command_name()
    if deployed:
        if page := open_gateway(settings):
            links = {"Page": f"{page}/", "REST endpoint": f"curl -T FILE {page}/classify", **links}
        links["Classify a clip"] = f"{command} classify{options.text(*REQUEST_KEYS)} FILE"
    else:
        label = "Approve the version" if record.outcome == "wait" else "Overrule the decision"
        if record.outcome == "keep":
            links["Deploy the champion"] = f"{command} deploy{options.text()}"
        reason = "" if record.outcome == "wait" else ' --because "..."'
        links[label] = f"{command} approve{options.text()} {record.challenger}{reason}"
    changed = options.text("deploy.state")
    links["Stop the servers"] = f"{command} down{changed}" if changed else "make down"
    _show_links(links, console)


def show_request(run: Run, settings: PipelineSettings, console: Console) -> None:
    """Send one clip of the test fold to the endpoint with curl, and show the command and the answer.

    Raises:
        ServingError: there is no answer.
    """
    dataset = DatasetFolder(run.output("ingest"))
    clips = dataset.clips()
    clip = clips[clips["fold"] == settings.train.fold].iloc[0]
    file = dataset.audio / clip["filename"]
    command = curl_command(relative_path(file), settings)
    console.print(Text(f"$ {command}", style="bold"), soft_wrap=True)
    if shutil.which("curl") is None:
        console.print("(curl is not installed: the same request, sent from Python)")
        answer = TorchServeClient.from_settings(settings.deploy).predict(file.read_bytes(), settings.register.name)
    else:
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
        try:
            answer = json.loads(done.stdout)
        except ValueError as error:
            raise ServingError(f"curl: the answer is not JSON: {done.stdout} {done.stderr}".strip()) from error
    console.print(Text(json.dumps(answer)), soft_wrap=True)
    if "predictions" not in answer:
        raise ServingError(f"the endpoint refuses a clip of the test fold: {answer}")
    console.print(answer_table(answer, f"{clip['filename']}, labeled {clip['category']}"), soft_wrap=True)


def show_crossval(run: Run, console: Console | None = None) -> None:
    """Show the metrics of a cross-validation or sweep, the classes with the lowest recall, and where its report is."""
    console = console or Console()
    folder = AggregateFolder(run.output("aggregate"))
    console.print()
    console.print(_metrics_table(folder.trials(), folder.trainings()))
    console.print()
    worst = folder.classes().sort_values("recall").head(WORST_CLASSES)
    recalls = ", ".join(f"{name} {recall:.0%}" for name, recall in zip(worst["class"], worst["recall"], strict=True))
    provenance = ModelFolder(run.output("train", "training-1")).classifier().provenance
    console.print(f"Lowest recall: {recalls}", soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"All trainings: {run.seconds('train'):.0f} s on {provenance['environment']['hardware']}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    console.print()
    _show_links({"Report": relative_path(folder.report), "Nested runs": "make mlflow"}, console)


def _metrics_table(trials: pd.DataFrame, trainings: pd.DataFrame) -> Table:
    """Return one row for each trial; for a single trial, one row for each training and one for all of them."""
    rows = [("all" if len(trials) == 1 else row.trial, row) for row in trials.itertuples()]
    if len(trials) == 1:
        seeds = trainings["seed"].nunique() > 1
        rows = [
            *((f"fold {row.fold}" + (f", seed {row.seed}" if seeds else ""), row) for row in trainings.itertuples()),
            *rows,
        ]
    table = Table(title_justify="left")
    for column in ("", "accuracy", "interval", "loss", "clips"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in rows:
        interval = f"{row.accuracy_low:.1%} to {row.accuracy_high:.1%}"
        table.add_row(str(name), f"{row.accuracy:.1%}", interval, f"{row.loss:.3f}", f"{row.clips}")
    return table


def _show_links(links: Mapping[str, Any], console: Console) -> None:
    for label, target in links.items():
        console.print(f"{label:<27}{target}", soft_wrap=True, highlight=False, markup=False)
