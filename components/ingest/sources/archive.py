"""A .zip in ESC-50's layout, on this machine or at an address."""

import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from audiocnn.settings import IngestSettings
from components.ingest.sources.download import download, shown
from components.ingest.sources.folder import SCHEME
from components.ingest.sources.kind import AUDIO, TABLE, Kind, SourceError, is_clip

MOST_MEMBERS = 1_000_000
CHUNK = 2**20
Refuse = Callable[[str], NoReturn]  # completes "source 'x.zip' ..." and raises it


def unpack(archive: Path, folder: Path, limit: int, name: str) -> Path:
    """Write the table and the clips of a zip to `folder`; whatever else it holds stays where it is.

    Args:
        limit: bytes that may come out, counted as they come: headers can lie.
        name: of the archive, in messages.
    Raises:
        SourceError: it is no zip, is damaged, encrypted, too large, or tries to write elsewhere.
    """

    def refuse(why: str) -> NoReturn:
        raise SourceError(f"source {name!r} {why}")

    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check(members, refuse)
            (folder / AUDIO).mkdir(parents=True)
            (folder / TABLE).parent.mkdir()
            for member, target in _wanted(members, refuse):
                with opened.open(member) as content, (folder / target).open("xb") as file:
                    while chunk := content.read(CHUNK):
                        limit -= len(chunk)
                        if limit < 0:
                            refuse("unpacks to more than ingest.max_source_bytes allows")
                        file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        refuse(f"is no sound zip archive ({error}); make or download it again")
    return folder


def _check(members: list[zipfile.ZipInfo], refuse: Refuse) -> None:
    """Refuse what no honest archive of clips holds, whether it would be unpacked or not."""
    if len(members) > MOST_MEMBERS:
        refuse(f"lists {len(members)} members; {MOST_MEMBERS} are the most that are taken")
    for member in members:
        path = member.filename
        if path.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", path) or re.match(r"[A-Za-z]:", path):
            refuse(f"holds a member that points outside, {path[:100]!r}")
        if stat.S_ISLNK(member.external_attr >> 16):
            refuse(f"holds a link, {path[:100]!r}, which could point anywhere")
        if member.flag_bits & 1:
            refuse("is encrypted; unpack it yourself and give the folder")


def _wanted(members: list[zipfile.ZipInfo], refuse: Refuse) -> Iterator[tuple[zipfile.ZipInfo, Path]]:
    """The table and the files directly in audio/, with their places below the new folder."""
    table = TABLE.as_posix()
    roots = {path[: -len(table)] for path in (member.filename for member in members) if _ends(path, table)}
    if len(roots) != 1:
        refuse(f"holds {len(roots) or 'no'} {table}; exactly one makes a data set like ESC-50")
    root, audio = roots.pop(), f"{AUDIO.as_posix()}/"
    seen: set[str] = set()
    for member in members:
        inside = member.filename.removeprefix(root) if member.filename.startswith(root) else ""
        if inside != table and not (inside.startswith(audio) and is_clip(inside.removeprefix(audio))):
            continue
        if inside.casefold() in seen:
            refuse(f"holds {inside!r} twice, or in two spellings that some systems take for one")
        seen.add(inside.casefold())
        yield member, Path(inside)


def _ends(path: str, table: str) -> bool:
    return path == table or path.endswith(f"/{table}")


def _fetch_file(source: str, settings: IngestSettings, workspace: Path) -> Path:
    file = Path(source).expanduser()
    if not file.is_file():
        raise SourceError(f"source {source!r}: there is no such file")
    return unpack(file, workspace / file.stem, settings.max_source_bytes, source)


def _fetch_url(source: str, settings: IngestSettings, workspace: Path) -> Path:
    limit = settings.max_source_bytes
    file = download(source, Path(settings.downloads), limit)
    name = Path(unquote(urlsplit(source).path)).stem
    return unpack(file, workspace / (name if is_clip(name) else "download"), limit, shown(source))


FILE = Kind(
    "a .zip file of such a folder",
    lambda source: source.lower().endswith(".zip") and not SCHEME.match(source) and not Path(source).is_dir(),
    _fetch_file,
)
URL = Kind(
    "https:// address of such a .zip", lambda source: source.lower().startswith(("https://", "http://")), _fetch_url
)
