"""The MLflow server of a team: PostgreSQL, artifacts on S3, and two users with different rights."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow.server.auth.client import AuthServiceClient

from helpers.mlflow import running_server
from helpers.postgres import postgres
from helpers.s3 import new_bucket

PASSWORD = "a-long-password"
PIPELINE, REVIEWER = "pipeline", "reviewer"


@dataclass(frozen=True)
class Team:
    """The server, and a way to become one of its users.

    Attributes:
        url: address of the server.
        log: the server's output, with a line for each request.
        patch: sets the environment until the end of the test.
    """

    url: str
    log: Path
    patch: pytest.MonkeyPatch

    def log_in(self, user: str, password: str = PASSWORD) -> mlflow.MlflowClient:
        """Let MLflow's client in this process be that user."""
        self.patch.setenv("MLFLOW_TRACKING_USERNAME", user)
        self.patch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        return mlflow.MlflowClient(self.url, self.url)

    def grant(self, user: str, resource: str, name: str, permission: str) -> None:
        """Give a user a permission, as an administrator."""
        self.log_in("admin")
        AuthServiceClient(self.url).grant_user_permission(user, resource, name, permission)


@contextmanager
def mlflow_team(s3_server: str, folder: Path) -> Iterator[Team]:
    """Start PostgreSQL and the server. Every user may read everything, and write what they create."""
    database_folder = Path(f"/tmp/audiocnn-{uuid.uuid4().hex[:12]}")
    with pytest.MonkeyPatch.context() as patch:
        bucket = new_bucket(s3_server, patch)
        try:
            with postgres(database_folder, PASSWORD) as database:
                uri = f"postgresql+psycopg://mlflow:{PASSWORD}@127.0.0.1:{database.port}/mlflow"
                config = folder / "auth.ini"
                config.write_text(
                    f"[mlflow]\ndatabase_uri = {uri}\ndefault_permission = READ\n"
                    "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
                )
                options = ("--backend-store-uri", uri, "--artifacts-destination", f"{bucket}/mlflow")
                variables = {
                    "MLFLOW_AUTH_CONFIG_PATH": str(config),
                    "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
                    "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
                    "MLFLOW_FLASK_SERVER_SECRET_KEY": PASSWORD,
                }
                with running_server(folder, *options, "--app-name", "basic-auth", **variables) as url:
                    patch.setenv("MLFLOW_TRACKING_URI", url)
                    team = Team(url, folder / "log.txt", patch)
                    team.log_in("admin")
                    for user in (PIPELINE, REVIEWER):
                        AuthServiceClient(url).create_user(user, PASSWORD)
                    yield team
        finally:
            shutil.rmtree(database_folder, ignore_errors=True)
