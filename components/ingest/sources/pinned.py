"""The data that data.dvc pins, at this revision or another, from the project's DVC remote."""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from audiocnn.settings import IngestSettings
from components.ingest.sources.kind import Kind, SourceError

ROOT = Path(__file__).resolve().parents[3]
POINTER = Path("data.dvc")
CONFIG = Path(".dvc", "config")
REMOTE = "AUDIOCNN_DVC_REMOTE"  # a remote's URL, in place of what .dvc/config says
HASH = re.compile(r"[0-9a-f]{32}\.dir")


def resolve(source: str, root: Path = ROOT) -> str:
    """`dvc` and `dvc:REVISION` as `dvc:HASH.dir`, which names the content and needs no git where it is read.

    Raises:
        SourceError: there is no such revision, or it pins no data.
    """
    revision = source.removeprefix("dvc").removeprefix(":")
    if HASH.fullmatch(revision):
        return source
    return f"dvc:{_pinned(_shown_by_git(root, revision) if revision else _lying(root))}"


def is_pinned(source: str) -> bool:
    """Whether a source is of this kind."""
    return source == "dvc" or source.startswith("dvc:")


def _lying(root: Path) -> str:
    """data.dvc as it lies here."""
    try:
        return (root / POINTER).read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"source 'dvc': there is no {POINTER} in {root.name}/; `dvc add data` writes it") from error


def _pinned(pointer: str) -> str:
    """The hash that a data.dvc holds."""
    try:
        found = str(yaml.safe_load(pointer)["outs"][0]["md5"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise SourceError(f"{POINTER} pins no data that can be read; `dvc add data` writes it") from error
    if not HASH.fullmatch(found):
        raise SourceError(f"{POINTER} pins {found!r}, a single file; a folder was expected: `dvc add data`")
    return found


def _shown_by_git(root: Path, revision: str) -> str:
    """data.dvc as a revision has it."""
    if not re.fullmatch(r"[\w][\w./@^~{}-]*", revision):
        raise SourceError(f"source 'dvc:{revision}' names no revision")
    command = ["git", "-C", str(root), "show", f"{revision}:./{POINTER}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        done = None
    if done is None or not (root / ".git").exists():
        raise SourceError(
            f"source 'dvc:{revision}': there is no Git repository here; give dvc:HASH.dir, with the hash that "
            f"{POINTER} holds at that revision"
        )
    if done.returncode:
        raise SourceError(f"source 'dvc:{revision}': git finds no {POINTER} there; is the revision right and fetched?")
    return done.stdout


def _fetch(source: str, _: IngestSettings, workspace: Path, root: Path = ROOT) -> Path:
    """Pull into a DVC project of its own, which needs no git: whatever is pinned, the checkout stays as it is."""
    pinned = resolve(source, root).removeprefix("dvc:")
    project = workspace / "dvc"
    (project / ".dvc").mkdir(parents=True)
    with (project / CONFIG).open("w", encoding="utf-8") as file:
        _configuration(root).write(file)
    pointer = {"outs": [{"md5": pinned, "hash": "md5", "path": "data"}]}
    (project / POINTER).write_text(yaml.safe_dump(pointer), encoding="utf-8")
    print(f"[ingest] pulling {pinned} with DVC", flush=True)
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true", "DVC_SITE_CACHE_DIR": str(project / "site")}
    command = [sys.executable, "-m", "dvc", "pull", "--quiet", "data.dvc"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SourceError(f"source {source!r} cannot be pulled: {_words(done.stderr)}")
    return project / "data"


def _configuration(root: Path) -> configparser.ConfigParser:
    """The checkout's remote and cache, for a project without git.

    Raises:
        SourceError: no remote is configured.
    """
    given = configparser.ConfigParser(interpolation=None)
    for name in ("config", "config.local"):
        given.read(root / ".dvc" / name, encoding="utf-8")
    settings = configparser.ConfigParser(interpolation=None)
    settings["core"] = {"no_scm": "true", "analytics": "false", "check_update": "false", "remote": "pinned"}
    name = given.get("core", "remote", fallback="")
    section = next((part for part in given.sections() if part.strip("'") == f'remote "{name}"'), None)
    remote = dict(given[section]) if section else {}
    if url := os.environ.get(REMOTE):
        remote = {"url": url}
    if "url" not in remote:
        raise SourceError(
            f"no DVC remote is configured: `dvc remote add --default NAME URL` in the project, or set {REMOTE}"
        )
    if "://" not in remote["url"] and not Path(remote["url"]).is_absolute():
        remote["url"] = str((root / ".dvc" / remote["url"]).resolve())  # DVC reads it relative to the file
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and remote["url"].startswith("s3://"):
        remote.setdefault("endpointurl", endpoint)
    # Hashes are computed again on arrival: a flipped object must not pass for the data that is pinned.
    settings["'remote \"pinned\"'"] = {**remote, "verify": "true"}
    if (cache := root / ".dvc" / "cache").is_dir():
        settings["cache"] = {"dir": str(cache)}
    return settings


def _words(stderr: str) -> str:
    """DVC's own error, one line of it, without its advice."""
    lines = [line.removeprefix("ERROR: ").strip() for line in stderr.splitlines() if line.startswith("ERROR")]
    return ("; ".join(dict.fromkeys(lines)) or stderr.strip() or "DVC does not say why")[:500]


KIND = Kind("dvc or dvc:REVISION, what data.dvc pins", is_pinned, _fetch)
