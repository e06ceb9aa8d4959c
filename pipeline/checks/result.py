"""The result of a check."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "info", "warning", "failure"]


@dataclass(frozen=True)
class Check:
    """One line of the output.

    Attributes:
        level: `failure` where something that the settings need does not work, `warning` where something may not work,
            `info` for something that is not there and need not be.
        remedy: how to fix it; empty if there is nothing to do, or if the message says it.
    """

    name: str
    level: Level
    message: str
    remedy: str = ""


def ok(name: str, message: str) -> Check:
    return Check(name, "ok", message)


def info(name: str, message: str) -> Check:
    return Check(name, "info", message)


def warning(name: str, message: str, remedy: str = "") -> Check:
    return Check(name, "warning", message, remedy)


def failure(name: str, message: str, remedy: str = "") -> Check:
    return Check(name, "failure", message, remedy)
