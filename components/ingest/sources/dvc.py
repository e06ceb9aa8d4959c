"""The data that data.dvc pins, read from the DVC remote of the project. Git is needed for `dvc:REVISION` only."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from audiocnn.atomic import atomic_file
from components.ingest.settings import IngestSettings
from components.ingest.sources.base import Source, SourceError
from components.ingest.sources.layout import AUDIO, TABLE, SourceFolder, is_clip_name, is_skipped_name
from mlops.progress import report_progress

ROOT = Path(__file__).resolve().parents[3]
POINTER = "data.dvc"
DVC_REMOTE = "AUDIOCNN_DVC_REMOTE"  # environment variable: URL of the remote, instead of the one in .dvc/config
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # environment variables that DVC does not read
DIRECTORY_HASH = re.compile(r"[0-9a-f]{32}\.dir")
THREADS = 16


class DvcSource(Source):
    """`dvc`, `dvc:REVISION` or `dvc:HASH.dir`."""

    description = "dvc or dvc:REVISION (the data that data.dvc pins)"

    @classmethod
    def matches(cls, text: str) -> bool:
        """Return whether `text` is "dvc" or starts with "dvc:"."""
        return text == "dvc" or text.startswith("dvc:")

    def pinned(self) -> str:
        """Return `dvc:HASH.dir`, which names the content and can be read without Git.

        Raises:
            SourceError: the revision does not exist, or does not pin a folder.
        """
        revision = self.text.removeprefix("dvc").removeprefix(":")
        if DIRECTORY_HASH.fullmatch(revision):
            return self.text
        pointer = self._read_pointer_at(revision) if revision else self._read_pointer()
        with suppress(yaml.YAMLError, KeyError, ValueError, TypeError):
            (out,) = yaml.safe_load(pointer)["outs"]
            if out.get("hash") == "md5" and DIRECTORY_HASH.fullmatch(out["md5"]):
                return f"dvc:{out['md5']}"
        raise SourceError(
            f"source {self.text!r}: {POINTER} does not pin a folder; create it with `dvc add data`, or migrate it from "
            "DVC 2 with `dvc cache migrate --dvc-files`"
        )

    def _read_pointer(self) -> str:
        try:
            return (ROOT / POINTER).read_text(encoding="utf-8")
        except OSError as error:
            raise SourceError(f"source 'dvc': {POINTER} is missing; create it with `dvc add data`") from error

    def _read_pointer_at(self, revision: str) -> str:
        command = ["git", "-C", str(ROOT), "show", "--end-of-options", f"{revision}:./{POINTER}"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            reason = (
                (getattr(error, "stderr", None) or "git is not installed")
                .strip()
                .splitlines()[0]
                .removeprefix("fatal: ")
            )
            raise SourceError(
                f"source {self.text!r}: git cannot read {POINTER} ({reason}); check the revision, or use dvc:HASH.dir, "
                "which needs no Git"
            ) from error

    def _fetch(self, settings: IngestSettings, workspace: Path, /) -> SourceFolder:
        """Link the table and the clips to files in the cache, which are verified against the pin."""
        pinned = self.pinned()
        content_hash = pinned.removeprefix("dvc:")
        files = _Files(self.text, Path(settings.downloads).resolve() / "dvc")
        listing = json.loads(files.get(content_hash, f"the listing {content_hash}").read_bytes())
        hashes = {entry["relpath"]: entry["md5"] for entry in listing}
        prefix = f"{AUDIO.as_posix()}/"
        clips = [path.removeprefix(prefix) for path in hashes if path.startswith(prefix)]
        wanted = [TABLE.as_posix()] if TABLE.as_posix() in hashes else []
        wanted += [f"{prefix}{name}" for name in clips if is_clip_name(name)]
        folder = workspace / f"data-{content_hash[:8]}"  # a distinct name for each content
        (folder / AUDIO).mkdir(parents=True)
        (folder / TABLE).parent.mkdir()
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                for done, file in enumerate(pool.map(lambda path: files.get(hashes[path], path), wanted), 1):
                    (folder / wanted[done - 1]).symlink_to(file)
                    report_progress("ingest", "pulled", done, len(wanted), "files")
            finally:
                pool.shutdown(cancel_futures=True)
        return SourceFolder(folder, pinned, tuple(filter(is_skipped_name, clips)))


class _Files:
    """Files by MD5 hash: in the DVC cache of the project, else in `folder`, else pulled to it from the remote."""

    def __init__(self, source: str, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.dvc_cache, self.read = _open_project(ROOT, source)

    def get(self, content_hash: str, name: str) -> Path:
        """Return the file with this MD5 hash.

        Args:
            name: of the file, for messages.
        Raises:
            SourceError: the remote cannot be read, or does not have the file.
        """
        place = Path("files", "md5", content_hash[:2], content_hash[2:])  # the layout of caches and remotes in DVC 3
        for file in (self.dvc_cache / place, self.folder / place):
            if file.is_file() and _matches(file.read_bytes(), content_hash):
                return file
        try:
            content = self.read(place.as_posix())
        except FileNotFoundError as error:
            raise SourceError(
                f"source {self.source!r}: the DVC remote does not have {name}; run `dvc push` where the data is, and "
                "check the URL of the remote"
            ) from error
        except Exception as error:  # each kind of remote has its own exceptions
            reason = _redact(str(error) or type(error).__name__)
            raise SourceError(
                f"source {self.source!r}: the DVC remote cannot be read: {reason}; check its URL and credentials"
            ) from error
        if not _matches(content, content_hash):
            raise SourceError(
                f"source {self.source!r}: {name} is damaged in the DVC remote; remove {place.as_posix()} there and run "
                "`dvc push` where the data is"
            )
        file = self.folder / place
        with atomic_file(file) as part:
            part.write_bytes(content)
        return file


def _open_project(root: Path, source: str) -> tuple[Path, Callable[[str], bytes]]:
    """Return the project's DVC cache, and a function that reads a path of its DVC remote."""
    from dvc.config import Config
    from dvc.exceptions import DvcException
    from dvc.fs import get_cloud_fs

    try:
        config: dict[str, Any] = Config(str(root / ".dvc"))
        name = config["core"].get("remote", "")
        if url := os.environ.get(DVC_REMOTE):
            name = "environment"
            config["remote"][name] = {"url": url if "://" in url else str(Path(url).expanduser().resolve())}
        if name not in config["remote"]:
            raise SourceError(
                f"source {source!r}: no DVC remote is configured; run `dvc remote add --default NAME URL`, or set "
                f"{DVC_REMOTE}"
            )
        remote = config["remote"][name]
        endpoint = next((os.environ[key] for key in ENDPOINTS if os.environ.get(key)), None)
        if endpoint and str(remote["url"]).startswith("s3://"):
            remote.setdefault("endpointurl", endpoint)
        filesystem_class, options, path = get_cloud_fs(config, name=name)
        filesystem = filesystem_class(**options)
    except DvcException as error:
        reason = _redact(str(error))
        raise SourceError(f"source {source!r}: the DVC remote is not configured correctly: {reason}") from error
    cache = Path(config["cache"].get("dir", root / ".dvc" / "cache"))
    return cache, lambda name: filesystem.cat_file(filesystem.join(path, name))


def _matches(content: bytes, content_hash: str) -> bool:
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == content_hash.removesuffix(".dir")


def _redact(text: str) -> str:
    """Return one line without user names and passwords of URLs."""
    return re.sub(r"://[^/\s@]+@", "://", " ".join(text.split()))[:500]
