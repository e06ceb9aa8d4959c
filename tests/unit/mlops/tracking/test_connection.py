"""The connection to MLflow: unreachable servers, locked databases, concurrent writers."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy
from helpers.mlflow import free_port, start

from mlops import tracking
from mlops.tracking import connection


def test_concurrent_first_users_share_a_new_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(lambda _: tracking.connect().experiment_id(), range(2)))
    assert ids[0] == ids[1] and (tmp_path / "var/mlflow.db").is_file()
    assert {item.name for item in tmp_path.iterdir()} == {"var"}


def test_unreachable_server_is_one_sentence_without_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(key, "")
        monkeypatch.delenv(key)
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:secret@127.0.0.1:{port}/")
    with pytest.raises(tracking.TrackingError) as raised:
        start()
    message = str(raised.value)
    assert f"http://127.0.0.1:{port} cannot be reached" in message and "MLFLOW_TRACKING_URI" in message
    assert "secret" not in message and "anna" not in message and "\n" not in message
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "anna"
    assert os.environ["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{port}"


def test_unsupported_uri_is_one_sentence_without_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://anna:secret@nowhere/mlflow")
    with pytest.raises(tracking.TrackingError, match="gopher://nowhere/mlflow") as raised:
        start()
    assert "secret" not in str(raised.value) and raised.value.__cause__ is None


def test_variables_of_mlflow_are_set_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.delenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", raising=False)
    tracking.connect()
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


@pytest.fixture
def write_to_locked_database(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A function that writes, without waiting, to a SQLite file which is locked for a second after the first call."""
    holder = sqlite3.connect(tmp_path / "own.db", isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE notes (text)")
    holder.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(1.0, lambda: holder.execute("COMMIT"))
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'own.db'}?timeout=0")

    def write() -> None:
        if not release.is_alive() and not release.finished.is_set():
            release.start()
        with engine.begin() as transaction:
            transaction.execute(sqlalchemy.text("INSERT INTO notes VALUES ('written')"))

    yield write
    release.join()
    assert holder.execute("SELECT count(*) FROM notes").fetchone() == (1,)
    holder.close()


def test_locked_database_is_retried(write_to_locked_database: Callable[[], None]) -> None:
    tracking.connect().call(write_to_locked_database)


def test_permanently_locked_database_is_an_error(
    write_to_locked_database: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOCK_SECONDS", 0.1)
    with pytest.raises(tracking.TrackingError, match="database is locked"):
        tracking.connect().call(write_to_locked_database)
    monkeypatch.undo()
    tracking.connect().call(write_to_locked_database)


def test_concurrent_runs_lose_no_metrics() -> None:
    def write(number: int) -> tracking.Run:
        run = start()
        for step in range(10):
            run.log_metrics({"train_loss": number + step}, step=step)
        return run

    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(write, range(6)))
    client = tracking.connect().client
    assert [len(client.get_metric_history(run.run_id, "train_loss")) for run in runs] == [10] * 6
