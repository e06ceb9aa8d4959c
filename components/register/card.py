"""The model card (Mitchell et al., Model Cards for Model Reporting, FAccT 2019)."""

import re
import textwrap
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from audiocnn.classifier import Classifier
from audiocnn.config import fold_role
from audiocnn.model import count_parameters
from mlops.artifacts import AuditRecord, DatasetRecord, Metrics

TEMPLATE = Path(__file__).with_name("card.md.j2")
CLASSES_LENGTH = 2000  # characters; MLflow stores up to 5,000 of the whole card
ESC50 = (
    "ESC-50 (K. J. Piczak, ACM MM 2015) is licensed under CC BY-NC 3.0: attribution, no commercial use. "
    "Only its ESC-10 subset is CC BY 3.0."
)
DEMO = (
    "The clips are synthetic and free of rights. The metrics show that the pipeline works; they do not predict the "
    "accuracy on recordings."
)


def render(
    name: str,
    run_id: str,
    classifier: Classifier,
    dataset: DatasetRecord,
    metrics: Metrics,
    audit: AuditRecord | None = None,
) -> str:
    """Return the model card as Markdown: a model of the MLflow run `run_id`, with the metrics on its test fold."""
    train = classifier.provenance["train"]
    hold_out = train.get("hold_out", ())
    # Without autoescape: this is Markdown, and MLflow sanitizes the HTML that it makes of it.
    environment = Environment(undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        name=name,
        run_id=run_id,
        classes=classifier.classes,
        listed_classes=textwrap.shorten(
            ", ".join(classifier.classes), CLASSES_LENGTH, placeholder=" ... (see model.json)"
        ),
        parameters=count_parameters(classifier.network),
        provenance=classifier.provenance,
        role=fold_role(hold_out),
        hold_out=hold_out,
        calibration_fold=train.get("calibration_fold"),
        leave_out=train.get("leave_out", ()),
        settings=classifier.settings,
        spectrograms=classifier.settings.to_dict(),
        dataset=dataset,
        metrics=metrics,
        audit=audit,
        license=_license(dataset.source),
    )


def _license(source: str) -> str:
    name = re.sub(r"[^a-z0-9]", "", source.lower())
    if "esc50" in name or "esc10" in name:
        return ESC50
    return DEMO if name == "demo" else ""
