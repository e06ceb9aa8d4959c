"""Bounding the cache: nothing goes but its own entries, and nothing that somebody keeps or has just come to use."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.project import ROOT
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.spectrograms import step
from mlops.spectrogram_cache import eviction as gc
from mlops.spectrogram_cache.manifests import Manifest, Manifests
from mlops.storage import LEFTOVER_SECONDS, BucketStore, Entry, FolderStore, Store, open_store
from pipeline.cli import app
from pipeline.cli.cache import size
from pipeline.settings import PipelineSettings

pytestmark = pytest.mark.xdist_group("cache")
FRONT_END = "f" * 16
OLD, MID = "a" * 64, "b" * 64
WRITER = """
import sys, time
from components.spectrograms import manifests, names
from components.stores import open_store
store, until, turn = open_store(sys.argv[1]), time.monotonic() + 3, 0
mine = [names.entry("f" * 16, f"{number:032x}") for number in range(400)]
while time.monotonic() < until:
    for name in mine:
        if store.get(name) is None:
            store.put(name, bytes(100))
    manifests.write(store, "mine", "c" * 64, mine)
    turn += 1
assert all(store.get(name) in (None, bytes(100)) for name in mine)
print(turn)
"""


@pytest.fixture(params=["folder", "bucket"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty cache, of either kind."""
    return str(tmp_path / "cache") if request.param == "folder" else f"{request.getfixturevalue('s3')}/cache"


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "cache")


def entry(number: int) -> str:
    """The name of one entry of many."""
    return f"{FRONT_END}/{number:02x}/{number:02x}{number:030x}"


def fill(store: Store, numbers: Iterator[int] | range) -> None:
    """Write entries of 100 bytes."""
    for number in numbers:
        store.put(entry(number), bytes(100))
    store.flush()


def note(store: Store, name: str, digest: str, numbers: list[int], used: float) -> str:
    """Write a manifest; where it lies."""
    manifest = Manifest(name, digest, tuple(map(entry, numbers)), used)
    store.put(manifest.place, manifest.to_bytes())
    store.flush()
    return manifest.place


def entries(store: Store) -> list[str]:
    """Names of what is there, sorted."""
    return sorted(one.name for one in gc.contents(store).entries)


