"""What a compiled pipeline says of itself: its tasks in order, their titles, and the gates before them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

CONDITION = re.compile(r"inputs\.parameter_values\['pipelinechannel--(?P<task>.+)-Output'\] == '(?P<value>.*)'")


@dataclass(frozen=True)
class Gate:
    """The tasks behind it run only where the one output of `task` equals `value`."""

    task: str
    value: str


@dataclass(frozen=True)
class Task:
    """One step of a graph; `name` is the one that KFP writes into logs and folder names.

    `repeated`: it stands in a loop and runs once an item, side by side.
    """

    name: str
    title: str
    gate: Gate | None = None
    repeated: bool = False


@dataclass(frozen=True)
class Graph:
    """A pipeline's name, its tasks in the order in which they run, and the names of its parameters."""

    name: str
    tasks: tuple[Task, ...]
    parameters: tuple[str, ...]


def read(path: Path) -> Graph:
    """Read a compiled pipeline."""
    spec = next(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    parameters = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    tasks = tuple(_tasks(spec["root"]["dag"], spec["components"], None, False))
    return Graph(spec["pipelineInfo"]["name"], tasks, tuple(parameters))


def _tasks(dag: Mapping[str, Any], components: Mapping[str, Any], gate: Gate | None, repeated: bool) -> Iterator[Task]:
    named = dag["tasks"]
    order = TopologicalSorter({name: task.get("dependentTasks", []) for name, task in sorted(named.items())})
    for name in order.static_order():
        task = named[name]
        component = task["componentRef"]["name"]
        if inner := components[component].get("dag"):
            yield from _tasks(inner, components, _gate(task) or gate, repeated or "parameterIterator" in task)
        else:
            title = task.get("taskInfo", {}).get("name", name)
            yield Task(component.removeprefix("comp-"), title, gate, repeated)


def _gate(task: Mapping[str, Any]) -> Gate | None:
    condition = task.get("triggerPolicy", {}).get("condition")
    if condition is None:
        return None
    # KFP's local runner skips a condition in any other form without a word, so none may enter a graph.
    if not (match := CONDITION.fullmatch(condition)):
        raise ValueError(f"a condition that only tests the unnamed output of a task was expected, found: {condition}")
    return Gate(match["task"], match["value"])
