"""The cache, in a folder or on S3: shared, killed, damaged, full. The output of the step is always the same."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.project import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiocnn.config import SpectrogramSettings
from components.spectrograms import step
from mlops.spectrogram_cache import names
from mlops.spectrogram_cache.entries import CacheError, SpectrogramCache
from mlops.spectrogram_cache.eviction import read_contents
from mlops.storage import BucketStore, Entry, FolderStore, StorageError, Store, open_store
from pipeline.settings import PipelineSettings

pytestmark = pytest.mark.xdist_group("cache")
# A file, because the processes of the pool import it.
SLOW_RUN = """
import sys, time
from pathlib import Path
from components.spectrograms import compute, step
from pipeline import settings
load = compute.load
compute.load = lambda *arguments: (time.sleep(float(sys.argv[4])), load(*arguments))[1]
if __name__ == "__main__":
    spectrograms = settings.load(Path("params.yaml"), {"recipe": "demo"}).spectrograms
    step.spectrograms(Path(sys.argv[1]), spectrograms, Path(sys.argv[2]), sys.argv[3], processes=int(sys.argv[5]))
"""


@pytest.fixture(params=["folder", "bucket"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty cache of either kind."""
    return str(tmp_path / "cache") if request.param == "folder" else f"{request.getfixturevalue('s3')}/cache"


