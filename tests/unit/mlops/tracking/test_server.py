"""MLflow, for real: lost servers, parallel writers, the registry's aliases."""

import json
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import sqlalchemy
from helpers import registry as make
from helpers.mlflow import free_port, recorded, start

from audiocnn.classifier import Classifier
from mlops import tracking
from mlops.tracking import server as tracking_server


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> make.Data:
    return make.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(data: make.Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.write_model(tmp_path_factory.mktemp("model") / "model", data)


def registered(model: Path, name: str, card: str = "# card") -> tracking.Version:
    classifier = Classifier.load(model)
    return tracking.register_model(
        start().run_id,
        model,
        name,
        classes=classifier.classes,
        example=make.noise(1),
        card=card,
        tags={tracking.WEIGHTS_TAG: classifier.weights_sha256},
        metrics={"accuracy": 0.5},
    )


def test_two_first_users_at_once_share_a_new_database_below_var(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(lambda _: tracking_server.experiment_id(tracking_server.server()), range(2)))
    assert ids[0] == ids[1] and (tmp_path / "var/mlflow.db").is_file()
    assert {item.name for item in tmp_path.iterdir()} == {"var"}


def test_a_server_that_is_not_there_is_one_sentence_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(key, "")
        monkeypatch.delenv(key)
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:geheim@127.0.0.1:{port}/")
    with pytest.raises(tracking.TrackingError) as caught:
        start()
    message = str(caught.value)
    assert f"http://127.0.0.1:{port} cannot be reached" in message and "MLFLOW_TRACKING_URI" in message
    assert "geheim" not in message and "anna" not in message and "\n" not in message


def test_an_address_that_mlflow_cannot_use_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://anna:geheim@nowhere/mlflow")
    with pytest.raises(tracking.TrackingError, match="gopher://nowhere/mlflow") as caught:
        start()
    assert "geheim" not in str(caught.value) and caught.value.__cause__ is None


def test_settings_of_mlflow_that_a_person_made_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    tracking_server.server()
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A write to an SQLite file that another connection has locked, by a client that does not wait at all."""
    holder = sqlite3.connect(tmp_path / "own.db", isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE notes (text)")
    holder.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(1.0, lambda: holder.execute("COMMIT"))
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'own.db'}?timeout=0")

    def write() -> None:
        if not release.is_alive() and not release.finished.is_set():
            release.start()
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("INSERT INTO notes VALUES ('kept')"))

    yield write
    release.join()
    assert holder.execute("SELECT count(*) FROM notes").fetchone() == (1,)
    holder.close()


def test_a_database_that_another_process_holds_for_a_while_is_waited_for(impatient: Callable[[], None]) -> None:
    tracking_server.server().call(impatient)


def test_a_database_that_stays_locked_is_an_error_not_a_hang(
    impatient: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_server, "LOCK_SECONDS", 0.1)
    with pytest.raises(tracking.TrackingError, match="database is locked"):
        tracking_server.server().call(impatient)
    monkeypatch.undo()
    tracking_server.server().call(impatient)


def test_many_runs_that_write_at_once_lose_nothing() -> None:
    def write(number: int) -> tracking.Run:
        run = start()
        for step in range(10):
            run.metrics({"train_loss": number + step}, step=step)
        return run

    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(write, range(6)))
    client = tracking_server.server().client
    assert [len(client.get_metric_history(run.run_id, "train_loss")) for run in runs] == [10] * 6


def test_what_the_registry_does_not_know_is_none_or_one_sentence(model: Path) -> None:
    assert tracking.version_by_alias("nobody", "champion") is None
    assert tracking.model_tags("nobody") == {}
    with pytest.raises(tracking.TrackingError, match="'nobody' has no version 1"):
        tracking.get_version("nobody", 1)
    version = registered(model, "one-version")
    assert tracking.version_by_alias(version.name, "champion") is None


def test_an_alias_that_many_set_at_once_points_to_one_version(model: Path) -> None:
    numbers = [registered(model, "contested").number for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda turn: tracking.set_alias("contested", "champion", numbers[turn % 3]), range(12)))
    holders = [
        number
        for number in numbers
        if "champion" in tracking_server.server().client.get_model_version("contested", str(number)).aliases
    ]
    held = tracking.version_by_alias("contested", "champion")
    assert held is not None and holders == [held.number]


def test_a_model_comes_back_from_the_registry_as_it_went_in(model: Path, tmp_path: Path) -> None:
    back = tracking.download_model(registered(model, "round-trip"), tmp_path / "back")
    names = sorted(path.name for path in model.iterdir())
    assert sorted(path.name for path in back.iterdir()) == names
    assert all((back / name).read_bytes() == (model / name).read_bytes() for name in names)


@pytest.mark.parametrize("damage", ["other classes", "no JSON", "no object"])
def test_a_card_that_was_changed_in_the_store_is_not_handed_out(damage: str, model: Path, tmp_path: Path) -> None:
    name = f"changed-{damage}"
    registered(model, name)
    client = tracking_server.server().client
    place = Path(client.get_model_version_download_uri(name, "1").removeprefix("file://"))
    file = place / "artifacts" / "model" / "model.json"
    card = json.loads(file.read_text())
    card["classes"] = [*card["classes"][1:], card["classes"][0]]
    file.write_text({"other classes": json.dumps(card), "no JSON": "{", "no object": "[]"}[damage])
    what = "classes or settings" if damage == "other classes" else "weights"
    with pytest.raises(tracking.TrackingError, match=f"registered with other {what}.*do not serve it"):
        tracking.download_model(tracking.get_version(name, 1), tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_model_that_was_exchanged_in_the_store_is_not_handed_out(
    model: Path, data: make.Data, tmp_path: Path
) -> None:
    version = registered(model, "tampered")
    client = tracking_server.server().client
    place = Path(client.get_model_version_download_uri("tampered", "1").removeprefix("file://"), "artifacts", "model")
    Classifier.load(make.write_model(tmp_path / "other", data, seed=9)).save(place)
    with pytest.raises(tracking.TrackingError, match="registered with other weights"):
        tracking.download_model(version, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_card_that_mlflow_would_cut_is_refused_before_anything_is_uploaded(model: Path) -> None:
    with pytest.raises(tracking.TrackingError, match="5001 characters"):
        registered(model, "wordy", card="x" * 5001)
    assert tracking.version_by_alias("wordy", "challenger") is None and tracking.model_tags("wordy") == {}


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow")
def test_against_a_real_server_a_model_goes_all_the_way(
    mlflow_server: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    with start() as run:
        run.metrics({"train_loss": 0.5}, step=1)
        run.file(model / "clips.csv", "training")
    assert recorded(run).info.status == "FINISHED"
    version = registered(model, "served", card="# A card")
    tracking.set_alias("served", "champion", version.number)
    tracking.tag_model("served", {"owner": "tests"})
    found = tracking.version_by_alias("served", "champion")
    assert found is not None and found.number == 1 and tracking.model_tags("served") == {"owner": "tests"}
    back = tracking.download_model(found, tmp_path / "back")
    assert Classifier.load(back).classes == make.CLASSES
    assert tracking.find_version("served", found.run_id, found.tags[tracking.WEIGHTS_TAG]) == found
    monkeypatch.setattr(sys, "path", list(sys.path))  # loading a package puts its code first
    answer = mlflow.pyfunc.load_model("models:/served@champion").predict(pd.DataFrame({"audio": [make.noise(3)]}))
    assert answer["class"][0] in make.CLASSES
