"""One cache, in a folder or on S3, used by many, killed, cut, full and bounded: the output is right each time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT
from typer.testing import CliRunner

from audiocnn.params import Params
from components.spectrograms import gc, manifests, step
from components.spectrograms.manifests import Manifest
from components.storage import StorageError
from components.stores import LEFTOVER_SECONDS, BucketStore, Entry, FolderStore, Store, open_store
from pipeline.cli import app

pytestmark = pytest.mark.xdist_group("cache")
RUN = """
import sys, time
from pathlib import Path
from audiocnn import params
from components.spectrograms import compute, step
if sys.argv[4] == "slowly":
    load = compute.load
    compute.load = lambda *given: (time.sleep(0.1), load(*given))[1]
settings = params.load(Path("params.yaml")).spectrograms
print(step.spectrograms(Path(sys.argv[1]), settings, Path(sys.argv[2]), sys.argv[3], processes=1))
"""


@pytest.fixture(params=["folder", "bucket"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty cache, of either kind."""
    return str(tmp_path / "cache") if request.param == "folder" else f"{request.getfixturevalue('s3')}/cache"


@pytest.fixture(scope="module")
def right(dataset: Path, tiny: Params, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What every run has to put out."""
    place = tmp_path_factory.mktemp("right")
    step.spectrograms(dataset, tiny.spectrograms, place / "out", str(place / "cache"))
    return (place / "out" / "spectrograms.npy").read_bytes()


def run(dataset: Path, tiny: Params, output: Path, cache: str) -> tuple[bytes, int]:
    """The bytes of the array, and how many spectrograms were computed."""
    computed = step.spectrograms(dataset, tiny.spectrograms, output, cache).computed
    return (output / "spectrograms.npy").read_bytes(), computed


def start(dataset: Path, output: Path, cache: str, how: str = "") -> subprocess.Popen[str]:
    """The step as a process of its own."""
    command = [sys.executable, "-c", RUN, str(dataset), str(output), cache, how]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def entries(store: Store) -> list[Entry]:
    return list(gc.contents(store).entries)


def test_a_second_run_computes_nothing(cache: str, dataset: Path, tiny: Params, right: bytes, tmp_path: Path) -> None:
    assert run(dataset, tiny, tmp_path / "one", cache) == (right, 50)
    assert run(dataset, tiny, tmp_path / "two", cache) == (right, 0)
    (manifest,) = gc.contents(open_store(cache)).manifests.values()
    assert manifest.name == "demo" and set(manifest.entries) == {entry.name for entry in entries(open_store(cache))}


@pytest.mark.slow
def test_two_processes_that_fill_it_at_the_same_time_both_get_it_right(
    cache: str, dataset: Path, right: bytes, tmp_path: Path
) -> None:
    running = [start(dataset, tmp_path / name, cache) for name in ("one", "two")]
    assert [process.wait(120) for process in running] == [0, 0]
    for name in ("one", "two"):
        assert (tmp_path / name / "spectrograms.npy").read_bytes() == right


@pytest.mark.slow
def test_what_a_killed_process_has_done_is_kept_and_the_next_run_is_right(
    cache: str, dataset: Path, tiny: Params, right: bytes, tmp_path: Path
) -> None:
    process = start(dataset, tmp_path / "killed", cache, "slowly")
    deadline = time.monotonic() + 90
    while len(entries(open_store(cache))) < 10:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed").exists()
    array, computed = run(dataset, tiny, tmp_path / "out", cache)
    assert array == right and 0 < computed <= 40


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "longer"])
def test_a_damaged_entry_is_computed_again_and_mended(
    damage: str, cache: str, dataset: Path, tiny: Params, right: bytes, tmp_path: Path
) -> None:
    run(dataset, tiny, tmp_path / "one", cache)
    store = open_store(cache)
    victim = entries(store)[7].name
    whole = store.get(victim)
    assert whole is not None
    flipped = bytearray(whole)
    flipped[1234] ^= 4
    store.put(victim, {"cut": whole[:-9], "flipped": bytes(flipped), "empty": b"", "longer": whole + b"x"}[damage])
    store.flush()
    assert run(dataset, tiny, tmp_path / "two", cache) == (right, 1)
    assert store.get(victim) == whole


def test_a_cache_that_takes_nothing_is_told_and_done_without(
    dataset: Path, tiny: Params, right: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A file where the folder would be stops root too, whom no permission stops.
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        run(dataset, tiny, tmp_path / "out", str(tmp_path / "cache"))
    full = FolderStore(tmp_path / "full")

    def put(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderStore, "put", put)
        assert run(dataset, tiny, tmp_path / "out", str(full.root)) == (right, 50)
    told = capsys.readouterr().out.count("takes no more entries, going on without: [Errno 28]")
    assert 1 <= told <= 2, "not once a clip"


def test_a_bucket_that_cannot_be_read_ends_the_run_with_a_sentence(
    s3: str, dataset: Path, tiny: Params, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="s3://no-such-bucket-here/x cannot be read: there is no such bucket"):
        run(dataset, tiny, tmp_path / "out", "s3://no-such-bucket-here/x")
    assert not (tmp_path / "out").exists()


def test_a_bucket_that_goes_away_in_the_middle_costs_the_entries_and_nothing_else(
    s3: str, dataset: Path, tiny: Params, right: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts = iter(range(100))
    real = BucketStore.put

    def put(self: BucketStore, name: str, content: bytes) -> None:
        if next(puts) == 20:
            self.bucket.delete(found.key for found in self.bucket.list())
            monkeypatch.setattr(type(self.bucket), "put", _gone)
        real(self, name, content)

    monkeypatch.setattr(BucketStore, "put", put)
    assert run(dataset, tiny, tmp_path / "out", f"{s3}/cache") == (right, 50)


def _gone(*_: object) -> None:
    raise StorageError("s3://x cannot be written: it is gone")


class TestGc:
    def test_removes_what_was_used_longest_ago_and_spares_what_is_named(self, cache: str) -> None:
        store = open_store(cache)
        for number in range(6):
            store.put(f"front/{number}", bytes(100))
        for name, digest, used, numbers in (("old", "a" * 64, 1.0, "01"), ("mid", "b" * 64, 2.0, "123")):
            held = [f"front/{number}" for number in numbers]
            store.put(
                f"datasets/{digest[:16]}-front.json",
                json.dumps({"name": name, "digest": digest, "entries": held, "used": used}).encode(),
            )
        store.flush()
        assert gc.collect(store, 500, dry_run=True) == (1, 100) and len(entries(store)) == 6
        assert gc.collect(store, 500) == (1, 100)  # 0: only the oldest uses it
        assert gc.collect(store, 300, keep=["mid"]) == (2, 200)  # 4 and 5: nobody's, but written just now
        assert sorted(entry.name for entry in entries(store)) == ["front/1", "front/2", "front/3"]
        with pytest.raises(gc.GcError, match="knows no data set 'other'; it knows mid, old"):
            gc.collect(store, 0, keep=["other"])
        with pytest.raises(gc.GcError, match="300 bytes stay, more than the 100 allowed"):
            gc.collect(store, 100, keep=["b" * 12])
        assert gc.collect(store, 0) == (3, 300)
        assert list(store.list()) == [], "manifests without entries go too"

    def test_sweeps_up_what_killed_processes_left(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path)
        store.put("front/aa/whole", b"x")
        for name, age in ((".whole.1.part", 2 * LEFTOVER_SECONDS), (".whole.2.part", 1.0)):
            part = tmp_path / "front" / "aa" / name
            part.touch()
            os.utime(part, (time.time() - age,) * 2)
        gc.collect(store, 10**6)
        assert sorted(path.name for path in (tmp_path / "front" / "aa").iterdir()) == [".whole.2.part", "whole"]

    def test_a_broken_manifest_protects_nothing_and_breaks_nothing(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path)
        store.put("datasets/x-y.json", b'{"name": 1')
        store.put("front/a", bytes(10))
        assert gc.collect(store, 0) == (1, 10)

    def test_one_that_runs_beside_a_run_costs_time_and_nothing_else(
        self, dataset: Path, tiny: Params, right: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = str(tmp_path / "cache")
        run(dataset, tiny, tmp_path / "one", cache)
        real, calls = FolderStore.get, iter(range(1000))

        def get(self: FolderStore, name: str) -> bytes | None:
            if next(calls) == 25:
                gc.collect(FolderStore(tmp_path / "cache"), 0)
            return real(self, name)

        monkeypatch.setattr(FolderStore, "get", get)
        array, computed = run(dataset, tiny, tmp_path / "two", cache)
        assert array == right and computed >= 20

    @given(
        sizes=st.lists(st.integers(0, 100), max_size=12),
        sets=st.lists(st.tuples(st.sets(st.integers(0, 11)), st.floats(0, 1e9)), max_size=4),
        keep=st.sets(st.integers(0, 3)),
        bound=st.integers(0, 600),
    )
    def test_never_takes_what_is_spared_nor_more_than_it_must(
        self, sizes: list[int], sets: list[tuple[set[int], float]], keep: set[int], bound: int
    ) -> None:
        held = [Entry(f"f/{number}", size, float(number)) for number, size in enumerate(sizes)]
        known = {
            str(number): Manifest(f"set{number}", f"{number}" * 64, tuple(f"f/{one}" for one in sorted(members)), used)
            for number, (members, used) in enumerate(sets)
        }
        found = gc.Contents(tuple(held), known)
        names = [f"set{number}" for number in keep]
        removed = gc.superfluous(found, bound, names)
        spared = {name for number, set_ in known.items() if int(number) in keep for name in set_.entries}
        assert spared.isdisjoint(entry.name for entry in removed)
        left = found.size - sum(entry.size for entry in removed)
        assert left <= bound or len(removed) == sum(entry.name not in spared for entry in held)
        if removed:
            assert left + removed[-1].size > bound


class TestCommand:
    def test_shows_what_is_there_and_bounds_it(
        self, dataset: Path, tiny: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        cache = "var/cache/spectrograms"
        run(dataset, tiny, tmp_path / "out", cache)
        shown = CliRunner().invoke(app, ["cache", "status"])
        assert shown.exit_code == 0 and "50 spectrograms, 2.8 MB" in shown.output and "demo" in shown.output
        told = CliRunner().invoke(app, ["cache", "gc", "--max-size", "1MB", "--dry-run"])
        assert "Would remove 32 spectrograms" in told.output and len(entries(FolderStore(Path(cache)))) == 50
        kept = CliRunner().invoke(app, ["cache", "gc", "--max-size", "1MB", "--keep", "demo"])
        assert kept.exit_code == 2 and "raise --max-size or keep fewer" in kept.output
        done = CliRunner().invoke(app, ["cache", "gc", "--max-size", "0.5 mb"])
        assert done.exit_code == 0 and "Removed 41 spectrograms" in done.output

    @pytest.mark.parametrize("text", ["", "many", "-1", "1 PB", "1e3"])
    def test_takes_no_size_that_is_none(self, text: str) -> None:
        done = CliRunner().invoke(app, ["cache", "gc", f"--max-size={text}"])
        assert done.exit_code == 2 and "write it like 10GB" in done.output


def test_a_manifest_is_found_by_its_name_or_its_digest(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    manifests.write(store, "pets", "c" * 64, ["front/1"])
    (manifest,) = gc.contents(store).manifests.values()
    assert manifest.is_called("pets") and manifest.is_called("c" * 8)
    assert not manifest.is_called("c" * 7) and not manifest.is_called("pet")
