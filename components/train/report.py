"""The training curves as a page for the Kubeflow UI."""

from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from audiocnn import plots
from audiocnn.config import TrainSettings


def curves_page(model: Path, settings: TrainSettings) -> str:
    """One self-contained HTML page with the three curves of the folder that the step train wrote."""
    history = pd.read_csv(model / "history.csv")
    pictures = {name: plots.data_uri(figure) for name, figure in plots.curves(history, settings.fold_role).items()}
    environment = Environment(loader=PackageLoader("components.train", "."), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("curves.html.j2").render(
        curves=pictures, last=history.iloc[-1].to_dict(), settings=settings
    )
