"""Eviction removes only the cache's own entries, and none that a data set to keep or a current run uses."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from helpers.project import ROOT
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.spectrograms import step
from mlops.spectrogram_cache import eviction, names
from mlops.spectrogram_cache.eviction import CacheContents, GcError, collect, read_contents, select_evictions
from mlops.spectrogram_cache.manifests import Manifest
from mlops.storage import LEFTOVER_SECONDS, Entry, FolderStore, Store, open_store
from pipeline.cli import app
from pipeline.cli.cache import SizeError, parse_size
from pipeline.settings import PipelineSettings

pytestmark = pytest.mark.xdist_group("cache")
FRONT_END = "f" * 16
OLD, MID = "a" * 64, "b" * 64
WRITER = """
import sys, time
from mlops.spectrogram_cache import manifests, names
from mlops.storage import open_store
store, until, turns = open_store(sys.argv[1]), time.monotonic() + 3, 0
mine = [names.entry("f" * 16, f"{number:032x}") for number in range(400)]
while time.monotonic() < until:
    for name in mine:
        if store.get(name) is None:
            store.put(name, bytes(100))
    manifests.write(store, "f" * 16, "mine", "c" * 64, mine)
    turns += 1
assert all(store.get(name) in (None, bytes(100)) for name in mine)
print(turns)
"""


@pytest.fixture(params=["folder", "bucket"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty cache of either kind."""
    return str(tmp_path / "cache") if request.param == "folder" else f"{request.getfixturevalue('s3')}/cache"


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "cache")


def entry(number: int) -> str:
    """Return the name of an entry."""
    return f"{FRONT_END}/{number:02x}/{number:02x}{number:030x}"


def fill(store: Store, numbers: Iterable[int]) -> None:
    """Write entries of 100 bytes."""
    for number in numbers:
        store.put(entry(number), bytes(100))
    store.flush()


def write_manifest(store: Store, name: str, digest: str, numbers: list[int], used: float) -> str:
    """Write a manifest and return its file name."""
    file = names.manifest(digest, FRONT_END)
    manifest = Manifest(name=name, digest=digest, entries=tuple(map(entry, numbers)), used=used)
    store.put(file, manifest.to_bytes())
    store.flush()
    return file


def entries(store: Store) -> list[str]:
    """Return the names of all entries, sorted."""
    return sorted(found.name for found in store.list() if names.is_entry(found.name))


