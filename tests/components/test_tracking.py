"""MLflow, for real: runs, failures, lost servers, parallel writers, the registry's aliases."""

import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import registry_support as make
import sqlalchemy
from support_mlflow import free_port

from audiocnn.classifier import Classifier
from components import tracking, tracking_server

LINEAGE = tracking.Lineage("ab" * 32, "demo", 40)


def start(**params: object) -> tracking.Run:
    return tracking.start_run("a run", {"train": {"epochs": 3, "lr": 0.1}, **params}, {"note": "x"}, LINEAGE)


def recorded(run: tracking.Run) -> mlflow.entities.Run:
    return tracking_server.server().client.get_run(run.run_id)


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


def test_a_run_keeps_its_settings_its_code_its_data_and_its_curve() -> None:
    with start() as run:
        for epoch in (1, 2, 3):
            run.metrics({"train_loss": 1 / epoch}, step=epoch)
    kept = recorded(run)
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {"train.epochs": "3", "train.lr": "0.1"}
    assert kept.data.tags["note"] == "x" and kept.data.tags["dataset_digest"] == LINEAGE.digest
    assert len(kept.data.tags["code_digest"]) == 64 and kept.data.tags["mlflow.source.git.commit"]
    history = tracking_server.server().client.get_metric_history(run.run_id, "train_loss")
    assert [(point.step, round(point.value, 3)) for point in history] == [(1, 1.0), (2, 0.5), (3, 0.333)]
    (given,) = kept.inputs.dataset_inputs
    assert given.dataset.name == "demo" and LINEAGE.digest.startswith(given.dataset.digest)
    assert LINEAGE.digest in given.dataset.source


def test_even_a_short_run_shows_system_metrics() -> None:
    with start() as run:
        pass
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(
        recorded(run).data.metrics
    )


def test_more_than_a_hundred_settings_fit_into_a_run() -> None:
    run = start(many={f"key{number}": number for number in range(150)})
    assert len(recorded(run).data.params) == 152


def test_an_exception_leaves_the_run_failed_with_the_reason() -> None:
    with pytest.raises(ZeroDivisionError), start() as run:
        raise ZeroDivisionError("the loss is gone\nsecond line")
    assert recorded(run).info.status == "FAILED"
    assert recorded(run).data.tags["failure"] == "ZeroDivisionError: the loss is gone"


def test_ctrl_c_leaves_the_run_killed() -> None:
    with pytest.raises(KeyboardInterrupt), start() as run:
        raise KeyboardInterrupt
    assert recorded(run).info.status == "KILLED"


def test_the_signal_that_ends_a_pod_leaves_the_run_killed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left, start() as run:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)  # the signal arrives long before
    assert left.value.code == 128 + signal.SIGTERM
    assert recorded(run).info.status == "KILLED" and signal.getsignal(signal.SIGTERM) == before


def test_a_run_that_is_taken_up_again_ends_finished_and_forgets_its_failure() -> None:
    with pytest.raises(KeyboardInterrupt), start() as run:
        run.metrics({"train_loss": 1.0}, step=1)
        raise KeyboardInterrupt
    with tracking.resume_run(run.run_id) as again:
        assert recorded(run).info.status == "RUNNING"
        again.metrics({"train_loss": 0.5}, step=2)
    assert recorded(run).info.status == "FINISHED" and "failure" not in recorded(run).data.tags
    assert len(tracking_server.server().client.get_metric_history(run.run_id, "train_loss")) == 2


def child(parent: tracking.Run) -> tracking.Run:
    return tracking.start_run("a child", {}, {}, LINEAGE, parent=parent.run_id)


def test_a_child_stands_under_its_parent_and_stays_there_when_it_is_taken_up_again() -> None:
    parent = start()
    with child(parent) as run:
        pass
    with tracking.resume_run(run.run_id):
        pass
    assert recorded(run).data.tags["mlflow.parentRunId"] == parent.run_id
    assert recorded(parent).info.status == "RUNNING"


def test_a_child_that_another_parent_takes_up_moves_under_it() -> None:
    first, second = start(), start()
    run = child(first)
    with pytest.raises(KeyError), tracking.resume_run(run.run_id, second.run_id):
        raise KeyError("x")
    assert recorded(run).data.tags["mlflow.parentRunId"] == second.run_id
    assert (recorded(first).info.status, recorded(second).info.status) == ("RUNNING", "FAILED")


def test_a_child_that_fails_takes_its_parent_along_and_a_second_try_frees_both() -> None:
    parent = start()
    with pytest.raises(ValueError, match="lost"), child(parent) as run:
        error = ValueError("the loss is lost")
        error.add_note("This was fold 3.")
        raise error
    for each in (parent, run):
        assert recorded(each).info.status == "FAILED"
        assert recorded(each).data.tags["failure"] == "ValueError: the loss is lost This was fold 3."
    with tracking.resume_run(run.run_id):
        pass
    with tracking.resume_run(parent.run_id):
        pass
    assert {recorded(each).info.status for each in (parent, run)} == {"FINISHED"}
    assert "failure" not in recorded(parent).data.tags


def test_a_run_that_does_not_exist_cannot_be_resumed() -> None:
    with pytest.raises(tracking.TrackingError, match="Run with id=nowhere not found"):
        tracking.resume_run("nowhere")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_no_number_is_an_error(value: float) -> None:
    with pytest.raises(tracking.TrackingError, match=r"'train_loss' is (nan|inf) at step 7"):
        start().metrics({"train_loss": value}, step=7)


def test_artifacts_lie_beside_the_database_and_are_replaced_not_doubled(tmp_path: Path) -> None:
    run, frame = start(), pd.DataFrame({"class": ["dog"], "f1": [0.5]})
    for _ in range(2):
        run.table(frame, "tables/classes.csv")
        run.table(frame, "tables/classes.json")
    run.text("# card", "card.md")
    got = Path(mlflow.artifacts.download_artifacts(run_id=run.run_id, dst_path=str(tmp_path)))
    assert (got / "card.md").read_text() == "# card"
    assert (got / "tables/classes.csv").read_text() == "class,f1\ndog,0.5\n"
    assert (
        len(
            tracking_server.server().client.load_table(
                recorded(run).info.experiment_id, "tables/classes.json", [run.run_id]
            )
        )
        == 1
    )
    database = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
    assert recorded(run).info.artifact_uri.startswith(database.with_name("mlflow-artifacts").as_uri())


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
