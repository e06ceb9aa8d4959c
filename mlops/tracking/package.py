"""A model folder in MLflow's own format: signature, example, requirements and the library's code beside the weights."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import audiocnn

PACKAGES = (
    "mlflow",
    "torch",
    "torchaudio",
    "numpy",
    "pandas",
    "soundfile",
    "soxr",
    "safetensors",
    "pyyaml",
)
ARTIFACT = "model"  # the model folder's name inside the package


def write(model: Path, into: Path, classes: Sequence[str], example: bytes, run_id: str, model_id: str) -> None:
    """Write the package into the empty folder `into`. `example` is a sound file that shows how to ask.

    The library travels along, so that the package answers where this project is not installed, and answers the same
    when the library has moved on.
    """
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    numbers = [ColSpec(DataType.double, name) for name in ("confidence", *(f"p:{name}" for name in classes))]
    signature = ModelSignature(
        Schema([ColSpec(DataType.binary, "audio")]), Schema([ColSpec(DataType.string, "class"), *numbers])
    )
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # an environment without pip is fine
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch, "audiocnn")
        shutil.copytree(Path(audiocnn.__file__).parent, library, ignore=shutil.ignore_patterns("__pycache__"))
        weights = shutil.copytree(model, Path(scratch, ARTIFACT))
        # Copied, because MLflow writes into the package where the file lay.
        loader = shutil.copy(Path(__file__).with_name("tracking_pyfunc.py"), scratch)
        mlflow.pyfunc.save_model(
            into,
            python_model=loader,
            artifacts={ARTIFACT: str(weights)},
            code_paths=[str(library)],
            signature=signature,
            input_example=pd.DataFrame({"audio": [example]}),
            pip_requirements=requirements(),
            mlflow_model=Model(run_id=run_id, model_id=model_id, model_uuid=model_id),
        )


def requirements() -> list[str]:
    """What the package needs, each at the version that is installed here."""
    # "2.11.0+cpu" names a build; no index offers it under that name.
    return [f"{name}=={version(name).partition('+')[0]}" for name in PACKAGES]