def invoke(*words: str) -> tuple[int, str]:
    """Return the exit status and output of `audiocnn cache ...`."""
    done = CliRunner().invoke(app, ["cache", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), "a traceback"
    return done.exit_code, done.output


def test_removes_least_recently_used_entries_and_keeps_named_data_sets(cache: str) -> None:
    store = open_store(cache)
    fill(store, range(6))
    write_manifest(store, "old", OLD, [0, 1], 1.0)
    write_manifest(store, "mid", MID, [1, 2, 3], 2.0)
    assert collect(store, 500, dry_run=True) == (1, 100) and len(entries(store)) == 6
    assert collect(store, 500) == (1, 100)  # entry 0, which only the oldest data set uses
    assert collect(store, 300, keep=["mid"]) == (2, 200)  # entries 4 and 5, which no data set uses
    assert entries(store) == [entry(1), entry(2), entry(3)]
    with pytest.raises(GcError, match="unknown data set 'other'; the data sets in the cache are: mid, old"):
        collect(store, 0, keep=["other"])
    with pytest.raises(GcError, match="300 bytes remain, more than the allowed 100"):
        collect(store, 100, keep=["b" * 12])
    assert collect(store, 0) == (3, 300)
    assert list(store.list()) == [], "manifests without entries are removed"


def test_files_of_others_are_never_removed(cache: str) -> None:
    store = open_store(cache)
    others = (
        "audio/recording.wav",
        "datasets/table.json",
        f"{FRONT_END}/notes.txt",
        f"{FRONT_END}/ab/cd{'0' * 30}",  # in the folder of another entry
        f"deeper/{entry(1)}",
        f"{entry(1)}.bak",
    )
    for name in others:
        store.put(name, bytes(1000))
    fill(store, range(3))
    assert read_contents(store).size == 300
    assert collect(store, 0) == (3, 300)
    assert sorted(found.name for found in store.list()) == sorted(others)


def test_old_temporary_files_of_the_cache_are_removed(folder: FolderStore) -> None:
    fill(folder, range(1))
    parent = (folder.root / entry(0)).parent
    own = f".{Path(entry(0)).name}.{'1' * 32}.part"
    for name, age in ((own, 2), (own.replace("1", "2"), 0), (f".other.{'1' * 32}.part", 2), ("film.part", 2)):
        part = parent / name
        part.touch()
        os.utime(part, (time.time() - age * LEFTOVER_SECONDS,) * 2)
    collect(folder, 10**6)
    left = {path.name for path in parent.iterdir()}
    assert left == {Path(entry(0)).name, own.replace("1", "2"), f".other.{'1' * 32}.part", "film.part"}


@pytest.mark.parametrize(
    "content",
    [b'{"name": 1', b"", b'{"name": "x", "digest": "y", "entries": [], "used": 1.0}', b"[" * 10**5, b"\xff\xfe"],
)
def test_an_unreadable_manifest_stops_eviction_and_is_shown(content: bytes, folder: FolderStore) -> None:
    fill(folder, range(3))
    file = f"datasets/{'a' * 16}-{FRONT_END}.json"
    folder.put(file, content)
    with pytest.raises(GcError, match=f"eviction stops, because {file} is unreadable and may list entries to keep"):
        collect(folder, 0)
    assert len(entries(folder)) == 3
    status, output = invoke("status", "--cache", str(folder.root))
    assert status == 0 and "unreadable" in output
    folder.delete([file])
    assert collect(folder, 0) == (3, 300)


class TestConcurrentRuns:
    def during(self, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
        """Make a change after `collect` has selected entries and before it removes them."""
        remove = eviction._remove

        def change_first(*arguments: object) -> object:
            change()
            return remove(*arguments)

        monkeypatch.setattr(eviction, "_remove", change_first)

    def test_entries_of_a_new_manifest_are_kept(self, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_store(cache)
        fill(store, range(5))
        write_manifest(store, "old", OLD, [0, 1], 1.0)
        self.during(monkeypatch, lambda: write_manifest(store, "new", MID, [1, 2], time.time()))
        with pytest.raises(GcError, match="200 bytes remain"):
            collect(store, 0)
        assert entries(store) == [entry(1), entry(2)]
        assert {manifest.name for manifest in read_contents(store).manifests.values()} == {"old", "new"}

    def test_entries_of_a_grown_data_set_are_kept(self, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_store(cache)
        fill(store, range(5))
        write_manifest(store, "pets", OLD, [0, 1], 1.0)
        self.during(monkeypatch, lambda: write_manifest(store, "pets", MID, [0, 1, 2, 3], 1.0))
        with pytest.raises(GcError, match="400 bytes remain"):
            collect(store, 200, keep=["pets"])
        assert entries(store) == list(map(entry, range(4)))

    def test_new_entries_are_kept(self, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_store(cache)
        fill(store, range(3))
        self.during(monkeypatch, lambda: fill(store, [3]))
        assert collect(store, 0) == (3, 300)
        assert entries(store) == [entry(3)]

    def test_a_manifest_that_becomes_unreadable_stops_eviction(
        self, folder: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(folder, range(3))
        file = write_manifest(folder, "old", OLD, [0, 1], 1.0)
        self.during(monkeypatch, lambda: folder.put(file, b"damaged"))
        with pytest.raises(GcError, match="eviction stops"):
            collect(folder, 0)
        assert len(entries(folder)) == 3

    def test_another_process_never_reads_incomplete_entries(self, folder: FolderStore) -> None:
        fill(folder, range(1))
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder.root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        removed = 0
        while writer.poll() is None:
            try:
                removed += collect(folder, 0)[0]
            except GcError as error:
                assert "bytes remain" in str(error) or "there is no spectrogram cache" in str(error)
        turns = int(writer.communicate()[0])
        assert writer.returncode == 0 and turns > 0 and removed > 0
        assert not list(folder.root.rglob("*.part"))

    def test_a_run_recomputes_entries_that_it_finds_missing(
        self, dataset: Path, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = FolderStore(tmp_path / "cache")
        step.spectrograms(dataset, tiny.spectrograms, tmp_path / "one", str(store.root))
        get, calls = FolderStore.get, iter(range(1000))

        def collect_at_25(self: FolderStore, name: str) -> bytes | None:
            if next(calls) == 25:
                collect(store, 0)
            return get(self, name)

        monkeypatch.setattr(FolderStore, "get", collect_at_25)
        assert step.spectrograms(dataset, tiny.spectrograms, tmp_path / "two", str(store.root)).computed >= 20
        one, two = ((tmp_path / name / "spectrograms.npy").read_bytes() for name in ("one", "two"))
        assert one == two


@given(
    sizes=st.lists(st.integers(0, 100), max_size=12),
    datasets=st.lists(st.tuples(st.sets(st.integers(0, 11)), st.floats(0, 1e9)), max_size=4),
    keep=st.sets(st.integers(0, 3)),
    limit=st.integers(0, 600),
)
def test_selects_no_protected_entries_and_no_more_than_necessary(
    sizes: list[int], datasets: list[tuple[set[int], float]], keep: set[int], limit: int
) -> None:
    found = tuple(Entry(entry(number), size, float(number)) for number, size in enumerate(sizes))
    known = {
        str(number): Manifest(
            name=f"set{number}", digest=f"{number}" * 64, entries=tuple(map(entry, sorted(members))), used=used
        )
        for number, (members, used) in enumerate(datasets)
    }
    contents = CacheContents(found, known, {})
    evictions = select_evictions(contents, limit, [f"set{number}" for number in keep])
    protected = {name for number, manifest in known.items() if int(number) in keep for name in manifest.entries}
    assert protected.isdisjoint(evicted.name for evicted in evictions)
    remaining = contents.size - sum(evicted.size for evicted in evictions)
    assert remaining <= limit or len(evictions) == sum(one.name not in protected for one in found)
    if evictions:
        assert remaining + evictions[-1].size > limit


class TestCommand:
    def test_status_and_gc(
        self, dataset: Path, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        cache = "var/cache/spectrograms"
        step.spectrograms(dataset, tiny.spectrograms, tmp_path / "out", cache)
        status, output = invoke("status")
        assert status == 0 and "50 spectrograms, 2.8 MB" in output and "demo" in output
        output = invoke("gc", "--max-size", "1MB", "--dry-run")[1]
        assert "Would remove 32 spectrograms" in output and len(entries(FolderStore(Path(cache)))) == 50
        status, output = invoke("gc", "--max-size", "1MB", "--keep", "demo")
        assert status == 2 and "increase --max-size or keep fewer data sets" in output
        status, output = invoke("gc", "--max-size", "0.5 mb")
        assert status == 0 and "Removed 41 spectrograms" in output

    @pytest.mark.parametrize("words", [("status",), ("gc", "--max-size", "0")])
    def test_an_address_without_a_cache_is_refused(
        self, words: tuple[str, ...], tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "audio").mkdir()
        (tmp_path / "audio" / "recording.wav").write_bytes(b"sound")
        for root, message in (
            ("", "'' is not a valid address; expected a folder or s3://bucket/prefix"),
            ("typo", "there is no spectrogram cache at typo; check the address"),
            (f"{s3}/typo", f"there is no spectrogram cache at {s3}/typo; check the address"),
            (str(tmp_path), f"there is no spectrogram cache at {tmp_path}; check the address"),
            ("audio/recording.wav", "audio/recording.wav cannot be listed: Not a directory"),
        ):
            status, output = invoke(*words, "--cache", root)
            assert status == 2 and message in output, root
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["recording.wav"]

    @pytest.mark.parametrize("text", ["", "many", "-1", "1e3", "1iB", "1 GiG", "\u212a", "nan", f"{'9' * 400}GB"])
    def test_an_invalid_size_is_refused(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(SizeError, match="is not a size; examples are 10GB"):
            parse_size(text)
        status, output = invoke("gc", f"--max-size={text}", "--cache", str(tmp_path))
        assert status == 2 and "--max-size" in output

    def test_sizes_with_decimal_and_binary_units_are_accepted(self) -> None:
        sizes = {"0": 0, "7b": 7, "1.5 kb": 1500, "2KiB": 2048, "3 mib": 3 * 2**20, "10GiB": 10 * 2**30, "1T": 10**12}
        assert {text: parse_size(text) for text in sizes} == sizes
