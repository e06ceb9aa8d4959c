"""The model card: what a person should know before trusting the model (Mitchell et al., Model Cards, FAccT 2019)."""

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from audiocnn.classifier import Classifier
from audiocnn.model import count_parameters

FIGURES = (
    "clips",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "macro_f1",
    "min_class_recall",
    "calibration_error",
    "latency_ms",
)  # of metrics.json, that the card names
ESC50 = (
    "ESC-50 (K. J. Piczak, ACM MM 2015) is CC BY-NC 3.0: name the author, no commercial use. "
    "Only its clips marked ESC-10 are CC BY 3.0."
)
DEMO = "The clips are synthetic and free of rights; the figures say that the pipeline works, not that it hears well."


def render(
    name: str, run_id: str, classifier: Classifier, dataset: Mapping[str, Any], metrics: Mapping[str, Any]
) -> str:
    """The card as Markdown. `dataset` is dataset.json's content, `metrics` that of metrics.json."""
    # No autoescape: this is Markdown, and MLflow's page removes HTML that a card may hold.
    environment = Environment(
        loader=PackageLoader("components.register", "."), undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("card.md.j2").render(
        name=name,
        run_id=run_id,
        classes=classifier.classes,
        parameters=count_parameters(classifier.network),
        provenance=classifier.provenance,
        settings=classifier.settings,
        spectrograms=classifier.settings.to_dict(),
        dataset=dataset,
        metrics=metrics,
        licence=_licence(str(dataset["source"])),
    )


def _licence(source: str) -> str:
    short = re.sub(r"[^a-z0-9]", "", source.lower())
    if "esc50" in short or "esc10" in short:
        return ESC50
    return DEMO if short == "demo" else ""
