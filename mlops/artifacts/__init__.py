"""The files and folders that steps exchange. Only this package reads, writes and validates them.

The exception is the spectrogram folder: the step spectrograms writes it, and audiocnn.data.spectrogram_set reads it.
"""

from mlops.artifacts.base_folder import ArtifactError
from mlops.artifacts.dataset_folder import DatasetFolder, DatasetRecord
from mlops.artifacts.evaluation_folder import AggregateFolder, AggregateMetrics, AuditRecord, EvaluationFolder, Metrics
from mlops.artifacts.model_folder import ModelFolder, RunRecord
from mlops.artifacts.plan import TrainingRequest, parse_plan, plan_json, read_plan, write_plan
from mlops.artifacts.predictions import Predictions
from mlops.artifacts.release import (
    OUTCOMES,
    DecisionFolder,
    DecisionRecord,
    DeploymentFolder,
    DeploymentRecord,
    Outcome,
    Registration,
    RegistrationFolder,
    VersionRecord,
)

__all__ = [
    "OUTCOMES",
    "AggregateFolder",
    "AggregateMetrics",
    "ArtifactError",
    "AuditRecord",
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
    "Registration",
    "RegistrationFolder",
    "RunRecord",
    "TrainingRequest",
    "VersionRecord",
    "parse_plan",
    "plan_json",
    "read_plan",
    "write_plan",
]
