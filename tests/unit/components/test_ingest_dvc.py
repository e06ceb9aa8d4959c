"""The source dvc, with a DVC remote in a bucket, with and without Git."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.ingest import IngestFolder, ingest, settings
from helpers.project import ROOT
from helpers.s3 import new_bucket

from components.ingest.sources import DVC_REMOTE, SourceError, dvc, parse_source
from components.ingest.step import Summary
from mlops.artifacts import DatasetFolder
from mlops.storage import BucketStore

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dvc")]
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost")


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def run_dvc(*arguments: str, cwd: Path) -> str:
    return run(sys.executable, "-m", "dvc", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def store(s3_server: str, patch: pytest.MonkeyPatch) -> str:
    """Address of the DVC remote."""
    return f"{new_bucket(s3_server, patch)}/dvc"


@pytest.fixture(scope="module")
def origin(store: str, patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that pins eight clips at the tag `one` and nine at HEAD, both pushed to a bucket."""
    folder = tmp_path_factory.mktemp("origin")
    patch.setenv("DVC_NO_ANALYTICS", "true")
    patch.setenv("DVC_SITE_CACHE_DIR", str(folder.parent / "site"))
    run(*GIT, "init", "-q", cwd=folder)
    run_dvc("init", "-q", cwd=folder)
    run_dvc("remote", "add", "-q", "--default", "store", store, cwd=folder)
    clips = IngestFolder(folder / "data")
    for tag in ("one", "two"):
        clips.write()
        run_dvc("add", "-q", "data", cwd=folder)
        run(*GIT, "add", "-A", cwd=folder)
        run(*GIT, "commit", "-q", "-m", tag, cwd=folder)
        run(*GIT, "tag", tag, cwd=folder)
        if tag == "one":
            clips.add("2-9-0.wav", 2, 0, "dog")
    run_dvc("remote", "modify", "-q", "--local", "store", "endpointurl", os.environ["AWS_ENDPOINT_URL"], cwd=folder)
    run_dvc("push", "-q", "--all-tags", cwd=folder)
    return folder


