"""The command classify: sound files and folders, with the gateway or with the registry's champion."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from audiocnn.errors import AudioCNNError
from mlops.outputs import check_writable
from mlops.settings import is_http_address
from pipeline.cli.options import PARAMS, ParamsOption, SetOption, load_settings

if TYPE_CHECKING:
    from pipeline.recordings import RecordingClassifier

Format = Literal["table", "csv", "json", "audacity"]
TOP_OF_ONE = 5  # classes that are shown of a single file
SUFFIXES = frozenset(  # of the files in a folder that are classified
    f".{name}"
    for name in (
        *("wav", "wave", "rf64", "w64", "aif", "aiff", "aifc", "au", "snd", "caf", "flac", "ogg", "oga", "opus", "mp3"),
        *("m4a", "mp4", "aac", "webm", "mka"),
    )
)


class ClassifyError(AudioCNNError):
    """There is nothing to classify, or the options do not fit each other."""


def classify(
    paths: Annotated[list[str], typer.Argument(help="Sound files, and folders, which are searched for them.")],
    format_: Annotated[
        Format, typer.Option("--format", help="audacity writes label tracks of the events, one for each file.")
    ] = "table",
    events: Annotated[
        bool, typer.Option("--events", help="Show where in the recordings which class is heard.")
    ] = False,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help=f"Classes of each file; by default {TOP_OF_ONE} of one file, 1 of several."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File for the result; for audacity and several files, a folder.")
    ] = None,
    url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Address of a gateway elsewhere, such as https://host/path; by default that of the block gateway.",
        ),
    ] = "",
    local: Annotated[
        bool, typer.Option("--local", help="Classify here, with the champion of the registry, without the gateway.")
    ] = False,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Classify recordings of any length with the served model.

    A file that cannot be classified, or a folder that cannot be read, is a row with the reason; the exit status is 1.

    If the gateway wants a key, it is read from the environment variable AUDIOCNN_KEY.
    """
    from pipeline.cli import classify_output
    from pipeline.recordings import open_classifier

    files = find_files(paths)
    check_output(output, format_, files)
    check_url(url, local)
    settings = load_settings(params, set_)
    wanted = top_k or (TOP_OF_ONE if len(files) == 1 else 1)
    with open_classifier(settings, local, url) as classifier:
        if wanted > len(classifier.classes):
            raise ClassifyError(f"--top-k: the model has {len(classifier.classes)} classes, found {wanted}")
        answers = classify_files(classifier, files, wanted, events or format_ == "audacity")
    classify_output.write(answers, format_, events, output)
    if failed := sum("error" in answer for answer in answers):
        typer.echo(f"{failed} of {len(answers)} files could not be classified", err=True)
        raise typer.Exit(1)


def check_url(url: str, local: bool) -> None:
    """Check the option --url. The message does not contain it, since a URL may have a password.

    Raises:
        ClassifyError: it is not an address of a gateway, or --local is given too.
    """
    if url and local:
        raise ClassifyError("--url and --local exclude each other; give one of them")
    if url and not (is_http_address(url) and not set(url) & set("@?#")):
        raise ClassifyError(
            "--url: should be an address such as https://host/path, without a user or a query; the key is read from "
            "the environment variable AUDIOCNN_KEY"
        )


def check_output(output: Path | None, format_: Format, files: Sequence[Path]) -> None:
    """Check before the work that the result can be written, and replaces no folder and no recording.

    Raises:
        ClassifyError: the option --output does not fit the files or the format.
        OutputError: it cannot be written.
    """
    if format_ == "audacity" and len(files) > 1 and (output is None or output.is_file()):
        raise ClassifyError("--format audacity: there are several files; name a folder for their labels with --output")
    if output is None:
        return
    if format_ != "audacity" and output.is_dir():
        raise ClassifyError(f"--output {output}: is a folder; name a file")
    if output.resolve() in {file.resolve() for file in files}:
        raise ClassifyError(f"--output {output}: is one of the recordings; name another file")
    check_writable(output / "NAME.txt" if output.is_dir() else output)


def find_files(paths: Iterable[str]) -> list[Path]:
    """Return the given files, and what `search_folder` finds in the given folders.

    Raises:
        ClassifyError: a path is empty, or a folder has no sound files.
    """
    files: list[Path] = []
    for given in paths:
        if not given:  # Path would make it the working directory
            raise ClassifyError("a path is empty, as from a shell variable that is not set; name a file or a folder")
        path = Path(given)
        if not path.is_dir():
            files.append(path)
        elif found := search_folder(path):
            files += found
        else:
            raise ClassifyError(f"{path}: there are no sound files in the folder ({', '.join(sorted(SUFFIXES))})")
    return list(dict.fromkeys(files))


def search_folder(folder: Path) -> list[Path]:
    """Return the sound files in a folder and the folders therein, without hidden ones, sorted.

    A folder that cannot be read is among them, as a file would be: whoever opens it gets the reason.
    """
    found: list[Path] = []
    walk = os.walk(folder, onerror=lambda error: found.append(Path(error.filename)))
    for parent, folders, names in walk:
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (Path(parent, name) for name in names if not name.startswith("."))
        found.extend(file for file in files if file.suffix.lower() in SUFFIXES and file.is_file())
    return sorted(found)


def classify_files(
    classifier: "RecordingClassifier", files: Sequence[Path], top_k: int, events: bool
) -> list[dict[str, Any]]:
    """Return the answer to each file, with the progress on the terminal, if standard error is one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from audiocnn.recordings import AnswerOptions
    from pipeline.cli.classify_output import printable
    from pipeline.recordings import classify_file

    options = AnswerOptions(top_k=top_k, events=events)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    answers = []
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=len(files))
        for file in files:
            progress.update(task, description=printable(file.name))
            answers.append(classify_file(classifier, file, options))
            progress.advance(task)
    return answers
