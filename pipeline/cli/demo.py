"""`audiocnn demo`: the whole road on this machine, then one real request to what came out."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from audiocnn.data.clips import read_clips
from audiocnn.errors import AudioCNNError
from components.ingest import sources
from components.train.settings import TrainJobSettings
from mlops.provenance import code_digest
from pipeline import settings as pipeline_settings
from pipeline import training
from pipeline.cli import servers
from pipeline.cli.endpoint import command, curl, near, table
from pipeline.run import Run, RunError, run_local
from pipeline.settings import PipelineSettings
from serving.torchserve.client import TorchServe


class DemoError(AudioCNNError):
    """A test fold that the data does not have."""


def demo(
    path: Path, overrides: Mapping[str, Any], data: str | None, fold: int | None, console: Console, options: str = ""
) -> None:
    """Run ingest to deploy with the recipe demo and show what it led to.

    Args:
        path: params.yaml.
        overrides: of its keys; they win over the demo's own.
        data: a source, as ingest takes it; None takes the embedded clips.
        fold: the test fold; None takes the highest where the folds are known beforehand, else train.fold.
        options: as for `conclude`.
    Raises:
        DemoError, SourceError, RunError, ParamsError, ServingError: see there.
    """
    source = "demo" if data is None else data
    train = overrides.get("train", {})
    if fold is not None and isinstance(train, Mapping):  # what is not a mapping is refused with its name
        train = {"fold": fold, **train}
    settings = pipeline_settings.load(path, {"recipe": "demo", **overrides, **({"train": train} if train else {})})
    if data is not None and "fold" not in train:
        held = settings.train.hold_out
        if known := [each for each in sources.known_folds(source) if each not in held]:
            settings = settings.replace(train=settings.train.replace(fold=known[-1]))
            which = "the highest that is not held out," if held else "the highest"
            said = f"Test fold: {known[-1]}, {which} in {source} (FOLD=n for another)"
            console.print(said, markup=False, highlight=False)
    road(settings, source, run_local, console, options=options)


def road(
    settings: PipelineSettings,
    source: str,
    runner: Callable[..., Run],
    console: Console,
    shards: int = 1,
    options: str = "",
) -> None:
    """Look at what can be known beforehand, run the pipeline, and show what it led to.

    Args:
        runner: run_local or run_docker.
        options: as for `conclude`.
    Raises:
        DemoError, SourceError, RunError, ServingError: see there.
    """
    arguments = run_arguments(settings, source, shards)
    check_fold(source, settings.train.fold)
    if runner is run_local:  # a container starts no TorchServe
        servers.check(settings.deploy)
    with servers.no_stray(settings.deploy):
        try:
            run = runner(arguments, console=console)
        except RunError as error:
            if error.task != "deploy":
                raise
            hint = (
                f"The champion has moved already: `{command()} deploy{options}` is enough once this is mended, with "
                "--set deploy.inference=... and so on for other ports"
            )
            raise RunError(f"{error}\n{hint}", error.status, error.task) from error
        conclude(run, settings, console, options)


def run_arguments(
    settings: PipelineSettings, source: str, shards: int = 1, trainjob: TrainJobSettings | None = None
) -> dict[str, Any]:
    """All parameters of the training pipeline; the spectrograms are computed in `shards` tasks side by side.

    Args:
        trainjob: None trains where the task train runs.
    Raises:
        SourceError: `source` is of no known kind, or names a revision that is not there.
    """
    blocks, source = training.arguments(settings), sources.pinned_by_content(source)
    nodes = (trainjob or TrainJobSettings()).to_dict()
    shares = training.shares(shards)
    return {"source": source, **blocks, "shards": shares, "code_digest": code_digest(), "trainjob": nodes}


def check_fold(source: str, fold: int) -> None:
    """Look for the test fold where the folds are known before ingest has run.

    Raises:
        DemoError: it is not there.
    """
    known = sources.known_folds(source)
    if known and fold not in known:
        there = ", ".join(map(str, known))
        raise DemoError(
            f"train.fold: there is no fold {fold} in {source}; there are {there}: choose one with FOLD= (make demo), "
            "--fold (audiocnn demo) or --set train.fold="
        )


def conclude(run: Run, settings: PipelineSettings, console: Console, options: str = "") -> None:
    """What a finished run led to: an answer of the endpoint or the reasons against it, and where to go on.

    `options` are those with which the commands that are named reach the same endpoint.
    """
    console.print()
    if "deploy" in run.ran:
        ask(run, settings, console)
    else:
        console.print("[yellow]Not deployed.[/]\n")
        console.print(run.output("promote", "decision").read_text(encoding="utf-8"), highlight=False, markup=False)
    console.print()
    audiocnn = command()
    ways = {
        "Report on the unseen fold": near(run.output("evaluate", "evaluation") / "report.html"),
        "Report on the clips": near(run.output("ingest", "dataset") / "report.html"),
        "Runs and model registry": "make mlflow",
    }
    if "deploy" in run.ran:
        url = TorchServe.of(settings.deploy).url(settings.register.name)
        ways |= {"REST endpoint": url, "Name the sound in a clip": f"{audiocnn} classify{options} FILE"}
    else:
        decided = decision(run)
        what = "Let it pass, if it may" if decided["outcome"] == "wait" else "Overrule it with a reason"
        ways[what] = f'{audiocnn} approve{options} {decided["challenger"]:.0f} --because "..."'
    ways["Stop what was started"] = f"{audiocnn} down{options}" if options else "make down"
    for what, how in ways.items():
        console.print(f"{what:<27}{how}", soft_wrap=True, highlight=False, markup=False)


def decision(run: Run) -> dict[str, Any]:
    """What the step promote decided, and about which version: outcome, challenger, champion (0 for none)."""
    output = json.loads((run.folder / "promote" / "executor_output.json").read_text(encoding="utf-8"))
    (artifact,) = output["artifacts"]["decision"]["artifacts"]
    metadata: dict[str, Any] = artifact["metadata"]
    return metadata


def ask(run: Run, settings: PipelineSettings, console: Console) -> None:
    """Send one clip of the test fold with curl, as anybody would, and show the answer.

    Raises:
        RunError: there is no answer.
    """
    dataset = run.output("ingest", "dataset")
    clips = read_clips(dataset / "clips.csv")
    clip = clips[clips["fold"] == settings.train.fold].iloc[0]
    line = curl(near(dataset / "audio" / clip["filename"]), settings)
    console.print(Text(f"$ {line}", style="bold"), soft_wrap=True)
    if shutil.which("curl") is None:
        console.print("(no curl on this machine: the same request, sent from Python)")
        content = (dataset / "audio" / clip["filename"]).read_bytes()
        answer = TorchServe.of(settings.deploy).predict(content, settings.register.name)
    else:
        # The line that is shown is the line that runs.
        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True)
        try:
            answer = json.loads(done.stdout)
        except ValueError as error:
            raise RunError(f"curl: no JSON came back: {done.stdout} {done.stderr}".strip(), 1) from error
    console.print_json(json.dumps(answer))
    if "predictions" not in answer:
        raise RunError(f"the endpoint refuses a clip of its own test fold: {answer}", 1)
    console.print(table(answer, f"{clip['filename']}, labelled {clip['category']}"))
