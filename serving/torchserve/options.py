"""The options of a request: the fields of its form."""

from collections.abc import Mapping
from typing import Any

from audiocnn.recordings import AnswerOptions
from serving.torchserve.statuses import InvalidOption

BOOLEANS = {"true": True, "false": False}


def parse_options(given: Mapping[str, Any], classes: int) -> AnswerOptions:
    """Return the options of a prediction.

    Args:
        given: names and values, as text or bytes.
        classes: number of classes of the model.
    Raises:
        InvalidOption: an unknown option or an invalid value.
    """
    values: dict[str, Any] = {}
    for name, content in given.items():
        value = option_text(content)
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


def option_text(content: Any) -> str:
    """Return the value of an option as text."""
    return content.decode(errors="replace") if isinstance(content, bytes | bytearray) else str(content)
