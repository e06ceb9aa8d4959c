"""The data that data.dvc pins, read from the DVC remote of the project. Git is needed for `dvc:REVISION` only."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from audiocnn.atomic import atomic_file
from components.ingest.settings import IngestSettings
from components.ingest.sources.base import Source, SourceError, fetch_files
from components.ingest.sources.layout import SourceFolder, make_folders, select_files

ROOT = Path(__file__).resolve().parents[3]
POINTER = "data.dvc"
DVC_REMOTE = "AUDIOCNN_DVC_REMOTE"  # environment variable: URL of the remote, instead of the one in .dvc/config
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # environment variables that DVC does not read
DIRECTORY_HASH = re.compile(r"[0-9a-f]{32}\.dir")


class DvcSource(Source):
    """`dvc`, `dvc:REVISION` or `dvc:HASH.dir`."""

    def pinned(self) -> str:
        """Return `dvc:HASH.dir`, which names the content and can be read without Git.

        Raises:
            SourceError: the revision does not exist, or does not pin a folder.
        """
        revision = self.text.removeprefix("dvc").removeprefix(":")
        if DIRECTORY_HASH.fullmatch(revision):
            return self.text
        pointer = self._read_pointer_at(revision) if revision else (ROOT / POINTER).read_text(encoding="utf-8")
        with suppress(yaml.YAMLError, KeyError, ValueError, TypeError):
            (out,) = yaml.safe_load(pointer)["outs"]
            if out.get("hash") == "md5" and DIRECTORY_HASH.fullmatch(out["md5"]):
                return f"dvc:{out['md5']}"
        remedy = "create it with `dvc add data`, or migrate it from DVC 2 with `dvc cache migrate --dvc-files`"
        raise self._error(f"{POINTER} does not pin a folder; {remedy}")

    def _read_pointer_at(self, revision: str) -> str:
        command = ["git", "-C", str(ROOT), "show", "--end-of-options", f"{revision}:./{POINTER}"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            reason = (getattr(error, "stderr", None) or "git is not installed").splitlines()[0].removeprefix("fatal: ")
            remedy = "check the revision, or use dvc:HASH.dir, which needs no Git"
            raise self._error(f"git cannot read {POINTER} ({reason}); {remedy}") from error

    def _fetch(self, settings: IngestSettings, workspace: Path, /) -> SourceFolder:
        """Link the table and the clips to files in the cache, which are verified against the pin."""
        pinned = self.pinned()
        content_hash = pinned.removeprefix("dvc:")
        cache, read = self._open_project()
        downloads = Path(settings.downloads).resolve() / "dvc"

        def find(file_hash: str, name: str) -> Path:
            """Return a verified file: in the project's DVC cache, else in `downloads`, else pulled to it."""
            place = Path("files", "md5", file_hash[:2], file_hash[2:])  # the layout of caches and remotes in DVC 3
            for file in (cache / place, downloads / place):
                if file.is_file() and _matches(file.read_bytes(), file_hash):
                    return file
            content = self._pull(read, place.as_posix(), name)
            if not _matches(content, file_hash):
                remedy = f"remove {place.as_posix()} there and run `dvc push` where the data is"
                raise self._error(f"{name} is damaged in the DVC remote; {remedy}")
            with atomic_file(downloads / place) as part:
                part.write_bytes(content)
            return downloads / place

        listing = json.loads(find(content_hash, f"the listing {content_hash}").read_bytes())
        hashes = {entry["relpath"]: entry["md5"] for entry in listing}
        paths, skipped = select_files(hashes)
        folder = make_folders(workspace / f"data-{content_hash[:8]}")  # a distinct name for each content
        fetch_files(lambda path: (folder / path).symlink_to(find(hashes[path], path)), paths, "pulled")
        return SourceFolder(folder, pinned, skipped)

    def _pull(self, read: Callable[[str], bytes], place: str, name: str) -> bytes:
        try:
            return read(place)
        except FileNotFoundError as error:
            remedy = "run `dvc push` where the data is, and check the URL of the remote"
            raise self._error(f"the DVC remote does not have {name}; {remedy}") from error
        except Exception as error:  # each kind of remote has its own exceptions
            reason = _redact(str(error) or type(error).__name__)
            raise self._error(f"the DVC remote cannot be read: {reason}; check its URL and credentials") from error

    def _open_project(self) -> tuple[Path, Callable[[str], bytes]]:
        """Return the project's DVC cache, and a function that reads a path of its DVC remote."""
        from dvc.config import Config
        from dvc.exceptions import DvcException
        from dvc.fs import get_cloud_fs

        try:
            config: dict[str, Any] = Config(str(ROOT / ".dvc"))
            name = config["core"].get("remote", "")
            if url := os.environ.get(DVC_REMOTE):
                name = "environment"
                config["remote"][name] = {"url": url if "://" in url else str(Path(url).expanduser().resolve())}
            if name not in config["remote"]:
                remedy = f"run `dvc remote add --default NAME URL`, or set {DVC_REMOTE}"
                raise self._error(f"no DVC remote is configured; {remedy}")
            remote = config["remote"][name]
            endpoint = next((os.environ[key] for key in ENDPOINTS if os.environ.get(key)), None)
            if endpoint and str(remote["url"]).startswith("s3://"):
                remote.setdefault("endpointurl", endpoint)
            filesystem_class, options, path = get_cloud_fs(config, name=name)
            filesystem = filesystem_class(**options)
        except DvcException as error:
            raise self._error(f"the DVC remote is not configured correctly: {_redact(str(error))}") from error
        cache = Path(config["cache"].get("dir", ROOT / ".dvc" / "cache"))
        return cache, lambda name: filesystem.cat_file(filesystem.join(path, name))

    def _error(self, message: str) -> SourceError:
        return SourceError(f"source {self.text!r}: {message}")


def _matches(content: bytes, content_hash: str) -> bool:
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == content_hash.removesuffix(".dir")


def _redact(text: str) -> str:
    """Return one line without user names and passwords of URLs."""
    return re.sub(r"://[^/\s@]+@", "://", " ".join(text.split()))[:500]
