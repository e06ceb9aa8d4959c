"""The data that data.dvc pins, at this revision or another, from the project's DVC remote."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.ingest.settings import IngestSettings
from components.ingest.sources.kind import Fetched, Kind, SourceError, md5, named

ROOT = Path(__file__).resolve().parents[3]
POINTER = Path("data.dvc")
REMOTE = "AUDIOCNN_DVC_REMOTE"  # a remote's URL, in place of what .dvc/config says
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # DVC does not look at them by itself
HASH = re.compile(r"[0-9a-f]{32}\.dir")
REVISION = re.compile(r"[^-:\s][^:\s]*")  # never an option of git's, never another file than data.dvc


def is_pinned(source: str) -> bool:
    """Whether a source is of this kind."""
    return source == "dvc" or source.startswith("dvc:")


def resolve(source: str, root: Path | None = None) -> str:
    """`dvc` and `dvc:REVISION` as `dvc:HASH.dir`, which names the content and needs no git where it is read.

    Args:
        root: the project; None takes the one that this file is in.
    Raises:
        SourceError: there is no such revision, or it pins no data.
    """
    root, revision = root or ROOT, source.removeprefix("dvc").removeprefix(":")
    if HASH.fullmatch(revision):
        return source
    return f"dvc:{_pinned(source, _shown_by_git(root, revision) if revision else _lying(root))}"


def _lying(root: Path) -> str:
    """data.dvc as it lies here."""
    try:
        return (root / POINTER).read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"source 'dvc': there is no {POINTER} in {root.name}/; `dvc add data` writes it") from error


def _shown_by_git(root: Path, revision: str) -> str:
    """data.dvc as a revision has it."""
    source = f"source 'dvc:{revision}'"
    if not REVISION.fullmatch(revision):
        raise SourceError(f"{source} names no revision")
    if not (root / ".git").exists():
        raise SourceError(
            f"{source}: there is no Git repository here; give dvc:HASH.dir, with the hash that {POINTER} holds there"
        )
    try:
        command = ["git", "-C", str(root), "show", f"{revision}:./{POINTER}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"{source}: git does not run here ({type(error).__name__})") from error
    if done.returncode:
        said = done.stderr.strip().partition("\n")[0].removeprefix("fatal: ")
        raise SourceError(f"{source}: git finds no {POINTER} there ({said}); is the revision right and fetched?")
    return done.stdout


def _pinned(source: str, pointer: str) -> str:
    """The hash that a data.dvc holds."""
    try:
        (out,) = yaml.safe_load(pointer)["outs"]
        found = str(out["md5"])
    except (yaml.YAMLError, KeyError, ValueError, TypeError) as error:
        raise SourceError(f"source {source!r}: {POINTER} pins no data there; `dvc add data` writes it") from error
    if not HASH.fullmatch(found):
        raise SourceError(f"source {source!r}: {POINTER} pins a single file there; a folder was expected")
    if out.get("hash") != "md5":
        raise SourceError(
            f"source {source!r} was pinned by DVC 2; `dvc cache migrate --dvc-files` brings it up to date"
        )
    return found


def _fetch(source: str, settings: IngestSettings, workspace: Path) -> Fetched:
    """Pull into a DVC project of its own, which needs no git: whatever is pinned, the checkout stays as it is."""
    pinned = resolve(source).removeprefix("dvc:")
    project, name = workspace / "dvc", f"data-{pinned[:8]}"  # each content under a name of its own
    (project / ".dvc").mkdir(parents=True)
    cache = _configure(project, ROOT, Path(settings.downloads).resolve() / "dvc")
    pointer = {"outs": [{"md5": pinned, "hash": "md5", "path": name}]}
    (project / POINTER).write_text(yaml.safe_dump(pointer), encoding="utf-8")
    print(f"[ingest] pulling {pinned} with DVC", flush=True)
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true", "DVC_SITE_CACHE_DIR": str(project / "site")}
    command = [sys.executable, "-m", "dvc", "pull", str(POINTER)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SourceError(f"source {source!r} cannot be pulled: {_reason(done.stderr, cache, pinned)}")
    # DVC relies on what its cache has held before; here nothing else counts than the bytes.
    listing = _listing(cache, pinned) or {}
    if not listing or (wrong := [path for path, hash_ in listing.items() if md5(project / name / path) != hash_]):
        what = named(wrong) if listing else f"the listing {pinned}"
        raise SourceError(f"source {source!r}: the DVC cache {cache} holds other bytes than {what}; remove it")
    return Fetched(project / name, f"dvc:{pinned}")


def _configure(project: Path, root: Path, spare: Path) -> Path:
    """Write the DVC settings of `project`: the remotes of `root`, no git. The cache that they name.

    That is the checkout's own where there is one, so that nothing is fetched twice, or `spare`.

    Raises:
        SourceError: no remote is configured, or one that DVC does not know.
    """
    from dvc.config import Config, ConfigError

    try:
        given: dict[str, Any] = Config(str(root / ".dvc"), validate=False).load_config_to_level()
        core, remotes = _remotes(given)
        own = Path(given.get("cache", {}).get("dir", root / ".dvc" / "cache"))
        cache = own if own.is_dir() else spare
        with Config(str(project / ".dvc"), validate=False).edit("repo") as settings:
            settings["core"] = core
            settings["remote"] = remotes
            settings["cache"] = {"dir": str(cache), "type": "reflink,hardlink,copy"}
    except ConfigError as error:
        raise SourceError(f"the DVC remote's settings cannot be used: {_without_secrets(str(error))}") from error
    return cache


def _remotes(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """DVC's sections `core` and `remote`."""
    name = given.get("core", {}).get("remote", "")
    remotes = {key: dict(remote) for key, remote in given.get("remote", {}).items()}
    if url := os.environ.get(REMOTE):
        name, remotes = "pinned", {"pinned": {"url": url if "://" in url else str(Path(url).expanduser().resolve())}}
    if name not in remotes:
        raise SourceError(
            f"no DVC remote is configured: `dvc remote add --default NAME URL` in the project, or set {REMOTE}"
        )
    endpoint = next((os.environ[key] for key in ENDPOINTS if os.environ.get(key)), None)
    for remote in remotes.values():
        # Hashes are computed again on arrival: a flipped object must not pass for the data that is pinned.
        remote["verify"] = True
        if endpoint and str(remote.get("url")).startswith("s3://"):
            remote.setdefault("endpointurl", endpoint)
    return {"no_scm": True, "analytics": False, "check_update": False, "remote": name}, remotes


