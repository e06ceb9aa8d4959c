"""The files and folders that steps hand on. They are read, written and validated in this package and nowhere else."""

from mlops.artifacts.aggregate import AggregateFolder, AggregateMetrics
from mlops.artifacts.dataset import DatasetFolder, DatasetRecord
from mlops.artifacts.evaluation import EvaluationFolder, Metrics
from mlops.artifacts.folder import ArtifactError
from mlops.artifacts.model import ModelFolder, RunRecord
from mlops.artifacts.plan import TrainingRequest, parse_plan, plan_json, read_plan, write_plan
from mlops.artifacts.predictions import Predictions
from mlops.artifacts.release import (
    DecisionFolder,
    DecisionRecord,
    DeploymentFolder,
    DeploymentRecord,
    Outcome,
    RegistrationFolder,
    VersionRecord,
)

__all__ = [
    "AggregateFolder",
    "AggregateMetrics",
    "ArtifactError",
    "DatasetFolder",
    "DatasetRecord",
    "DecisionFolder",
    "DecisionRecord",
    "DeploymentFolder",
    "DeploymentRecord",
    "EvaluationFolder",
    "Metrics",
    "ModelFolder",
    "Outcome",
    "Predictions",
    "RegistrationFolder",
    "RunRecord",
    "TrainingRequest",
    "VersionRecord",
    "parse_plan",
    "plan_json",
    "read_plan",
    "write_plan",
]
