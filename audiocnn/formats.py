"""Container formats: find what libsndfile would misread without an error, such as truncated files."""

import os
import re
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO

ACCEPTED = "WAV, AIFF, FLAC, Ogg or MP3"  # for messages; the less common ones are in docs/serving.md
UNKNOWN_LENGTH = 2**40  # frames; libsndfile reports more for a stream whose header contains no length
# Recorders that write to a pipe declare about 2 or 4 GiB of audio in a size of 32 bits.
PLACEHOLDERS = (range(0x7F000000, 0x80000001), range(0xFF000000, 0x100000000))
MAX_CHUNKS = 10_000  # before the audio; a large file could contain hundreds of millions
MAX_OGG_PAGE = 27 + 255 + 255 * 255  # bytes
BLOCK = 2**20  # bytes read at a time
_STREAM_START = {
    "OGG": rb"OggS\0[\x02\x03\x06\x07]",  # a page with the flag "beginning of stream": RFC 3533, section 6
    "FLAC": rb"fLaC[\0\x80]\0\0\x22",  # followed by STREAMINFO: RFC 9639, section 8
    "MP3": rb"(?:Xing|Info)\0\0\0[\x01-\x0f]",  # the encoder header in the first frame
}
_START_BYTES = 8  # that the longest of these match
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


def count_streams(file: BinaryIO, container: str) -> int:
    """Return the number of streams in a file; libsndfile reads the first. Streams without a known start count as 0."""
    if container not in _STREAM_START:
        return 0
    pattern = re.compile(_STREAM_START[container])
    file.seek(0)
    count, end = 0, b""
    while block := file.read(BLOCK):
        text = end + block
        # A match that lies in `end` alone was counted with the block before.
        count += sum(match.end() > len(end) for match in pattern.finditer(text))
        end = text[1 - _START_BYTES :]
    return count


def find_truncation(file: BinaryIO, container: str) -> str | None:
    """Return a sentence if a file ends before the audio that its container announces.

    An MP3 stream without an encoder header, or a FLAC stream of unknown length, that ends between two frames passes as
    a shorter clip; so does every file without a length in its header.

    Args:
        container: libsndfile's name of the container, such as "WAV", or that of `audiocnn.ffmpeg`.
    """
    if container in ("WAV", "WAVEX", "MP3 in WAV", "RF64", "W64", "AIFF", "CAF", "AU"):
        start, size = find_audio(file)
        if size is not None and (missing := start + size - _size(file)) > 0:
            return f"the last {missing} bytes of the audio that the header announces are missing"
    if container in ("OGG", "FLAC in Ogg") and not _ogg_ends(file):
        return "the Ogg stream ends without its last page"
    if container == "M4A" and (missing := _end_of_boxes(file) - _size(file)) > 0:
        return f"the last {missing} bytes of what the M4A file announces are missing"
    return None


def find_truncation_of_unreadable(file: BinaryIO) -> str | None:
    """Return a sentence if libsndfile cannot open a file because its end is missing: Ogg and CAF."""
    first = _read(file, 0, MAX_OGG_PAGE)
    if first.startswith(b"caff"):
        return find_truncation(file, "CAF")
    starts = first.startswith(b"OggS") and bool(_ogg_page_flags(first, 0) & 0x02)
    return find_truncation(file, "OGG") if starts else None


def missing_audio_size(file: BinaryIO) -> tuple[int, bytes] | None:
    """Return offset and content of the size field of a WAV file whose recorder was stopped before it wrote the size.

    Such a file declares no audio, and the RIFF chunk does not cover the bytes that follow either. Otherwise None.
    """
    head = _read(file, 0, 12)
    if not head.startswith(b"RIFF") or len(head) < 12:
        return None
    start, size = find_audio(file)
    (riff_size,) = struct.unpack_from("<I", head, 4)
    if size == 0 and start < (end := _size(file)) and not start < riff_size + 8 <= end:
        return start - 4, struct.pack("<I", min(end - start, 2**32 - 1))
    return None


