"""HTML reports of the steps: self-contained pages with a common style sheet.

A step's template extends `base.html.j2`, which has the style sheet, and imports what it needs from `macros.html.j2`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from audiocnn import plots
from audiocnn.evaluation import Scores, class_table

CONFUSIONS = 20  # rows of the table that complements the picture of a reduced confusion matrix


def _percent(share: float, digits: int = 1) -> str:
    """Format a share (0 to 1) in percent, without the sign."""
    return f"{100 * share:.{digits}f}"


_ENVIRONMENT = Environment(
    loader=PackageLoader("mlops.reports", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_ENVIRONMENT.filters["percent"] = _percent
_ENVIRONMENT.filters["thousands"] = "{:,}".format


def render(template: Path, **values: Any) -> str:
    """Return an HTML page. The values are escaped; a missing one raises jinja2.UndefinedError."""
    return _ENVIRONMENT.from_string(template.read_text(encoding="utf-8")).render(**values)


def class_values(scores: Scores, classes: Sequence[str]) -> dict[str, Any]:
    """Return the values of the macros `confusion_matrix` and `class_table`: confusion, confusions and classes."""
    many = len(classes) > plots.MAX_MATRIX_CLASSES
    rows = class_table(scores, classes).sort_values(["recall", "f1", "class"]).rename(columns={"class": "name"})
    return {
        "confusion": plots.data_uri(plots.confusion(scores.confusion, classes)),
        "confusions": _readable(plots.confusion_table(scores.confusion, classes, CONFUSIONS)) if many else [],
        "classes": _readable(rows),
    }


def _readable(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.replace("_", " ", regex=True).to_dict("records")
    return rows