@pytest.fixture(scope="module")
def expected(dataset: Path, tiny: PipelineSettings, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The array that every run has to write."""
    folder = tmp_path_factory.mktemp("expected")
    step.spectrograms(dataset, tiny.spectrograms, folder / "out", str(folder / "cache"))
    return (folder / "out" / "spectrograms.npy").read_bytes()


def run(dataset: Path, tiny: PipelineSettings, output: Path, cache: str) -> tuple[bytes, int]:
    """Return the bytes of the array and the number of computed spectrograms."""
    computed = step.spectrograms(dataset, tiny.spectrograms, output, cache).computed
    return (output / "spectrograms.npy").read_bytes(), computed


@pytest.fixture
def start(dataset: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """A function that runs the step in a process group of its own, with a delay in s before each clip."""

    def start(output: Path, cache: str, delay: float = 0.0, processes: int = 1) -> subprocess.Popen[bytes]:
        (tmp_path / "run.py").write_text(SLOW_RUN)
        arguments = [dataset, output, cache, delay, processes]
        return subprocess.Popen(
            [sys.executable, str(tmp_path / "run.py"), *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )

    return start


def entries(store: Store) -> list[Entry]:
    return [entry for entry in store.list() if names.is_entry(entry.name)]


def test_entry_names_are_those_of_release_0_1_0(tmp_path: Path) -> None:
    # Computed with revision d19bb7a. If the names change, users compute all spectrograms again.
    values = {"rate": 22050, "seconds": 5, "n_fft": 1024, "hop": 512, "n_mels": 128, "f_min": 0, "f_max": 11025}
    for change, digest in (
        ({}, "f86531b8bc90716d"),
        ({"f_min": 20.0, "rate": 16000, "f_max": 8000.0}, "88d775922a59d1b4"),
    ):
        cache = SpectrogramCache(FolderStore(tmp_path), SpectrogramSettings.parse(values | change, "test"))
        assert cache.name("0123456789abcdef" * 2) == f"{digest}/01/{'0123456789abcdef' * 2}"


def test_other_settings_have_other_entries(tiny: PipelineSettings, tmp_path: Path) -> None:
    cache = SpectrogramCache(FolderStore(tmp_path), tiny.spectrograms)
    cache.put("a" * 32, np.zeros(cache.shape, np.float16))
    other = SpectrogramCache(FolderStore(tmp_path), tiny.spectrograms.replace(f_min=20.0))
    assert next(cache.get_many(["a" * 32])) is not None and next(other.get_many(["a" * 32])) is None


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flip=st.floats(0, 1, exclude_max=True), cut=st.integers(0, 64 * 108 * 2 + 15))
def test_a_changed_or_cut_entry_counts_as_missing(
    tiny: PipelineSettings, tmp_path: Path, flip: float, cut: int
) -> None:
    cache = SpectrogramCache(FolderStore(tmp_path), tiny.spectrograms)
    cache.put("b" * 32, np.ones(cache.shape, np.float16))
    path = tmp_path / cache.name("b" * 32)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[int(flip * len(content))] ^= 1
    for damaged in (bytes(flipped), content[:cut]):
        path.write_bytes(damaged)
        assert next(cache.get_many(["b" * 32])) is None


def test_a_second_run_computes_nothing(
    cache: str, dataset: Path, tiny: PipelineSettings, expected: bytes, tmp_path: Path
) -> None:
    assert run(dataset, tiny, tmp_path / "one", cache) == (expected, 50)
    assert run(dataset, tiny, tmp_path / "two", cache) == (expected, 0)
    (manifest,) = read_contents(open_store(cache)).manifests.values()
    assert manifest.name == "demo" and set(manifest.entries) == {entry.name for entry in entries(open_store(cache))}


@pytest.mark.slow
def test_two_processes_can_fill_a_cache_at_the_same_time(
    cache: str, expected: bytes, tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    running = [start(tmp_path / name, cache) for name in ("one", "two")]
    assert [process.wait(120) for process in running] == [0, 0]
    for name in ("one", "two"):
        assert (tmp_path / name / "spectrograms.npy").read_bytes() == expected


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_leaves_only_complete_entries(
    processes: int,
    cache: str,
    dataset: Path,
    tiny: PipelineSettings,
    expected: bytes,
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = start(tmp_path / "killed", cache, 0.1 * processes, processes)
    deadline = time.monotonic() + 120
    while len(entries(open_store(cache))) < 10:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed").exists()
    store = SpectrogramCache(open_store(cache), tiny.spectrograms)
    md5s = [Path(entry.name).name for entry in entries(store.store)]
    assert all(entry is not None for entry in store.get_many(md5s))
    assert run(dataset, tiny, tmp_path / "out", cache) == (expected, 50 - len(md5s))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "longer"])
def test_a_damaged_entry_is_replaced(
    damage: str, cache: str, dataset: Path, tiny: PipelineSettings, expected: bytes, tmp_path: Path
) -> None:
    run(dataset, tiny, tmp_path / "one", cache)
    store = open_store(cache)
    victim = entries(store)[7].name
    content = store.get(victim)
    assert content is not None
    flipped = bytearray(content)
    flipped[1234] ^= 4
    store.put(victim, {"cut": content[:-9], "flipped": bytes(flipped), "empty": b"", "longer": content + b"x"}[damage])
    store.flush()
    assert run(dataset, tiny, tmp_path / "two", cache) == (expected, 1)
    assert store.get(victim) == content


def test_a_run_continues_without_a_cache_that_is_full(
    dataset: Path,
    tiny: PipelineSettings,
    expected: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def put(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FolderStore, "put", put)
    assert run(dataset, tiny, tmp_path / "out", str(tmp_path / "full")) == (expected, 50)
    reports = capsys.readouterr().out.count("continuing without writing to the cache: [Errno 28]")
    assert 1 <= reports <= 2, "not for every clip"


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="needs a folder that not even root can write to")
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_read_only_cache_fails_a_shard_but_not_a_complete_run(
    processes: int,
    dataset: Path,
    tiny: PipelineSettings,
    expected: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step.spectrograms(dataset, tiny.spectrograms, tmp_path / "out", "/sys/cache", processes)
    assert (tmp_path / "out" / "spectrograms.npy").read_bytes() == expected
    assert processes > 1 or "continuing without writing to the cache" in capsys.readouterr().out
    with pytest.raises(CacheError, match=r"/sys/cache cannot be written: \[Errno"):
        step.fill_cache(dataset, tiny.spectrograms, "/sys/cache", step.Shard(1, 2), processes)


def test_a_shard_fails_on_a_full_disk_and_leaves_no_files(dataset: Path, tmp_path: Path) -> None:
    """A file size limit below the size of an entry acts like a full disk."""
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "components.spectrograms", "--dataset", str(dataset), "--cache", str(cache)]
    done = subprocess.run(
        [*command, "--shard", "1/2"],
        cwd=ROOT,
        # Coverage is not measured: its file would be larger than the limit.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COVERAGE_PROCESS_CONFIG": ""},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 and f"error: the spectrogram cache {cache} cannot be written" in done.stderr
    assert "the cache contains" not in done.stdout
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_folder_in_place_of_an_entry_is_an_error(dataset: Path, tiny: PipelineSettings, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(dataset, tiny, tmp_path / "out", str(cache))
    victim = cache / entries(FolderStore(cache))[7].name
    victim.unlink()
    victim.mkdir()
    with pytest.raises(StorageError, match=f"{victim.name} cannot be read: Is a directory; check the path"):
        run(dataset, tiny, tmp_path / "out", str(cache))


def test_a_missing_bucket_is_an_error(s3: str, dataset: Path, tiny: PipelineSettings, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="s3://no-such-bucket-here/x cannot be read: the bucket does not exist"):
        run(dataset, tiny, tmp_path / "out", "s3://no-such-bucket-here/x")
    assert not (tmp_path / "out").exists()


def test_a_run_continues_without_a_bucket_that_becomes_unwritable(
    s3: str, dataset: Path, tiny: PipelineSettings, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts, put = iter(range(100)), BucketStore._put

    def fail_after_20(self: BucketStore, name: str, content: bytes) -> None:
        if next(puts) >= 20:
            raise StorageError("s3://x cannot be written")
        put(self, name, content)

    monkeypatch.setattr(BucketStore, "_put", fail_after_20)
    assert run(dataset, tiny, tmp_path / "out", f"{s3}/cache") == (expected, 50)
