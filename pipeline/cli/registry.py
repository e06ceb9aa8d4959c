"""The registry's champion and what is served, side by side."""

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from components.deploy.step import deploy
from components.register.step import CHALLENGER
from mlops import tracking
from mlops.tracking.champion import CHAMPION, history
from pipeline.settings import PipelineSettings
from serving.torchserve.client import ServingError, TorchServe


def serve(settings: PipelineSettings, output: Path) -> dict[str, Any]:
    """Deploy the champion as the step deploy does, smoke-tested with a tone; returns its record.

    Raises:
        DeployError, ServingError, TrackingError: see the step deploy.
    """
    return deploy(settings.register.name, None, settings.deploy, output)


def overview(settings: PipelineSettings) -> Table:
    """Aliases, the moves of the champion, and the endpoint's own word.

    Raises:
        TrackingError: MLflow does not answer.
    """
    name = settings.register.name
    shown = Table(title=f"Model {name}", title_justify="left", show_header=False, box=None)
    for alias in (CHAMPION, CHALLENGER):
        shown.add_row(alias, Text(_described(tracking.version_by_alias(name, alias))))
    for move in history(name)[-3:]:
        shown.add_row(f"{move.kind} {move.at}", Text(f"version {move.to}, by {move.by}"))
    server = TorchServe.of(settings.deploy)
    try:
        shown.add_row("endpoint", f"{server.url(name)}: {server.ping()}, serves {server.default(name) or 'no version'}")
    except ServingError as error:
        shown.add_row("endpoint", Text(str(error)))
    return shown


def _described(version: tracking.Version | None) -> str:
    if version is None:
        return "none"
    decision = version.tags.get("decision", "not judged")
    reasons = version.tags.get("decision_reasons", "")
    text = f"version {version.number}: {decision}" + (f" ({reasons})" if reasons else "")
    approved, judged = (version.tags.get(key, "") for key in ("approved_at", "decision_at"))
    if approved and approved >= judged:  # times in UTC, which sort as text; a later judgement counts for itself
        text += f"; approved {approved} by {version.tags['approved_by']}: {version.tags['approved_because']}"
    return text