def _listing(cache: Path, pinned: str) -> dict[str, str] | None:
    """Path -> MD5 of what a pinned folder holds; None where the cache has no sound listing of it."""
    place = _place(cache, pinned)
    if not place.is_file() or md5(place) != pinned.removesuffix(".dir"):
        return None
    return {entry["relpath"]: entry["md5"] for entry in json.loads(place.read_bytes())}


def _place(cache: Path, hash_: str) -> Path:
    return cache / "files" / "md5" / hash_[:2] / hash_[2:]


def _reason(stderr: str, cache: Path, pinned: str) -> str:
    """Why DVC has failed: its own words speak of hashes and of its cache, so look at what has arrived."""
    said = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    reached = not any("failed to connect" in line or "unexpected error" in line for line in said)
    listing = _listing(cache, pinned)
    if reached and listing is None:
        return f"the remote holds no sound {pinned}; was it pushed (`dvc push`), and is the URL right?"
    missing = [path for path, hash_ in (listing or {}).items() if not _place(cache, hash_).is_file()]
    if reached and missing:
        return f"the remote lacks {named(missing)}, or holds other bytes; `dvc push` where the data is sound"
    return _without_secrets("; ".join(dict.fromkeys(said)) or "DVC does not say why")


def _without_secrets(text: str) -> str:
    """One line, and no user and password of an address."""
    return re.sub(r"://[^/\s@]+@", "://", " ".join(text.split()))[:500]


KIND = Kind("dvc or dvc:REVISION, what data.dvc pins", is_pinned, _fetch)