@pytest.fixture
def project(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone without data, cache and local settings."""
    run(*GIT, "clone", "-q", str(origin), str(tmp_path / "clone"), cwd=tmp_path)
    monkeypatch.setattr(dvc, "ROOT", tmp_path / "clone")
    return tmp_path / "clone"


def fetch(source: str, place: Path) -> Summary:
    """Run ingest with ingest.downloads next to the output."""
    chosen = settings(ROOT).replace(downloads=str(place.parent / "downloads"))
    return ingest(source, chosen, place)


def test_revisions_are_pulled_and_the_checkout_is_unchanged(project: Path, origin: Path, tmp_path: Path) -> None:
    assert fetch("dvc:one", tmp_path / "one").clips == 8
    record = DatasetFolder(tmp_path / "one").record()
    assert record.origin == parse_source("dvc:one").pinned()
    assert record.source == f"data-{record.origin[4:12]}"
    assert fetch(record.origin, tmp_path / "again") == fetch("dvc:one", tmp_path / "one")
    assert fetch("dvc", tmp_path / "head") == fetch(str(origin / "data"), tmp_path / "pushed")
    assert run(*GIT, "status", "--porcelain", cwd=project) == "" and not (project / "data").exists()


def test_hash_is_pulled_without_git(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_content = parse_source("dvc:one").pinned()
    assert dvc.DIRECTORY_HASH.fullmatch(by_content.removeprefix("dvc:"))
    assert parse_source("dvc").pinned() == parse_source("dvc:HEAD").pinned() != by_content
    shutil.rmtree(project / ".git")
    monkeypatch.setenv("PATH", str(tmp_path))  # without the program git
    assert fetch(by_content, tmp_path / "one").clips == 8
    assert fetch("dvc", tmp_path / "head").clips == 9
    with pytest.raises(SourceError, match=r"git is not installed.*use dvc:HASH\.dir"):
        fetch("dvc:one", tmp_path / "two")


def test_pulled_files_are_used_again(project: Path, store: str, tmp_path: Path) -> None:
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


def test_dvc_cache_is_used_and_verified(project: Path, origin: Path, tmp_path: Path) -> None:
    cache = shutil.copytree(origin / ".dvc" / "cache", project / ".dvc" / "cache")
    first = fetch("dvc", tmp_path / "dataset")
    assert not (tmp_path / "downloads").exists()
    victim = next(path for path in cache.rglob("*") if path.is_file() and path.stat().st_size > 1000)
    mode, content = victim.stat().st_mode, bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(content)
    victim.chmod(mode)  # DVC trusts files that are read-only
    assert fetch("dvc", tmp_path / "again") == first
    pulled = [path for path in (tmp_path / "downloads").rglob("*") if path.is_file()]
    assert len(pulled) == 1, "only the damaged file is pulled"


def test_remote_is_set_by_environment_variable(
    project: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".dvc" / "config").write_text("")
    with pytest.raises(SourceError, match=r"no DVC remote is configured; .*AUDIOCNN_DVC_REMOTE"):
        fetch("dvc", tmp_path / "dataset")
    monkeypatch.setenv(DVC_REMOTE, store)
    assert fetch("dvc", tmp_path / "dataset").clips == 9


def test_remote_in_relative_folder_is_found(
    project: Path, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dvc("remote", "add", "-q", "disk", str(tmp_path / "disk"), cwd=origin)
    run_dvc("push", "-q", "-r", "disk", cwd=origin)
    (project / ".dvc" / "config").write_text("[core]\n    remote = disk\n['remote \"disk\"']\n    url = ../../disk\n")
    assert fetch("dvc", tmp_path / "dataset").clips == 9


@pytest.mark.parametrize("revision", ["nowhere", "--upload-pack=x", "a b", "HEAD:other", "HEAD~99"])
def test_unknown_revision_is_refused(revision: str, project: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"git cannot read data\.dvc"):
        fetch(f"dvc:{revision}", tmp_path / "dataset")


@pytest.mark.parametrize(
    ("pointer", "message"),
    [
        ("outs: [{md5: 0123456789abcdef0123456789abcdef, hash: md5, path: data}]", "does not pin a folder"),
        ("outs: [{md5: 0123456789abcdef0123456789abcdef.dir, path: data}]", "dvc cache migrate"),
        ("outs: []", "does not pin a folder"),
        ("- {", "does not pin a folder"),
    ],
)
def test_pointer_without_a_folder_is_refused(
    pointer: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc, "ROOT", tmp_path)
    (tmp_path / "data.dvc").write_text(pointer)
    with pytest.raises(SourceError, match=message):
        parse_source("dvc").pinned()


def test_damaged_or_missing_object_in_the_remote_is_named(project: Path, store: str, tmp_path: Path) -> None:
    bucket = BucketStore(store)
    listing = f"files/md5/{parse_source('dvc').pinned().removeprefix('dvc:')}"
    listing = f"{listing[:12]}/{listing[12:]}"
    entries = {entry["relpath"]: entry["md5"] for entry in json.loads(bucket.get(listing) or b"")}
    key = "files/md5/{}/{}".format(entries["audio/2-9-0.wav"][:2], entries["audio/2-9-0.wav"][2:])
    sound = {name: bucket.get(name) or b"" for name in (key, listing)}
    try:
        bucket.put(key, sound[key][:-1] + bytes([sound[key][-1] ^ 1]))
        bucket.flush()
        for message in (r"audio/2-9-0\.wav is damaged in the DVC remote", r"does not have audio/2-9-0\.wav"):
            with pytest.raises(SourceError, match=message):
                fetch("dvc", tmp_path / "work" / "dataset")
            assert [path.name for path in (tmp_path / "work").iterdir()] == ["downloads"]
            bucket.delete([key])
        bucket.delete([listing])
        with pytest.raises(SourceError, match=r"does not have the listing [0-9a-f]{32}\.dir; run `dvc push`"):
            fetch("dvc", tmp_path / "unpushed" / "dataset")
    finally:
        for name, content in sound.items():
            bucket.put(name, content)
        bucket.flush()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://no-such-bucket-here/dvc", "does not have the listing"),
        ("http://me:secret@127.0.0.1:9/dvc", "cannot be read"),
        ("nope://me:secret@host/x", "is not configured correctly"),
    ],
)
def test_unusable_remote_is_reported_without_password(
    url: str, message: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DVC_REMOTE, url)
    with pytest.raises(SourceError, match=message) as raised:
        fetch("dvc", tmp_path / "dataset")
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)
