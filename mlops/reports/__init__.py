"""HTML reports of the steps: self-contained pages with a common style sheet.

A step's template extends `base.html.j2`, which has the style sheet, and imports what it needs from `macros.html.j2`.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def _percent(share: float, digits: int = 1) -> str:
    """Format a share (0 to 1) in percent, without the sign."""
    return f"{100 * share:.{digits}f}"


_ENVIRONMENT = Environment(
    loader=PackageLoader("mlops.reports", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_ENVIRONMENT.filters["percent"] = _percent
_ENVIRONMENT.filters["thousands"] = "{:,}".format


def render(template: Path, **values: Any) -> str:
    """Return an HTML page.

    Args:
        template: a template file of a step.
        values: its variables. They are escaped; a missing one raises jinja2.UndefinedError.
    """
    return _ENVIRONMENT.from_string(template.read_text(encoding="utf-8")).render(**values)
