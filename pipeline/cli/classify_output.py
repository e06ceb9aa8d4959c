"""What `audiocnn classify` writes: tables, CSV, JSON and Audacity's label tracks."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiocnn.atomic import atomic_file

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

BAR = 30  # characters of a bar of 100 %
SHORT_BAR = 10
MAX_NAME = 50  # characters of a path in a table
SUMMARY_COLUMNS = ("file", "class", "probability", "label", "seconds", "analyzed_seconds", "silent_seconds", "error")
EVENT_COLUMNS = ("file", "start", "end", "class", "confidence", "error")
Answer = Mapping[str, Any]


def write(answers: Sequence[Answer], format_: str, events: bool, output: Path | None) -> None:
    """Write the answers to a file, which appears complete or not at all, or to standard output."""
    if format_ == "audacity":
        _write_labels(answers, output)
        return
    if format_ == "table" and output is None:
        from rich.console import Console

        print_tables(answers, events, Console())
        return
    _write_text(_text(answers, format_, events), output)


def print_tables(answers: Sequence[Answer], events: bool, console: "Console") -> None:
    """Print the answer to one file with all its classes, or a line for each of several files or events."""
    if len(answers) == 1 and "error" not in answers[0] and not events:
        console.print(answer_table(answers[0], answers[0]["file"]), soft_wrap=True)
        if remark := _remark(answers[0]):
            console.print(f"[dim] {remark}[/]", highlight=False)
        if (silent := answers[0]["silent_seconds"]) > 0:
            console.print(f"{silent:g} s of {answers[0]['clip']['seconds']:g} s are silent", highlight=False)
        return
    for line in _event_lines(answers) if events else _file_lines(answers):
        console.print(line, soft_wrap=True)


def answer_table(answer: Answer, title: str) -> "Table":
    """Return an answer of the endpoint, one row for each class, most likely first."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title), no_wrap=True), title_justify="left", show_header=False, box=None)
    for item in answer["predictions"]:
        probability = item["probability"]
        bar = "█" * round(probability * BAR)
        table.add_row(Text(item["class"]), Text(f"{probability:6.1%}"), Text(bar, style="green"))
    return table


def csv_rows(answers: Sequence[Answer], events: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each class of a file, or for each event; a file without an answer is one row."""
    for answer in answers:
        common = {"file": answer["file"], "error": answer.get("error", "")}
        if "error" in answer:
            yield common
        elif events:
            yield from ({**common, **event, "confidence": f"{event['confidence']:.6f}"} for event in answer["events"])
        else:
            times = {name: answer[name] for name in ("label", "analyzed_seconds", "silent_seconds")}
            times["seconds"] = answer["clip"]["seconds"]
            for item in answer["predictions"]:
                yield {**common, **times, "class": item["class"], "probability": f"{item['probability']:.6f}"}


def labels(answer: Answer) -> str:
    """Return the events as one of Audacity's label tracks: a line with start, end and label for each."""
    return "".join(
        f"{event['start']:.6f}\t{event['end']:.6f}\t{event['class']} {event['confidence']:.0%}\n"
        for event in answer["events"]
    )


def _text(answers: Sequence[Answer], format_: str, events: bool) -> str:
    if format_ == "json":
        return json.dumps(answers, indent=2, ensure_ascii=False) + "\n"
    text = io.StringIO()
    if format_ == "csv":
        writer = csv.DictWriter(text, EVENT_COLUMNS if events else SUMMARY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv_rows(answers, events))
    else:
        from rich.console import Console

        print_tables(answers, events, Console(file=text, width=1000))
    return text.getvalue()


def _write_text(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    with atomic_file(output) as part:
        part.write_text(text, encoding="utf-8")


def _write_labels(answers: Sequence[Answer], output: Path | None) -> None:
    """Write one label track, or one for each file, NAME.txt, to the folder `output`."""
    if len(answers) == 1 and not (output is not None and output.is_dir()):
        if "error" in answers[0]:
            sys.stderr.write(f"{printable(answers[0]['file'])}: {answers[0]['error']}\n")
        else:
            _write_text(labels(answers[0]), output)
        return
    assert output is not None
    written: set[Path] = set()
    for answer in answers:
        if "error" in answer:
            sys.stderr.write(f"{printable(answer['file'])}: {answer['error']}\n")
            continue
        name = Path(answer["file"]).name
        path, number = output / f"{name}.txt", 1
        while path in written:  # files of one name in several folders
            number += 1
            path = output / f"{name}.{number}.txt"
        written.add(path)
        _write_text(labels(answer), path)


def _file_lines(answers: Sequence[Answer]) -> Iterator["Text"]:
    """Yield a line for each file, with further classes on lines below it."""
    from rich.text import Text

    names, classes = _column(answers, "predictions")
    yield Text(f"{'file':<{names}}  {'seconds':>8}  {'class':<{classes}}  probability", style="bold")
    for answer in answers:
        name = _shortened(answer["file"])
        if "error" in answer:
            yield _error_line(f"{name:<{names}}", answer)
            continue
        seconds = f"{answer['clip']['seconds']:.1f}"
        for item in answer["predictions"]:
            percent = f"{item['probability']:.1%}"
            line = Text(f"{name:<{names}}  {seconds:>8}  {item['class']:<{classes}}  {percent:>6} ")
            yield line.append("█" * round(item["probability"] * SHORT_BAR), style="green")
            name = seconds = ""
        if remark := _remark(answer):
            yield Text(f"{'':<{names}}  {'':>8}  {remark}", style="dim")


def _event_lines(answers: Sequence[Answer]) -> Iterator["Text"]:
    """Yield a line for each event of each file."""
    from rich.text import Text

    names, classes = _column(answers, "events")
    yield Text(f"{'file':<{names}}  {'from':>9}  {'to':>9}  {'class':<{classes}}  confidence", style="bold")
    for answer in answers:
        name = _shortened(answer["file"])
        if "error" in answer:
            yield _error_line(f"{name:<{names}}", answer)
        elif not answer["events"]:
            yield Text(f"{name:<{names}}  no class is heard with enough confidence", style="dim")
        else:
            for event in answer["events"]:
                times = f"{_clock(event['start']):>9}  {_clock(event['end']):>9}"
                percent = f"{event['confidence']:.0%}"
                yield Text(f"{name:<{names}}  {times}  {event['class']:<{classes}}  {percent:>6}")
                name = ""


def _remark(answer: Answer) -> str:
    """Return why the label is not the most probable class; empty if it is."""
    label = answer["label"]
    return "" if label == answer["predictions"][0]["class"] else f"{label}: below the threshold of the class"


def _error_line(name: str, answer: Answer) -> "Text":
    from rich.text import Text

    return Text(f"{name}  ").append(answer["error"], style="red")


def _column(answers: Sequence[Answer], key: str) -> tuple[int, int]:
    """Return the widths of the columns of files and classes; `key` is that of the lists with classes."""
    names = max(len(_shortened(answer["file"])) for answer in answers)
    classes = [len(item["class"]) for answer in answers for item in answer.get(key, ())]
    return max(names, len("file")), max([*classes, len("class")])


def _shortened(name: str) -> str:
    """Return the end of a long path, as a terminal may show it."""
    name = printable(name)
    return name if len(name) <= MAX_NAME else f"…{name[1 - MAX_NAME :]}"


def printable(name: str) -> str:
    """Replace line breaks and escape sequences, with which a file's name could change what a terminal shows."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def _clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds: 75.5 as "1:15.5"."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