def invoke(*words: str) -> tuple[int, str]:
    """Exit status and output of `audiocnn cache ...`."""
    done = CliRunner().invoke(app, ["cache", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), "a traceback"
    return done.exit_code, done.output


def test_removes_what_was_used_longest_ago_and_spares_what_is_named(cache: str) -> None:
    store = open_store(cache)
    fill(store, range(6))
    note(store, "old", OLD, [0, 1], 1.0)
    note(store, "mid", MID, [1, 2, 3], 2.0)
    assert gc.collect(store, 500, dry_run=True) == (1, 100) and len(entries(store)) == 6
    assert gc.collect(store, 500) == (1, 100)  # 0: only the oldest uses it
    assert gc.collect(store, 300, keep=["mid"]) == (2, 200)  # 4 and 5: nobody's, but written just now
    assert entries(store) == [entry(1), entry(2), entry(3)]
    with pytest.raises(gc.GcError, match="knows no data set 'other'; it knows mid, old"):
        gc.collect(store, 0, keep=["other"])
    with pytest.raises(gc.GcError, match="300 bytes stay, more than the 100 allowed"):
        gc.collect(store, 100, keep=["b" * 12])
    assert gc.collect(store, 0) == (3, 300)
    assert list(store.list()) == [], "manifests without entries go too"


def test_nothing_goes_but_what_is_the_caches_own(cache: str) -> None:
    store = open_store(cache)
    others = (
        "audio/recording.wav",
        "datasets/table.json",
        f"{FRONT_END}/notes.txt",
        f"{FRONT_END}/ab/cd{'0' * 30}",  # in another entry's folder
        f"deeper/{entry(1)}",
        f"{entry(1)}.bak",
    )
    for name in others:
        store.put(name, bytes(1000))
    fill(store, range(3))
    assert gc.contents(store).size == 300
    assert gc.collect(store, 0) == (3, 300)
    assert sorted(one.name for one in store.list()) == sorted(others)


def test_sweeps_up_what_killed_processes_left_and_no_other_partial_files(folder: FolderStore) -> None:
    fill(folder, range(1))
    home = (folder.root / entry(0)).parent
    own = f".{Path(entry(0)).name}.{'1' * 32}.part"
    for name, age in ((own, 2), (own.replace("1", "2"), 0), (f".other.{'1' * 32}.part", 2), ("film.part", 2)):
        part = home / name
        part.touch()
        os.utime(part, (time.time() - age * LEFTOVER_SECONDS,) * 2)
    gc.collect(folder, 10**6)
    left = {path.name for path in home.iterdir()}
    assert left == {Path(entry(0)).name, own.replace("1", "2"), f".other.{'1' * 32}.part", "film.part"}


def test_a_leftover_that_vanishes_while_it_is_looked_at_does_not_matter(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, range(3))
    files = FolderStore._files

    def vanishing(self: FolderStore, below: str = "") -> Iterator[Path]:
        yield (folder.root / entry(0)).with_name(f".{Path(entry(0)).name}.{'1' * 32}.part")
        yield from files(self, below)

    monkeypatch.setattr(FolderStore, "_files", vanishing)
    assert gc.collect(folder, 0) == (3, 300)


@pytest.mark.parametrize(
    "content",
    [
        b'{"name": 1',
        b"",
        b'{"name": "x", "digest": "y", "entries": [], "used": 1.0}',
        b"[" * 10**5,
        b"\xff\xfe",
    ],
)
def test_a_manifest_that_cannot_be_read_stops_the_collection_and_is_shown(content: bytes, folder: FolderStore) -> None:
    fill(folder, range(3))
    place = f"datasets/{'a' * 16}-{FRONT_END}.json"
    folder.put(place, content)
    with pytest.raises(gc.GcError, match=f"{place} uses is unknown: it does not fit its checksum; run"):
        gc.collect(folder, 0)
    assert len(entries(folder)) == 3
    status, shown = invoke("status", "--cache", str(folder.root))
    assert status == 0 and "unreadable" in shown
    folder.delete([place])
    assert gc.collect(folder, 0) == (3, 300)


class TestBesideRuns:
    """What happens between the look at the cache and the removal."""

    def during(self, store: Store, monkeypatch: pytest.MonkeyPatch, what: Callable[[], object]) -> None:
        """Let `what` happen once, when `collect` has looked and begins to remove."""
        real = type(store).sweep

        def sweep(self: Store, own: Callable[[str], bool]) -> None:
            monkeypatch.setattr(type(store), "sweep", real)
            what()

        monkeypatch.setattr(type(store), "sweep", sweep)

    def test_what_a_data_set_has_come_to_use_stays(self, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_store(cache)
        fill(store, range(5))
        note(store, "old", OLD, [0, 1], 1.0)
        self.during(store, monkeypatch, lambda: note(store, "new", MID, [1, 2], time.time()))
        with pytest.raises(gc.GcError, match="200 bytes stay"):
            gc.collect(store, 0)
        assert entries(store) == [entry(1), entry(2)]
        assert {one.name for one in gc.contents(store).manifests.sound.values()} == {"old", "new"}

    def test_a_data_set_that_grows_meanwhile_is_kept_whole(self, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_store(cache)
        fill(store, range(5))
        note(store, "pets", OLD, [0, 1], 1.0)
        self.during(store, monkeypatch, lambda: note(store, "pets", MID, [0, 1, 2, 3], 1.0))
        with pytest.raises(gc.GcError, match="400 bytes stay"):
            gc.collect(store, 200, keep=["pets"])
        assert entries(store) == list(map(entry, range(4)))

    def test_an_entry_that_was_written_again_stays(self, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_store(cache)
        fill(store, range(3))

        def write() -> None:
            if isinstance(store, BucketStore):
                time.sleep(1.1)  # S3 counts whole seconds
            fill(store, range(1, 2))

        self.during(store, monkeypatch, write)
        with pytest.raises(gc.GcError, match="100 bytes stay"):
            gc.collect(store, 0)
        assert entries(store) == [entry(1)]

    def test_a_manifest_that_is_damaged_meanwhile_stops_the_removal(
        self, folder: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(folder, range(3))
        place = note(folder, "old", OLD, [0, 1], 1.0)
        self.during(folder, monkeypatch, lambda: folder.put(place, b"damaged"))
        with pytest.raises(gc.GcError, match="nothing more is removed"):
            gc.collect(folder, 0)
        assert len(entries(folder)) == 3

    def test_a_writer_in_another_process_never_sees_anything_half_and_keeps_what_it_notes(
        self, folder: FolderStore
    ) -> None:
        fill(folder, range(1))
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder.root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        collected = 0
        while writer.poll() is None:
            try:
                collected += gc.collect(folder, 0)[0]
            except gc.GcError as error:
                assert "bytes stay" in str(error)
        turns = int(writer.communicate()[0])
        assert writer.returncode == 0 and turns > 0 and collected > 0
        assert gc.collect(folder, 10**9) == (0, 0) and not list(folder.root.rglob("*.part"))

    def test_a_run_that_finds_an_entry_missing_computes_it_again(
        self, dataset: Path, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = FolderStore(tmp_path / "cache")
        step.spectrograms(dataset, tiny.spectrograms, tmp_path / "one", str(store.root))
        real, calls = FolderStore.get, iter(range(1000))

        def get(self: FolderStore, name: str) -> bytes | None:
            if next(calls) == 25:
                gc.collect(store, 0)
            return real(self, name)

        monkeypatch.setattr(FolderStore, "get", get)
        assert step.spectrograms(dataset, tiny.spectrograms, tmp_path / "two", str(store.root)).computed >= 20
        one, two = ((tmp_path / name / "spectrograms.npy").read_bytes() for name in ("one", "two"))
        assert one == two


@given(
    sizes=st.lists(st.integers(0, 100), max_size=12),
    sets=st.lists(st.tuples(st.sets(st.integers(0, 11)), st.floats(0, 1e9)), max_size=4),
    keep=st.sets(st.integers(0, 3)),
    bound=st.integers(0, 600),
)
def test_never_takes_what_is_spared_nor_more_than_it_must(
    sizes: list[int], sets: list[tuple[set[int], float]], keep: set[int], bound: int
) -> None:
    held = [Entry(entry(number), size, float(number)) for number, size in enumerate(sizes)]
    known = {
        str(number): Manifest(f"set{number}", f"{number}" * 64, tuple(map(entry, sorted(members))), used)
        for number, (members, used) in enumerate(sets)
    }
    found = gc.Contents(tuple(held), Manifests(known, {}))
    names = [f"set{number}" for number in keep]
    removed = gc.superfluous(found, bound, names)
    spared = {name for number, set_ in known.items() if int(number) in keep for name in set_.entries}
    assert spared.isdisjoint(one.name for one in removed)
    left = found.size - sum(one.size for one in removed)
    assert left <= bound or len(removed) == sum(one.name not in spared for one in held)
    if removed:
        assert left + removed[-1].size > bound


class TestCommand:
    def test_shows_what_is_there_and_bounds_it(
        self, dataset: Path, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        cache = "var/cache/spectrograms"
        step.spectrograms(dataset, tiny.spectrograms, tmp_path / "out", cache)
        status, shown = invoke("status")
        assert status == 0 and "50 spectrograms, 2.8 MB" in shown and "demo" in shown
        told = invoke("gc", "--max-size", "1MB", "--dry-run")[1]
        assert "Would remove 32 spectrograms" in told and len(entries(FolderStore(Path(cache)))) == 50
        status, kept = invoke("gc", "--max-size", "1MB", "--keep", "demo")
        assert status == 2 and "raise --max-size or keep fewer" in kept
        status, done = invoke("gc", "--max-size", "0.5 mb")
        assert status == 0 and "Removed 41 spectrograms" in done

    @pytest.mark.parametrize("words", [("status",), ("gc", "--max-size", "0")])
    def test_an_address_without_a_cache_is_refused_and_left_alone(
        self, words: tuple[str, ...], tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "audio").mkdir()
        (tmp_path / "audio" / "recording.wav").write_bytes(b"sound")
        for root, sentence in (
            ("", "'' is no address; expected a folder or s3://bucket/prefix"),
            ("S3://clips/cache", "is no address"),
            ("gs://clips/cache", "is no address"),
            ("typo", "there is no spectrogram cache at typo: nothing lies there"),
            (f"{s3}/typo", f"there is no spectrogram cache at {s3}/typo: nothing lies there"),
            (str(tmp_path), f"{tmp_path} is no spectrogram cache: it holds 1 files and none of a cache's"),
            ("audio/recording.wav", "audio/recording.wav is a file, and no folder"),
        ):
            status, told = invoke(*words, "--cache", root)
            assert status == 2 and sentence in told, root
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["recording.wav"]

    @pytest.mark.parametrize("text", ["", "many", "-1", "1 PB", "1e3", "١GB", "1iB", "1 GiG", "1.", "\u212a"])
    def test_takes_no_size_that_is_none(self, text: str, tmp_path: Path) -> None:
        status, told = invoke("gc", f"--max-size={text}", "--cache", str(tmp_path))
        assert status == 2 and "write it like 10GB" in told

    def test_takes_sizes_as_people_write_them(self) -> None:
        written = {"0": 0, "7b": 7, "1.5 kb": 1500, "2KiB": 2048, "3 mib": 3 * 2**20, "10GiB": 10 * 2**30, "1T": 10**12}
        assert {text: size(text) for text in written} == written
        assert size(f"{'9' * 400}GB") > 10**400
