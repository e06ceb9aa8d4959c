"""The options of a request: the fields of its form."""

from collections.abc import Mapping
from typing import Any

from audiocnn.recordings import AnswerOptions
from serving.torchserve.statuses import InvalidOption

BOOLEANS = {"true": True, "false": False}


def parse_options(given: Mapping[str, str], classes: int) -> AnswerOptions:
    """Return the options of a prediction by a model with this number of classes.

    Raises:
        InvalidOption: an unknown option or an invalid value.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("events", "windows"):
            if value not in BOOLEANS:
                raise InvalidOption(f"the option {name} is true or false, not {value!r}")
            values[name] = BOOLEANS[value]
        elif name == "top_k":
            if not (value.isascii() and value.isdecimal() and len(value) < 10 and 1 <= int(value) <= classes):
                raise InvalidOption(f"the option top_k is a number from 1 to {classes}, the classes, not {value!r}")
            values[name] = int(value)
        else:
            raise InvalidOption(f"there is no option {name!r}; the options are top_k, events and windows")
    return AnswerOptions(**values)
