"""The data that data.dvc pins, from a DVC remote in a bucket, with git and without."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingest_support import IngestFolder, settings
from support import ROOT
from support_s3 import new_bucket

from components.ingest.sources import pinned
from components.ingest.sources.kind import SourceError
from components.ingest.step import ingest
from components.storage import Bucket

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
    monkeypatch.setattr(pinned._fetch, "__defaults__", (tmp_path / "clone",))
    return tmp_path / "clone"


def clips(source: str, output: Path) -> int:
    return ingest(source, settings(ROOT), output).clips


def test_head_and_another_revision_are_pulled_and_the_checkout_stays_as_it_is(
    project: Path, origin: Path, tmp_path: Path
) -> None:
    assert clips("dvc:one", tmp_path / "one") == 8
    pulled = ingest("dvc", settings(ROOT), tmp_path / "head")
    assert pulled.clips == 9 and pulled == ingest(str(origin / "data"), settings(ROOT), tmp_path / "pushed")
    assert run(*GIT, "status", "--porcelain", cwd=project) == "" and not (project / "data").exists()


def test_without_git_a_pin_by_content_is_enough(project: Path, tmp_path: Path) -> None:
    by_content = pinned.resolve("dvc:one", project)
    assert pinned.HASH.fullmatch(by_content.removeprefix("dvc:"))
    shutil.rmtree(project / ".git")
    assert clips(by_content, tmp_path / "one") == 8
    assert clips("dvc", tmp_path / "head") == 9
    with pytest.raises(SourceError, match=r"no Git repository here; give dvc:HASH\.dir"):
        clips("dvc:one", tmp_path / "two")


def test_the_remote_can_be_named_by_the_environment(
    project: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".dvc" / "config").write_text("")
    with pytest.raises(SourceError, match=r"no DVC remote is configured: .*AUDIOCNN_DVC_REMOTE"):
        clips("dvc", tmp_path / "dataset")
    monkeypatch.setenv(pinned.REMOTE, store)
    assert clips("dvc", tmp_path / "dataset") == 9


@pytest.mark.parametrize("revision", ["nowhere", "--upload-pack=x", "a b", "HEAD:other"])
def test_a_revision_that_is_none_is_said(revision: str, project: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"git finds no data\.dvc there|names no revision"):
        clips(f"dvc:{revision}", tmp_path / "dataset")


def test_an_object_that_is_gone_or_altered_in_the_remote_is_noticed(project: Path, store: str, tmp_path: Path) -> None:
    bucket = Bucket.of(store)
    victim = next(found for found in bucket.list("files/md5") if found.size > 1000 and ".dir" not in found.key)
    content = bucket.get(victim.key)
    assert content is not None
    bucket.put(victim.key, content[:-1] + bytes([content[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises(SourceError, match="cannot be pulled"):
            clips("dvc", tmp_path / "work" / "dataset")
        assert not list((tmp_path / "work").iterdir())
        bucket.delete([victim.key])
