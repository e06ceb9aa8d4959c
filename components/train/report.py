"""The training curves as an HTML page for the Kubeflow UI."""

from pathlib import Path

from audiocnn import plots
from audiocnn.config import TrainSettings
from mlops.artifacts import ModelFolder
from mlops.reports import render

TEMPLATE = Path(__file__).with_name("curves.html.j2")


def curves_page(model: Path, settings: TrainSettings) -> str:
    history = ModelFolder(model).history()
    curves = {name: plots.data_uri(figure) for name, figure in plots.curves(history, settings.fold_role).items()}
    return render(TEMPLATE, curves=curves, last=history.iloc[-1].to_dict(), settings=settings)
