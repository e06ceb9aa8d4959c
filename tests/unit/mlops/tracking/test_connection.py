"""The connection to MLflow: unreachable servers, locked databases, concurrent writers."""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy
from helpers.mlflow import start
from helpers.project import ROOT
from helpers.torchserve import free_ports

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
    (port,) = free_ports(1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:secret@127.0.0.1:{port}/")
    with pytest.raises(tracking.TrackingError) as raised:
        start()
    message = str(raised.value)
    assert f"http://127.0.0.1:{port} cannot be reached" in message and "MLFLOW_TRACKING_URI" in message
    assert "secret" not in message and "anna" not in message and "\n" not in message
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "anna"
    assert os.environ["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "uri",
    ["gopher://anna:secret@nowhere/mlflow", "mlruns", "/srv/mlruns", "file:///srv/mlruns", "http://", "http://h:x"],
)
def test_wrong_uri_is_one_sentence_without_password(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    expected = (
        rf"MLFLOW_TRACKING_URI is '{re.escape(tracking.redact(uri))}', which is not a server or database of MLflow"
    )
    with pytest.raises(tracking.TrackingError, match=f"{expected}; set it to a URL such as http://") as raised:
        start()
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)


def test_missing_database_driver_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mysql+pymysql://anna:secret@127.0.0.1:1/mlflow")
    with pytest.raises(tracking.TrackingError, match="needs the Python package pymysql; install it"):
        start()


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow")
def test_no_proxy_is_used_on_loopback(mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_ports(1)[0]}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    connection._connect.cache_clear()
    assert start().run_id


PICKLED = """
from mlops import tracking
import mlflow, mlflow.pyfunc, os, sys
class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input): return model_input
tracking.connect()
with mlflow.start_run():
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "true"
    uri = mlflow.pyfunc.log_model(name="pickled", python_model=Model()).model_uri
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
try:
    mlflow.pyfunc.load_model(uri)
except mlflow.MlflowException as error:
    print("refused:", error)
"""


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow")
def test_pickled_model_is_refused(mlflow_server: str, tmp_path: Path) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": mlflow_server, "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", None)
    command = [sys.executable, "-c", PICKLED]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "refused:" in done.stdout and "MLFLOW_ALLOW_PICKLE_DESERIALIZATION" in done.stdout, done.stdout


RECORD = """
import sys
from pathlib import Path
import mlflow
from mlops import tracking
client = tracking.connect().client
if len(sys.argv) == 1:
    with tracking.start_run("a run", {}, {}, tracking.Lineage("ab" * 32, "demo", 40)) as run:
        run.log_text("# card", "card.md")
    Path("run_id").write_text(run.run_id)
else:
    client.log_text(Path("run_id").read_text(), "more", "more.md")
run = client.get_run(Path("run_id").read_text())
print(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/card.md"))
"""


def record(folder: Path, *arguments: str) -> str:
    """Record a run with an artifact from a working directory, or read it again."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI")
    command = [sys.executable, "-c", RECORD, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["José (1) 🐸", "C# a?b", "100%41 it's"])
def test_everything_is_in_var_of_any_folder_and_found_after_a_move(name: str, tmp_path: Path) -> None:
    before, after = tmp_path / "before" / name, tmp_path / "after" / f"{name} moved"
    before.mkdir(parents=True)
    after.parent.mkdir()
    assert record(before) == "# card"
    assert {path.name for path in before.iterdir()} == {"var", "run_id"}
    assert {path.name for path in before.parent.iterdir()} == {name}
    assert {path.name for path in (before / "var").iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlflow-artifacts"}
    before.rename(after)
    assert record(after, "again") == "# card"
    assert not list(before.parent.iterdir()) and list((after / "var").rglob("more.md"))


def test_variables_of_mlflow_are_set_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.delenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", raising=False)
    tracking.connect()
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


@pytest.fixture
def write_to_locked_database(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A function that writes, without waiting, to a SQLite file which is locked until the fourth call."""
    holder = sqlite3.connect(tmp_path / "own.db", isolation_level=None)
    holder.execute("CREATE TABLE notes (text)")
    holder.execute("BEGIN EXCLUSIVE")
    engine, calls = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'own.db'}?timeout=0"), count(1)

    def write() -> None:
        if next(calls) == 4:
            holder.execute("COMMIT")
        with engine.begin() as transaction:
            transaction.execute(sqlalchemy.text("INSERT INTO notes VALUES ('written')"))

    yield write
    assert holder.execute("SELECT count(*) FROM notes").fetchone() == (1,)
    holder.close()


def test_locked_database_is_retried(write_to_locked_database: Callable[[], None]) -> None:
    tracking.connect().call(write_to_locked_database)


def test_permanently_locked_database_is_an_error(
    write_to_locked_database: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(tracking.TrackingError, match="database is locked"):
        patch.setattr(connection, "LOCK_SECONDS", 0.0)
        tracking.connect().call(write_to_locked_database)
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


def test_images_refuse_pickled_models() -> None:
    assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false" in (ROOT / "docker" / "Dockerfile").read_text()
