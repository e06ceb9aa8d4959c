"""The history of a registered model: what it keeps, and what it reports after an edit, a deletion or a fork."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops import tracking
from mlops.tracking import history
from mlops.tracking.history_run import EXPERIMENT, MODEL_TAG, HistoryRun


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    tracking.connect().client.create_registered_model(name)
    return name


def promote(name: str, *numbers: int) -> None:
    for number in numbers:
        history.append(name, "promote", version_from=None, version_to=number, by="policy")


def run_of(name: str) -> HistoryRun:
    run = HistoryRun.find(name)
    assert run is not None
    return run


def folder(name: str) -> Path:
    uri = tracking.connect().client.get_run(run_of(name).run_id).info.artifact_uri
    return Path(uri.removeprefix("file://"), "entries")


def files(name: str) -> list[Path]:
    return sorted(folder(name).iterdir())


def test_entries_form_a_chain(name: str) -> None:
    assert history.entries(name) == [] and history.verify(name) == []
    history.append(name, "promote", version_from=None, version_to=1, by="policy")
    history.append(name, "approve", version_from=1, version_to=2, by="anna", because=" it knows «sirens» ")
    first, second = history.entries(name)
    assert (second.number, second.by, second.because) == (2, "anna", "it knows «sirens»")
    assert first.previous_sha256 == "" and second.previous_sha256 == first.sha256
    assert [path.name for path in files(name)] == [
        f"00000{n}-{e.sha256[:8]}.json" for n, e in ((1, first), (2, second))
    ]
    assert json.loads(files(name)[1].read_text())["because"] == "it knows «sirens»"
    assert history.verify(name) == []
    run = tracking.connect().client.get_run(run_of(name).run_id)
    assert run.info.status == "FINISHED" and run.data.tags[MODEL_TAG] == name


def edit_second(name: str) -> None:
    file = files(name)[1]
    file.write_text(file.read_text().replace('"version_to": 2', '"version_to": 9'))


def forge_second(name: str) -> None:
    """Replace an entry by another that is valid in itself."""
    file = files(name)[1]
    values = json.loads(file.read_text()) | {"version_to": 9}
    forged = history.Entry(**values)
    file.unlink()
    (folder(name) / forged.file).write_text(forged.text)


def add_fourth(name: str, **changes: Any) -> None:
    last = history.entries(name)[-1]
    values = {"number": 4, "version_to": 9, "previous_sha256": "0" * 64} | changes
    forged = history.Entry(**(json.loads(last.text) | values))
    (folder(name) / forged.file).write_text(forged.text)


def add_second_run(name: str) -> None:
    client = tracking.connect().client
    run = client.create_run(client.get_experiment_by_name(EXPERIMENT).experiment_id, tags={MODEL_TAG: name})
    client.log_param(run.info.run_id, "entry.000001", "0" * 64)


DAMAGE: dict[str, tuple[Callable[[str], object], list[int]]] = {
    "entry 2 was changed": (edit_second, [1, 3]),
    "entry 2 was changed ": (forge_second, [1, 3]),
    "entry 2 is missing": (lambda name: files(name)[1].unlink(), [1, 3]),
    "entry 3 is missing": (lambda name: files(name)[2].unlink(), [1, 2]),
    "entry 1 was changed": (lambda name: files(name)[0].write_bytes(b"\xff{"), [2, 3]),
    "there is a second entry 3: the file 000003-": (lambda name: add_fourth(name, number=3), [1, 2, 3]),
    "does not belong to the history: no process": (lambda name: add_fourth(name, number=5), [1, 2, 3]),
    "the file notes.txt is not an entry": (lambda name: (folder(name) / "notes.txt").write_text("x"), [1, 2, 3]),
    "has entries too; they are not read": (add_second_run, [1, 2, 3]),
}


@pytest.mark.parametrize("finding", DAMAGE)
def test_damage_is_reported_and_does_not_stop_anything(finding: str, name: str) -> None:
    promote(name, 1, 2, 3)
    damage, intact = DAMAGE[finding]
    damage(name)
    (found,) = history.verify(name)
    assert finding.strip() in found
    assert [entry.number for entry in history.entries(name)] == intact
    promote(name, 4)
    assert history.entries(name)[-1].version_to == 4 and history.entries(name)[-1].number == 4
    assert finding.strip() in history.verify(name)[0]


def test_a_deleted_run_or_tag_does_not_hide_the_history(name: str) -> None:
    promote(name, 1, 2)
    client, run_id = tracking.connect().client, run_of(name).run_id
    client.delete_tag(run_id, MODEL_TAG)
    assert history.verify(name) == [] and len(history.entries(name)) == 2
    client.delete_run(run_id)
    assert history.verify(name) == [
        f"the run {run_id} of the history was deleted in MLflow; the next change restores it"
    ]
    promote(name, 3)
    assert history.verify(name) == [] and len(history.entries(name)) == 3


def test_an_interrupted_entry_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(name, 1)

    def fail(*_: object) -> bool:
        raise tracking.TrackingError("connection lost")

    with monkeypatch.context() as patch, pytest.raises(tracking.TrackingError):
        patch.setattr(HistoryRun, "claim", fail)  # after the file was written
        promote(name, 2)
    assert [entry.version_to for entry in history.entries(name)] == [1, 2]
    promote(name, 3)
    assert [entry.version_to for entry in history.entries(name)] == [1, 2, 3] and history.verify(name) == []


def _append_many(name: str, writer: int) -> None:
    for turn in range(5):
        history.append(name, "promote", version_from=None, version_to=10 * writer + turn, by=f"writer {writer}")


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow")
@pytest.mark.parametrize("kind", ["sqlite", "server"])
def test_writers_at_once_get_numbers_of_their_own(
    kind: str, name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
        tracking.connect().client.create_registered_model(name)
    processes = [multiprocessing.get_context("spawn").Process(target=_append_many, args=(name, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    entries = history.entries(name)
    assert [entry.number for entry in entries] == list(range(1, 16)) and history.verify(name) == []
    assert sorted(entry.version_to or 0 for entry in entries) == [10 * n + turn for n in range(3) for turn in range(5)]
    assert len(run_of(name).files()) == 15, "the file of a writer that came second is removed"


LOG = [
    {"at": "2026-01-01T00:00:00Z", "kind": "promote", "to": 1, "by": "policy"},
    {"at": "2026-01-02T00:00:00Z", "kind": "promote", "to": 3, "by": "MLflow"},
    {"at": "2026-01-03T00:00:00Z", "kind": "rollback", "to": 1, "by": "anna"},
]


def write_old_log(name: str, log: str) -> None:
    tracking.connect().client.set_registered_model_tag(name, history.OLD_LOG, log)


def test_the_log_of_release_0_1_0_is_imported_once(name: str) -> None:
    write_old_log(name, json.dumps(LOG))
    read = history.entries(name)
    assert [(entry.kind, entry.version_from, entry.version_to) for entry in read] == [
        ("promote", None, 1),
        ("external", 1, 3),
        ("rollback", 3, 1),
    ]
    assert HistoryRun.find(name) is None, "reading writes nothing"
    promote(name, 4)
    assert history.entries(name)[:3] == read and history.entries(name)[3].number == 4
    assert history.OLD_LOG not in tracking.model_tags(name) and history.verify(name) == []
    write_old_log(name, json.dumps(LOG[:1]))
    assert len(history.entries(name)) == 4


def test_an_interrupted_import_is_completed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_old_log(name, json.dumps(LOG))
    read, write = history.entries(name), HistoryRun.write_file

    def fail(run: HistoryRun, file: str, content: str) -> None:
        if file.startswith("000003"):
            raise tracking.TrackingError("connection lost")
        write(run, file, content)

    with monkeypatch.context() as patch, pytest.raises(tracking.TrackingError):
        patch.setattr(HistoryRun, "write_file", fail)
        promote(name, 4)
    assert history.entries(name) == read
    promote(name, 4)
    assert [entry.number for entry in history.entries(name)] == [1, 2, 3, 4] and history.verify(name) == []


@pytest.mark.parametrize("log", ["oops", "{}", "[1]", '[{"at": 1, "kind": "promote", "to": 1, "by": "x"}]', "null"])
def test_a_malformed_log_is_reported_and_ignored(log: str, name: str) -> None:
    write_old_log(name, log)
    assert history.entries(name) == []
    if log != "{}":
        (finding,) = history.verify(name)
        assert "champion_log" in finding and "it is ignored" in finding
    promote(name, 1)
    assert [entry.version_to for entry in history.entries(name)] == [1] and history.verify(name) == []


def test_comparisons_outlive_the_versions(name: str) -> None:
    clips, other = "ab" * 32, "cd" * 32
    assert history.compared_versions(name, clips) == frozenset()
    for number, digest in ((1, clips), (2, clips), (2, clips), (2, other), (12, clips)):
        history.record_comparison(name, number, digest)
    assert history.compared_versions(name, clips) == {1, 2, 12} and history.compared_versions(name, other) == {2}
    assert history.entries(name) == [] and history.verify(name) == []
