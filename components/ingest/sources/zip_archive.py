"""A .zip file with a data set in the layout of ESC-50, local or at a URL."""

import csv
import errno
import io
import lzma
import zipfile
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from components.ingest.settings import IngestSettings
from components.ingest.sources.base import LocalSource, Source, SourceError
from components.ingest.sources.download import download, redact
from components.ingest.sources.layout import (
    AUDIO,
    TABLE,
    SourceFolder,
    folds_in_table,
    is_clip_name,
    make_folders,
    nfc,
    printable,
    select_files,
)
from mlops.progress import report_progress

CHUNK_BYTES = 2**20
UTF_8_FLAG = 0x800  # of a member whose name is UTF-8
# Raised by zipfile for invalid archives. RuntimeError: encrypted, or an unknown compression method.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, OverflowError)


class DamagedArchiveError(SourceError):
    """An archive that cannot be read; downloading it again may help."""


class ZipFileSource(LocalSource):
    """`path/to/clips.zip`."""

    def require_exists(self) -> None:
        self._require(Path.is_file)

    def folds(self) -> list[int]:
        with suppress(*ZIP_ERRORS, OSError, SourceError, csv.Error):
            self.require_exists()  # opening a pipe would block
            with zipfile.ZipFile(self.path) as archive:
                table = _members(archive, self.text)[TABLE.as_posix()]
                with archive.open(table) as content:
                    return folds_in_table(io.TextIOWrapper(content, encoding="utf-8-sig", newline=""))
        return []

    def _fetch(self, settings: IngestSettings, workspace: Path, /) -> SourceFolder:
        self.require_exists()
        folder = workspace / _data_set_name(self.path)
        return SourceFolder(folder, printable(self.path.name), unpack(self.path, folder, settings, self.text))


class ZipUrlSource(Source):
    """`https://host/clips.zip`, downloaded for each run."""

    def _fetch(self, settings: IngestSettings, workspace: Path, /) -> SourceFolder:
        archive = workspace / ".download"  # _data_set_name never starts with a dot
        download(self.text, archive, settings.max_source_bytes)
        folder = workspace / _data_set_name(Path(unquote(urlsplit(self.text).path)))
        url = redact(self.text)
        return SourceFolder(folder, url, unpack(archive, folder, settings, url))


def unpack(archive: Path, folder: Path, settings: IngestSettings, source: str) -> tuple[str, ...]:
    """Extract the clip table and the clips of an archive to `folder`, with NFC names. Other members are ignored.

    Nothing else can be written: the table has one name, and the name of a clip is a plain file name.

    Args:
        settings: the limits. max_source_bytes applies to the extracted bytes; headers are not trusted.
        source: the name of the archive in error messages.
    Returns:
        names of files in audio/ that were left out because they are not valid on every system.
    Raises:
        DamagedArchiveError: the file is not a complete .zip archive, or is encrypted.
        SourceError: the archive is ambiguous or too large.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            if (count := len(opened.infolist())) > settings.max_source_files:
                raise SourceError(
                    f"source {source!r} has {count} members; the limit is {settings.max_source_files} "
                    "(ingest.max_source_files)"
                )
            members = _members(opened, source)
            paths, skipped = select_files(members)
            if len(paths) == 1:
                raise SourceError(
                    f"source {source!r} has no clips in {AUDIO}/ (in lower case and with / between folders)"
                )
            make_folders(folder)
            bytes_left = settings.max_source_bytes
            for done, path in enumerate(paths, 1):
                with opened.open(members[path]) as content, (folder / path).open("xb") as file:
                    while chunk := content.read(CHUNK_BYTES):
                        bytes_left -= len(chunk)
                        if bytes_left < 0:
                            raise SourceError(
                                f"source {source!r} unpacks to more than {settings.max_source_bytes} bytes "
                                "(ingest.max_source_bytes)"
                            )
                        file.write(chunk)
                report_progress("ingest", "unpacked", done, len(paths), "files")
    except (*ZIP_ERRORS, OSError) as error:
        # EINVAL: a header has a negative offset; None: invalid bzip2 data
        if isinstance(error, OSError) and error.errno not in (errno.EINVAL, None):
            raise
        reason = str(error) or "unexpected end of file"
        raise DamagedArchiveError(
            f"source {source!r} cannot be unpacked ({reason}); create or download it again"
        ) from error
    return skipped


def _members(archive: zipfile.ZipFile, source: str) -> dict[str, zipfile.ZipInfo]:
    """Return the members of the data set by their path in it. It is at the top of the archive or below a folder."""
    named = [(_member_name(member), member) for member in archive.infolist()]
    table = TABLE.as_posix()
    roots = {path.removesuffix(table) for path, _ in named if f"/{path}".endswith(f"/{table}")}
    if len(roots) != 1:
        raise SourceError(
            f"source {source!r} has {len(roots) or 'no'} {table}; exactly one is required, in lower case and with / "
            "between folders"
        )
    (root,) = roots
    inside = [(path.removeprefix(root), member) for path, member in named if path.startswith(root)]
    counts = Counter(path.casefold() for path, _ in inside)  # some file systems ignore case
    if twice := [path for path, _ in inside if counts[path.casefold()] > 1]:
        raise SourceError(f"source {source!r} has {twice[0]!r} twice, possibly with different upper and lower case")
    return dict(inside)


def _member_name(member: zipfile.ZipInfo) -> str:
    """Return the NFC name. macOS writes UTF-8 without the flag for it, and zipfile decodes it as cp437."""
    name = member.filename
    if not member.flag_bits & UTF_8_FLAG:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return nfc(name)


def _data_set_name(archive: Path) -> str:
    """Return the archive's name without .zip, if it is a valid folder name (`...zip` gives `..`)."""
    return archive.stem if is_clip_name(archive.stem) else "archive"
