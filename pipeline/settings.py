"""PipelineSettings: all settings of one run, composed of the blocks of the steps.

python -m pipeline.settings            # write params.schema.json, which editors use to complete and check
python -m pipeline.settings --check    # fail if it is outdated
"""

import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from pydantic import Field, model_validator

from audiocnn.config import (
    DecodeSettings,
    EvaluateSettings,
    SpectrogramSettings,
    TrainSettings,
    check_audit_fold,
    check_compatible,
)
from audiocnn.strict_model import StrictModel
from components.deploy.settings import DeploySettings
from components.ingest.settings import IngestSettings
from components.promote.settings import PromoteSettings
from components.train.settings import ResourceSettings
from mlops.cluster_settings import KubeflowSettings
from mlops.command_line import run
from mlops.register_settings import RegisterSettings
from mlops.settings import PARAMS, resolve
from mlops.storage_settings import StorageSettings
from serving.gateway.settings import GatewaySettings

SCHEMA = Path(__file__).resolve().parents[1] / "params.schema.json"

# The block `register` hides abc.ABCMeta.register, which no model needs.
warnings.filterwarnings("ignore", 'Field name "register" in "PipelineSettings" shadows')


class PipelineSettings(StrictModel):
    """The recipe's name, one block for each step, and those for a cluster, as in params.yaml."""

    recipe: str
    ingest: IngestSettings
    spectrograms: SpectrogramSettings
    train: TrainSettings
    evaluate: EvaluateSettings
    register: RegisterSettings = Field(...)  # without it, abc.ABCMeta.register would be the default
    promote: PromoteSettings
    deploy: DeploySettings
    gateway: GatewaySettings
    decode: DecodeSettings
    storage: StorageSettings
    resources: ResourceSettings
    kubeflow: KubeflowSettings

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        check_compatible(self.train, self.spectrograms)
        check_audit_fold(self.evaluate, self.train)
        return self


def load(path: Path = PARAMS, overrides: Mapping[str, Any] | None = None) -> PipelineSettings:
    """Resolve params.yaml, its recipe and overrides into validated settings.

    Raises:
        SettingsError: naming every error with file, line and key.
    """
    return resolve(path, overrides).parse(PipelineSettings)


def json_schema() -> str:
    """Return the JSON schema of params.yaml and the recipes. No key is required, since each file has some of them."""
    schema = PipelineSettings.model_json_schema()
    for model in [schema, *schema["$defs"].values()]:
        model.pop("required", None)
    return json.dumps(schema, indent=2) + "\n"


def main(check: Annotated[bool, typer.Option(help="Write nothing; fail if the file is outdated.")] = False) -> None:
    """Write the JSON schema of params.yaml."""
    if not check:
        SCHEMA.write_text(json_schema(), encoding="utf-8")
    elif not SCHEMA.is_file() or SCHEMA.read_text(encoding="utf-8") != json_schema():
        print(f"{SCHEMA.name} is outdated: run `make compile` and commit it", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    run(main)
