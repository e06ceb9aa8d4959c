"""One cache, in a folder or on S3, used by many, killed, cut, full and bounded: the output is right each time."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.project import ROOT

from components.spectrograms import step
from mlops.spectrogram_cache import eviction as gc
from mlops.spectrogram_cache.entries import CacheError, SpectrogramCache
from mlops.storage import BucketStore, Entry, FolderStore, StorageError, Store, open_store
from pipeline.settings import PipelineSettings

pytestmark = pytest.mark.xdist_group("cache")
RUN = """
import sys, time
from pathlib import Path
from audiocnn import params
from components.spectrograms import compute, step
if sys.argv[4] == "slowly":
    load = compute.load
    compute.load = lambda *given: (time.sleep(0.1), load(*given))[1]
settings = pipeline_settings.load(Path("params.yaml")).spectrograms
print(step.spectrograms(Path(sys.argv[1]), settings, Path(sys.argv[2]), sys.argv[3], processes=1))
"""


# As a file: the processes of the pool import it, and so are slow too.
POOL = """
import sys, time
from pathlib import Path
from audiocnn import params
from components.spectrograms import compute, step
load = compute.load
compute.load = lambda *given: (time.sleep(0.3), load(*given))[1]
if __name__ == "__main__":
    settings = pipeline_settings.load(Path("params.yaml")).spectrograms
    step.spectrograms(Path(sys.argv[1]), settings, Path(sys.argv[2]), sys.argv[3], processes=2)
"""


@pytest.fixture(params=["folder", "bucket"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty cache, of either kind."""
    return str(tmp_path / "cache") if request.param == "folder" else f"{request.getfixturevalue('s3')}/cache"


@pytest.fixture(scope="module")
def right(dataset: Path, tiny: PipelineSettings, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What every run has to put out."""
    place = tmp_path_factory.mktemp("right")
    step.spectrograms(dataset, tiny.spectrograms, place / "out", str(place / "cache"))
    return (place / "out" / "spectrograms.npy").read_bytes()


def run(dataset: Path, tiny: PipelineSettings, output: Path, cache: str) -> tuple[bytes, int]:
    """The bytes of the array, and how many spectrograms were computed."""
    computed = step.spectrograms(dataset, tiny.spectrograms, output, cache).computed
    return (output / "spectrograms.npy").read_bytes(), computed


def start(dataset: Path, output: Path, cache: str, how: str = "") -> subprocess.Popen[str]:
    """The step as a process of its own."""
    command = [sys.executable, "-c", RUN, str(dataset), str(output), cache, how]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def entries(store: Store) -> list[Entry]:
    return list(gc.contents(store).entries)


def test_a_second_run_computes_nothing(
    cache: str, dataset: Path, tiny: PipelineSettings, right: bytes, tmp_path: Path
) -> None:
    assert run(dataset, tiny, tmp_path / "one", cache) == (right, 50)
    assert run(dataset, tiny, tmp_path / "two", cache) == (right, 0)
    (manifest,) = gc.contents(open_store(cache)).manifests.sound.values()
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
    cache: str, dataset: Path, tiny: PipelineSettings, right: bytes, tmp_path: Path
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


@pytest.mark.slow
def test_a_pool_that_is_killed_in_the_middle_leaves_nothing_but_sound_entries(
    cache: str, dataset: Path, tiny: PipelineSettings, right: bytes, tmp_path: Path
) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    command = [sys.executable, str(tmp_path / "pool.py"), str(dataset), str(tmp_path / "killed"), cache]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(entries(open_store(cache))) < 10:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)  # it and the processes of its pool
    process.wait()
    assert not (tmp_path / "killed").exists()
    left = SpectrogramCache(open_store(cache), tiny.spectrograms)
    md5s = [Path(entry.name).name for entry in entries(left.store)]
    assert all(found is not None for found in left.get_many(md5s))
    assert run(dataset, tiny, tmp_path / "out", cache) == (right, 50 - len(md5s))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "longer"])
def test_a_damaged_entry_is_computed_again_and_mended(
    damage: str, cache: str, dataset: Path, tiny: PipelineSettings, right: bytes, tmp_path: Path
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
    dataset: Path, tiny: PipelineSettings, right: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A file where the folder would be stops root too, whom no permission stops.
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StorageError, match="cache is a file, and no folder"):
        run(dataset, tiny, tmp_path / "out", str(tmp_path / "cache"))
    full = FolderStore(tmp_path / "full")

    def put(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderStore, "put", put)
        assert run(dataset, tiny, tmp_path / "out", str(full.root)) == (right, 50)
    told = capsys.readouterr().out.count("takes no more entries, going on without: [Errno 28]")
    assert 1 <= told <= 2, "not once a clip"


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="no folder here that not even root can write to")
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_folder_that_cannot_be_written_is_done_without_but_ends_a_share_of_the_work(
    processes: int,
    dataset: Path,
    tiny: PipelineSettings,
    right: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step.spectrograms(dataset, tiny.spectrograms, tmp_path / "out", "/sys/cache", processes)
    assert (tmp_path / "out" / "spectrograms.npy").read_bytes() == right
    assert processes > 1 or "takes no more entries, going on without" in capsys.readouterr().out
    with pytest.raises(CacheError, match=r"/sys/cache takes no entries, and this run is for nothing else: \[Errno"):
        step.fill(dataset, tiny.spectrograms, "/sys/cache", step.Shard(1, 2), processes)


def test_a_share_of_the_work_that_finds_the_disk_full_fails_and_leaves_nothing_half_written(
    dataset: Path, tmp_path: Path
) -> None:
    """The system refuses more bytes in a file than a third of an entry, as a full disk would."""
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "components.spectrograms", "--dataset", str(dataset), "--cache", str(cache)]
    done = subprocess.run(
        [*command, "--shard", "1/2"],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 and f"error: {cache} takes no entries" in done.stderr
    assert "are in the cache" not in done.stdout
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_folder_in_an_entrys_place_is_named(dataset: Path, tiny: PipelineSettings, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(dataset, tiny, tmp_path / "out", str(cache))
    victim = cache / entries(FolderStore(cache))[7].name
    victim.unlink()
    victim.mkdir()
    with pytest.raises(StorageError, match=f"{victim.name} cannot be read: a folder stands in its place; remove it"):
        run(dataset, tiny, tmp_path / "out", str(cache))


def test_a_bucket_that_cannot_be_read_ends_the_run_with_a_sentence(
    s3: str, dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="s3://no-such-bucket-here/x cannot be read: there is no such bucket"):
        run(dataset, tiny, tmp_path / "out", "s3://no-such-bucket-here/x")
    assert not (tmp_path / "out").exists()


def test_a_bucket_that_goes_away_in_the_middle_costs_the_entries_and_nothing_else(
    s3: str, dataset: Path, tiny: PipelineSettings, right: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
