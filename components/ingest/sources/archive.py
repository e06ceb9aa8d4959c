"""A .zip in ESC-50's layout, on this machine or at an address."""

import csv
import errno
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from components.ingest.progress import report_progress
from components.ingest.settings import IngestSettings
from components.ingest.sources.download import download, forget, shown
from components.ingest.sources.folder import SCHEME
from components.ingest.sources.folds import folds_in
from components.ingest.sources.kind import (
    AUDIO,
    TABLE,
    Fetched,
    Kind,
    SourceError,
    is_clip,
    is_left_out,
    local_path,
    normal,
    printable,
)

CHUNK = 2**20
LONGEST_TABLE = 2**26  # bytes that are looked into for folds: some 800,000 clips
SAYS_UTF_8 = 0x800  # a member's flag
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises on bytes that are no zip; ValueError also stands for names in a broken encoding.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError)
Refuse = Callable[[str], NoReturn]  # completes "source 'x.zip' ..." and raises it


class DamagedError(SourceError):
    """An archive whose bytes are not, or no longer, what they should be: another copy of it may be sound."""


def unpack(archive: Path, folder: Path, settings: IngestSettings, name: str) -> tuple[str, ...]:
    """Write the table and the clips of a zip to `folder`; whatever else it holds stays where it is.

    Clips get their normal names (NFC), as they are looked up.

    Args:
        settings: max_source_bytes is counted as the bytes come out, since headers can lie.
        name: of the archive, in messages.
    Returns:
        files in audio/ that were left out for their names.
    Raises:
        DamagedError: it is no zip, or not a whole one.
        SourceError: it is encrypted, too large, or tries to write elsewhere.
    """

    def refuse(why: str) -> NoReturn:
        raise SourceError(f"source {name!r} {why}")

    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            if len(members) > settings.max_source_files:
                refuse(f"lists {len(members)} members; ingest.max_source_files allows {settings.max_source_files}")
            for member in members:
                _check(member, refuse)
            wanted, left_out = _wanted({member: _name(member) for member in members}, refuse)
            (folder / AUDIO).mkdir(parents=True)
            (folder / TABLE).parent.mkdir()
            left = settings.max_source_bytes
            for number, (member, target) in enumerate(wanted, 1):
                with opened.open(member) as content, (folder / target).open("xb") as file:
                    while chunk := content.read(CHUNK):
                        left -= len(chunk)
                        if left < 0:
                            refuse("unpacks to more than ingest.max_source_bytes allows")
                        file.write(chunk)
                report_progress("unpacked", number, len(wanted), "files")
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a header leads zipfile to before the file
            raise
        why = str(error) or "it ends too early"
        raise DamagedError(f"source {name!r} is no sound zip archive ({why}); make or download it again") from error
    return left_out


def _name(member: zipfile.ZipInfo) -> str:
    """A Mac writes names in UTF-8 and does not say so; zipfile takes them for MS-DOS's code page then."""
    name = member.filename
    if not member.flag_bits & SAYS_UTF_8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return normal(name)


def _check(member: zipfile.ZipInfo, refuse: Refuse) -> None:
    """Refuse what no honest archive of clips holds, whether it would be unpacked or not."""
    path = member.filename
    if path.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", path) or re.match(r"[A-Za-z]:", path):
        refuse(f"holds a member that points outside, {path[:100]!r}")
    if stat.S_ISLNK(member.external_attr >> 16):
        refuse(f"holds a link, {path[:100]!r}, which could point anywhere")
    if member.flag_bits & 1:
        refuse("is encrypted; unpack it yourself and give the folder")
    if member.compress_type not in METHODS:
        refuse(f"holds {path[:100]!r}, compressed in a rare way; pack it again, with `zip -r`")


def _wanted(
    names: dict[zipfile.ZipInfo, str], refuse: Refuse
) -> tuple[list[tuple[zipfile.ZipInfo, Path]], tuple[str, ...]]:
    """The table and the files directly in audio/, with their places below the new folder; and what is left out."""
    table, audio = TABLE.as_posix(), f"{AUDIO.as_posix()}/"
    roots = {path.removesuffix(table) for path in names.values() if f"/{path}".endswith(f"/{table}")}
    if len(roots) != 1:
        refuse(f"holds {len(roots) or 'no'} {table}{_misspelt(names, table)}; exactly one makes a data set like ESC-50")
    (root,) = roots
    wanted, left_out, seen = [], [], set()
    for member, path in names.items():
        inside = path.removeprefix(root) if path.startswith(root) else ""
        clip = inside.removeprefix(audio) if inside.startswith(audio) else ""
        if is_left_out(clip):
            left_out.append(clip)
        if inside != table and not is_clip(clip):
            continue
        if (spelling := inside.casefold()) in seen:
            refuse(f"holds {inside!r} twice, or in two spellings that some systems take for one")
        seen.add(spelling)
        wanted.append((member, Path(inside)))
    if len(wanted) == 1 and (hint := _misspelt(names, audio)):
        refuse(f"holds no clip below {audio}{hint}")
    return wanted, tuple(left_out)


def _misspelt(names: dict[zipfile.ZipInfo, str], part: str) -> str:
    """A hint, where some names would hold `part` if they were spelt as others are."""
    for path in names.values():
        spelt = path.replace("\\", "/").lower()
        if part in spelt and part not in path:
            why = "pack it again with / between folders" if "\\" in path else "upper case counts: rename it"
            return f", but {path[:100]!r} ({why})"
    return ""


def _fetch_file(source: str, settings: IngestSettings, workspace: Path) -> Fetched:
    file = local_path(source)
    if not file.is_file():
        raise SourceError(f"source {source!r}: there is no such file")
    folder = workspace / _titled(file)
    return Fetched(folder, printable(file.name), unpack(file, folder, settings, source))


def _folds(source: str) -> list[int]:
    """Read from the table alone; what is wrong with the archive, unpacking it tells."""
    if not local_path(source).is_file():  # a pipe would be waited for
        return []
    with suppress(*BROKEN, OSError, SourceError, csv.Error), zipfile.ZipFile(local_path(source)) as opened:
        tables = [member for member in opened.infolist() if f"/{_name(member)}".endswith(f"/{TABLE.as_posix()}")]
        if len(tables) == 1:
            _check(tables[0], _unknown)
            with opened.open(tables[0]) as content:
                table = content.read(LONGEST_TABLE + 1)
            if len(table) <= LONGEST_TABLE:
                return folds_in(io.StringIO(table.decode("utf-8-sig"), newline=""))
    return []


def _unknown(why: str) -> NoReturn:
    raise SourceError(why)


def _fetch_url(source: str, settings: IngestSettings, workspace: Path) -> Fetched:
    downloads = Path(settings.downloads)
    file = download(source, downloads, settings.max_source_bytes)
    folder = workspace / _titled(Path(unquote(urlsplit(source).path)))
    try:
        return Fetched(folder, shown(source), unpack(file, folder, settings, shown(source)))
    except DamagedError:
        forget(source, downloads)  # or every further run would fail on the same bytes
        raise


def _titled(path: Path) -> str:
    """The data set's name: the archive's, unless that would be another folder's (`...zip` leaves `..`)."""
    return path.stem if is_clip(path.stem) else "archive"


FILE = Kind(
    "a .zip file of such a folder",
    lambda source: source.lower().endswith(".zip") and not SCHEME.match(source) and not Path(source).is_dir(),
    _fetch_file,
    _folds,
)
URL = Kind(
    "the https:// address of such a .zip", lambda source: source.lower().startswith(("https://", "http://")), _fetch_url
)
