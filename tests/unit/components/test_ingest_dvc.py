"""The data that data.dvc pins, from a DVC remote in a bucket, with git and without."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.ingest import IngestFolder, settings
from helpers.project import ROOT, read_json
from helpers.s3 import new_bucket

from components.ingest.sources import pinned
from components.ingest.sources.kind import SourceError
from components.ingest.step import Summary, ingest
from mlops.storage import BucketStore
from pipeline.submit import training_arguments
from pipeline.settings import PipelineSettings

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pinned")]
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost")


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def dvc(*arguments: str, cwd: Path) -> str:
    return run(sys.executable, "-m", "dvc", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def store(s3_server: str, patch: pytest.MonkeyPatch) -> str:
    """The DVC remote's address."""
    return f"{new_bucket(s3_server, patch)}/dvc"


@pytest.fixture(scope="module")
def origin(store: str, patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose tag `one` pins eight clips and whose head pins nine, both pushed to a bucket."""
    folder = tmp_path_factory.mktemp("origin")
    patch.setenv("DVC_NO_ANALYTICS", "true")
    patch.setenv("DVC_SITE_CACHE_DIR", str(folder.parent / "site"))
    run(*GIT, "init", "-q", cwd=folder)
    dvc("init", "-q", cwd=folder)
    dvc("remote", "add", "-q", "--default", "store", store, cwd=folder)
    clips = IngestFolder(folder / "data")
    for tag in ("one", "two"):
        clips.write()
        dvc("add", "-q", "data", cwd=folder)
        run(*GIT, "add", "-A", cwd=folder)
        run(*GIT, "commit", "-q", "-m", tag, cwd=folder)
        run(*GIT, "tag", tag, cwd=folder)
        if tag == "one":
            clips.add("2-9-0.wav", 2, 0, "dog")
    dvc("remote", "modify", "-q", "--local", "store", "endpointurl", os.environ["AWS_ENDPOINT_URL"], cwd=folder)
    dvc("push", "-q", "--all-tags", cwd=folder)
    return folder


@pytest.fixture
def project(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone: no data, no cache, no settings but those that are committed."""
    run(*GIT, "clone", "-q", str(origin), str(tmp_path / "clone"), cwd=tmp_path)
    monkeypatch.setattr(pinned, "ROOT", tmp_path / "clone")
    return tmp_path / "clone"


def fetch(source: str, place: Path) -> Summary:
    """Ingest, with the cache for what is pulled beside the output."""
    chosen = settings(ROOT).replace(downloads=str(place.parent / "downloads"))
    return ingest(source, chosen, place)


def test_head_and_another_revision_are_pulled_and_the_checkout_stays_as_it_is(
    project: Path, origin: Path, tmp_path: Path
) -> None:
    assert fetch("dvc:one", tmp_path / "one").clips == 8
    described = read_json(tmp_path / "one" / "dataset.json")
    assert (
        described["origin"] == pinned.resolve("dvc:one") and described["source"] == f"data-{described['origin'][4:12]}"
    )
    assert fetch(described["origin"], tmp_path / "again") == fetch("dvc:one", tmp_path / "one")
    assert fetch("dvc", tmp_path / "head") == fetch(str(origin / "data"), tmp_path / "pushed")
    assert run(*GIT, "status", "--porcelain", cwd=project) == "" and not (project / "data").exists()


def test_without_git_a_pin_by_content_is_enough(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_content = pinned.resolve("dvc:one")
    assert pinned.HASH.fullmatch(by_content.removeprefix("dvc:"))
    assert pinned.resolve("dvc") == pinned.resolve("dvc:HEAD") != by_content
    shutil.rmtree(project / ".git")
    monkeypatch.setenv("PATH", str(tmp_path))  # nor the program
    assert fetch(by_content, tmp_path / "one").clips == 8
    assert fetch("dvc", tmp_path / "head").clips == 9
    with pytest.raises(SourceError, match=r"no Git repository here; give dvc:HASH\.dir"):
        fetch("dvc:one", tmp_path / "two")


def test_what_was_pulled_before_is_taken_from_the_cache(project: Path, store: str, tmp_path: Path) -> None:
    first = fetch("dvc", tmp_path / "first")
    bucket = BucketStore(store)
    kept = {found.name: bucket.get(found.name) for found in bucket.list("files/md5") if ".dir" not in found.name}
    bucket.delete(kept)
    try:
        assert fetch("dvc", tmp_path / "again") == first
    finally:
        for key, content in kept.items():
            bucket.put(key, content or b"")
        bucket.flush()


def test_the_checkouts_own_cache_is_used_and_its_bytes_are_not_believed(
    project: Path, origin: Path, tmp_path: Path
) -> None:
    cache = shutil.copytree(origin / ".dvc" / "cache", project / ".dvc" / "cache")
    assert fetch("dvc", tmp_path / "dataset").clips == 9
    assert not (tmp_path / "downloads").exists()
    victim = next(path for path in cache.rglob("*") if path.is_file() and path.stat().st_size > 1000)
    mode, content = victim.stat().st_mode, bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(content)
    victim.chmod(mode)  # read-only: what DVC takes as a sign that nobody has touched it
    with pytest.raises(SourceError, match=r"holds other bytes than 1 file \((audio|meta)/.*remove it"):
        fetch("dvc", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_remote_can_be_named_by_the_environment(
    project: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".dvc" / "config").write_text("")
    with pytest.raises(SourceError, match=r"no DVC remote is configured: .*AUDIOCNN_DVC_REMOTE"):
        fetch("dvc", tmp_path / "dataset")
    monkeypatch.setenv(pinned.REMOTE, store)
    assert fetch("dvc", tmp_path / "dataset").clips == 9


def test_a_remote_in_a_folder_beside_the_project_is_found(
    project: Path, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc("remote", "add", "-q", "disk", str(tmp_path / "disk"), cwd=origin)
    dvc("push", "-q", "-r", "disk", cwd=origin)
    (project / ".dvc" / "config").write_text("[core]\n    remote = disk\n['remote \"disk\"']\n    url = ../../disk\n")
    assert fetch("dvc", tmp_path / "dataset").clips == 9


@pytest.mark.parametrize("revision", ["nowhere", "--upload-pack=x", "a b", "HEAD:other", "HEAD~99"])
def test_a_revision_that_is_none_is_said(revision: str, project: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"git finds no data\.dvc there|names no revision"):
        fetch(f"dvc:{revision}", tmp_path / "dataset")


@pytest.mark.parametrize(
    ("pointer", "said"),
    [
        ("outs: [{md5: 0123456789abcdef0123456789abcdef, hash: md5, path: data}]", "pins a single file"),
        ("outs: [{md5: 0123456789abcdef0123456789abcdef.dir, path: data}]", "pinned by DVC 2"),
        ("outs: []", "pins no data"),
        ("- {", "pins no data"),
        (None, r"there is no data\.dvc"),
    ],
)
def test_a_pointer_that_pins_no_folder_is_said(pointer: str | None, said: str, tmp_path: Path) -> None:
    if pointer is not None:
        (tmp_path / "data.dvc").write_text(pointer)
    with pytest.raises(SourceError, match=said):
        pinned.resolve("dvc", tmp_path)


def test_an_object_that_is_altered_or_gone_in_the_remote_is_named(project: Path, store: str, tmp_path: Path) -> None:
    bucket = BucketStore(store)
    listing = f"files/md5/{pinned.resolve('dvc').removeprefix('dvc:')}"
    listing = f"{listing[:12]}/{listing[12:]}"
    entries = {entry["relpath"]: entry["md5"] for entry in json.loads(bucket.get(listing) or b"")}
    key = "files/md5/{}/{}".format(entries["audio/2-9-0.wav"][:2], entries["audio/2-9-0.wav"][2:])
    sound = {name: bucket.get(name) or b"" for name in (key, listing)}
    try:
        bucket.put(key, sound[key][:-1] + bytes([sound[key][-1] ^ 1]))
        bucket.flush()
        for _ in range(2):
            with pytest.raises(
                SourceError, match=r"the remote lacks 1 file \(audio/2-9-0\.wav\), or holds other bytes"
            ):
                fetch("dvc", tmp_path / "work" / "dataset")
            assert [path.name for path in (tmp_path / "work").iterdir()] == ["downloads"]
            bucket.delete([key])
        bucket.delete([listing])
        with pytest.raises(SourceError, match=r"the remote holds no sound [0-9a-f]{32}\.dir; was it pushed"):
            fetch("dvc", tmp_path / "unpushed" / "dataset")
    finally:
        for name, content in sound.items():
            bucket.put(name, content)
        bucket.flush()


@pytest.mark.parametrize(
    ("url", "said"),
    [("s3://no-such-bucket-here/dvc", "cannot be pulled"), ("nope://me:secret@host/x", "settings cannot be used")],
)
def test_a_remote_that_is_none_is_said_without_the_password(
    url: str, said: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pinned.REMOTE, url)
    with pytest.raises(SourceError, match=said) as raised:
        fetch("dvc", tmp_path / "dataset")
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)
    print(raised.value)


def test_the_command_line_pins_a_revision_by_content_before_it_hands_it_on(
    project: Path, tiny: PipelineSettings
) -> None:
    by_content = pinned.resolve("dvc:one")
    assert training_arguments(tiny, "dvc:one")["source"] == by_content
    assert training_arguments(tiny, by_content)["source"] == by_content
    with pytest.raises(SourceError, match="git finds no"):
        training_arguments(tiny, "dvc:nowhere")
