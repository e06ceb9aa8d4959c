"""Eviction removes only the cache's own entries, the least recently used first, also during a run."""

import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.project import ROOT
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.spectrograms import step
from mlops.spectrogram_cache import names
from mlops.spectrogram_cache.eviction import CacheContents, GcError, collect, read_contents, select_evictions
from mlops.spectrogram_cache.manifests import Manifest
from mlops.storage import Entry, FolderStore, Store, open_store
from pipeline.cli import app
from pipeline.cli.cache import SizeError, parse_size
from pipeline.settings import PipelineSettings

pytestmark = pytest.mark.xdist_group("cache")
FRONT_END = "f" * 16
OLD, MID = "a" * 64, "b" * 64
WRITER = """
import sys, time
from mlops.spectrogram_cache import names
from mlops.spectrogram_cache.manifests import Manifest
from mlops.storage import open_store
store, until, turns = open_store(sys.argv[1]), time.monotonic() + 3, 0
mine = [names.entry("f" * 16, f"{number:032x}") for number in range(400)]
while time.monotonic() < until:
    for name in mine:
        if store.get(name) is None:
            store.put(name, bytes(100))
    manifest = Manifest(name="mine", digest="c" * 64, entries=tuple(mine), used=time.time())
    store.put(names.manifest("c" * 64, "f" * 16), manifest.to_bytes())
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


def test_least_recently_used_entries_are_removed_first(cache: str) -> None:
    store = open_store(cache)
    fill(store, range(6))
    write_manifest(store, "old", OLD, [0, 1], 1.0)
    write_manifest(store, "mid", MID, [1, 2, 3], 2.0)
    assert collect(store, 500, dry_run=True) == (1, 100) and len(entries(store)) == 6
    assert collect(store, 500) == (1, 100)
    assert entry(0) not in entries(store), "only the oldest data set uses it"
    assert collect(store, 200) == (3, 300)
    assert entries(store) == [entry(4), entry(5)], "used by no data set, and just written"
    assert collect(store, 0) == (2, 200)
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


@pytest.mark.parametrize(
    "content",
    [b'{"name": 1', b"", b'{"name": "x", "digest": "y", "entries": [], "used": 1.0}', b"\xff\xfe"],
)
def test_a_damaged_manifest_is_ignored(content: bytes, folder: FolderStore) -> None:
    fill(folder, range(3))
    folder.put(f"datasets/{'a' * 16}-{FRONT_END}.json", content)
    status, output = invoke("status", "--cache", str(folder.root))
    assert status == 0 and "3 spectrograms, 300 bytes" in output
    assert collect(folder, 100) == (2, 200)


class TestConcurrentRuns:
    def test_another_process_never_reads_incomplete_entries(self, folder: FolderStore) -> None:
        fill(folder, range(1))
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder.root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        removed = 0
        while writer.poll() is None:
            with suppress(GcError):  # there is nothing yet
                removed += collect(folder, 0)[0]
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
    limit=st.integers(0, 600),
)
def test_no_more_entries_are_selected_than_necessary(
    sizes: list[int], datasets: list[tuple[set[int], float]], limit: int
) -> None:
    found = tuple(Entry(entry(number), size, float(number)) for number, size in enumerate(sizes))
    known = {
        str(number): Manifest(
            name=f"set{number}", digest=f"{number}" * 64, entries=tuple(map(entry, sorted(members))), used=used
        )
        for number, (members, used) in enumerate(datasets)
    }
    contents = CacheContents(found, known)
    evictions = select_evictions(contents, limit)
    remaining = contents.size - sum(evicted.size for evicted in evictions)
    assert remaining <= limit
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
        assert status == 0 and "50 spectrograms, 692.0 kB" in output and "demo" in output
        output = invoke("gc", "--max-size", "0.25MB", "--dry-run")[1]
        assert "Would remove 32 spectrograms" in output and len(entries(FolderStore(Path(cache)))) == 50
        status, output = invoke("gc", "--max-size", "0.125 mb")
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
