"""A real MLflow server with PostgreSQL, S3 and two users: what each of them may do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.mlflow_team import PIPELINE, REVIEWER, Team, mlflow_team

from mlops import tracking

pytestmark = pytest.mark.xdist_group("mlflow-team")
NAME = "sounds"
VARIABLES = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


@pytest.fixture(scope="module")
def team(s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with mlflow_team(s3_server, tmp_path_factory.mktemp("team")) as team:
        client = team.log_in(PIPELINE)
        run = client.create_run(client.create_experiment("audiocnn"))
        client.create_registered_model(NAME)
        client.create_model_version(NAME, f"{run.info.artifact_uri}/model", run.info.run_id)
        team.grant(REVIEWER, "registered_model", NAME, "EDIT")
        yield team


def run_of_the_version() -> tracking.Run:
    return tracking.resume_run(tracking.get_version(NAME, 1).run_id)


def test_a_reviewer_moves_the_alias_and_sets_tags(team: Team) -> None:
    team.log_in(REVIEWER)
    tracking.set_alias(NAME, "champion", 1)
    tracking.tag_version(NAME, 1, {"validation_status": "approved"})
    assert tracking.version_by_alias(NAME, "champion").tags["validation_status"] == "approved"


def test_a_reviewer_changes_neither_files_nor_runs(team: Team) -> None:
    team.log_in(REVIEWER)
    refused = rf"does not permit /api/\S+ to the user 'reviewer' \(HTTP 403\); .* set {VARIABLES} to those of another"
    for change in (
        lambda: run_of_the_version().log_text("forged", "versions/sounds-1/decision.json"),
        lambda: run_of_the_version().set_tags({"note": "forged"}),
        lambda: tracking.connect().call(tracking.connect().client.delete_model_version, NAME, "1"),
    ):
        with pytest.raises(tracking.TrackingError, match=refused):
            change()


def test_the_pipeline_writes_files_and_reads_them_through_the_server(team: Team, tmp_path: Path) -> None:
    team.log_in(PIPELINE)
    run = run_of_the_version()
    run.log_text("text", "notes.txt")
    connection = tracking.connect()
    read = connection.call(connection.client.download_artifacts, run.run_id, "notes.txt", str(tmp_path))
    assert Path(read).read_text(encoding="utf-8") == "text"
    log = team.log.read_text(encoding="utf-8")
    assert "notes.txt" in log and "presigned" not in log  # clients may be unable to reach the server's S3


@pytest.mark.parametrize(("user", "who"), [(REVIEWER, "the user 'reviewer'"), ("", "a request without a user")])
def test_a_wrong_or_missing_password_names_the_variables(user: str, who: str, team: Team) -> None:
    team.log_in(user, "wrong" if user else "")
    with pytest.raises(tracking.TrackingError) as raised:
        tracking.version_by_alias(NAME, "champion")
    assert str(raised.value) == (
        f"MLflow at {team.url} does not accept {who} (HTTP 401); set {VARIABLES} to those of a user of this server"
    )