def has_frame_count(file: BinaryIO) -> bool:
    """Return whether the first frame of an MP3 stream has an encoder header with the number of frames."""
    start, tag = 0, _read(file, 0, 10)
    if tag.startswith(b"ID3"):  # skip the tag: id3.org, ID3v2.4.0, section 3.1
        start = 10 + sum(byte << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
    first_frame = _read(file, start, 1024)
    return bool(re.search(rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f]", first_frame))


def find_audio(file: BinaryIO) -> tuple[int, int | None]:
    """Return the offset and the declared size of the audio in an uncompressed file.

    The size is None if the header does not contain it. Without audio, offset and size are the end of the file and 0.
    """
    head = _read(file, 0, 12)
    if head.startswith((b".snd", b"dns.")) and len(head) == 12:  # Sun, .au: offset and size follow the magic number
        start, size = struct.unpack_from(">II" if head.startswith(b".snd") else "<II", head, 4)
        return start, None if size == 0xFFFFFFFF else size
    long_size = None  # of RF64, in the chunk ds64: EBU Tech 3306
    for name, start, size in _chunks(file, head[:4]):
        if name == b"ds64":
            long_size = struct.unpack("<Q", _read(file, start + 8, 8).ljust(8, b"\0"))[0]
        if name == b"data" and size == 0xFFFFFFFF and long_size:
            return start, long_size
        if name in (b"data", b"SSND"):
            return start, None if size < 0 or any(size in numbers for numbers in PLACEHOLDERS) else size
    return _size(file), 0


def _chunks(file: BinaryIO, magic: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset and size of the chunks of a file. A negative size is unknown.

    Layouts: Microsoft, RIFF/WAVE (1991); Apple, Audio Interchange File Format (1989) and Core Audio Format (2006), both
    big-endian; Sony, Wave64, whose names are GUIDs and whose sizes count the header of the chunk.
    """
    first, layout, alignment, counted = {
        b"FORM": (12, ">4sI", 2, 0),
        b"caff": (8, ">4sq", 1, 0),
        b"riff": (40, "<16sQ", 8, 24),
    }.get(magic, (12, "<4sI", 2, 0))
    position, header = first, struct.calcsize(layout)
    for _ in range(MAX_CHUNKS):
        content = _read(file, position, header)
        if len(content) < header:
            return
        name, size = struct.unpack(layout, content)
        size -= counted
        position += header
        yield b"data" if name == _W64_DATA else name, position, size
        if size < 0:
            return
        position += size + -size % alignment


def _end_of_boxes(file: BinaryIO) -> int:
    """Return where the last top-level box of an MP4 file ends: ISO/IEC 14496-12, section 4.2."""
    position = 0
    for _ in range(MAX_CHUNKS):
        if len(header := _read(file, position, 16)) < 8:
            break
        size = struct.unpack_from(">I", header)[0]
        if size == 1 and len(header) == 16:  # a size of 64 bits follows the name
            size = struct.unpack_from(">Q", header, 8)[0]
        if size < 8:  # 0: up to the end of the file
            break
        position += size
    return position


def _ogg_ends(file: BinaryIO) -> bool:
    """Return whether the last page is complete and has the end-of-stream flag."""
    end = _read(file, max(0, _size(file) - BLOCK), BLOCK)
    page = end.rfind(b"OggS")
    return page >= 0 and bool(_ogg_page_flags(end, page) & 0x04)


def _ogg_page_flags(content: bytes, page: int) -> int:
    """Return the header flags of the page at this offset (RFC 3533, section 6); 0 for an incomplete page."""
    if page + 27 > len(content):
        return 0
    flags, segments = content[page + 5], content[page + 26]
    table = content[page + 27 : page + 27 + segments]
    complete = len(table) == segments and page + 27 + segments + sum(table) <= len(content)
    return flags if complete else 0


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    if offset > sys.maxsize:  # a damaged size of 64 bits; seek() refuses it
        return b""
    file.seek(offset)
    return file.read(count)


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)
