"""Container formats: find what libsndfile would misread without an error, such as truncated files."""

import re
import struct

UNKNOWN_LENGTH = 2**40  # frames; libsndfile reports more for a stream whose header contains no length
PLACEHOLDER = 0x7F000000  # recorders that write to a pipe declare about 2 or 4 GiB of audio
_STREAM_START = {
    "OGG": rb"OggS\0[\x02\x03\x06\x07]",  # a page with the flag "beginning of stream": RFC 3533, section 6
    "FLAC": rb"fLaC[\0\x80]\0\0\x22",  # followed by STREAMINFO: RFC 9639, section 8
    "MP3": rb"(?:Xing|Info)\0\0\0[\x01-\x0f]",  # the encoder header in the first frame
}


def count_streams(content: bytes, container: str) -> int:
    """Return the number of streams in a file; libsndfile reads the first. Streams without a known start count as 0."""
    return len(re.findall(_STREAM_START[container], content)) if container in _STREAM_START else 0


def find_truncation(content: bytes, container: str, frames: int, announced: int) -> str | None:
    """Return a sentence if a file ends before the audio that its container announces.

    A FLAC stream of unknown length, or an MP3 stream without an encoder header, that ends between two frames passes as
    a shorter clip.

    Args:
        container: libsndfile's name of the container, such as "WAV".
        frames, announced: number of frames decoded, and of those that libsndfile reads from the header.
    """
    if frames < announced < UNKNOWN_LENGTH:
        return f"the header announces {announced} samples, the file contains {frames}"
    if container in ("WAV", "WAVEX", "AIFF"):
        start, size = _audio_chunk(content)
        if size < PLACEHOLDER and (missing := start + size - len(content)) > 0:
            return f"the last {missing} bytes of the audio that the header announces are missing"
    if container == "OGG" and not _ogg_ends(content):
        return "the Ogg stream ends without its last page"
    return None


def is_truncated_ogg(content: bytes) -> bool:
    """Return whether the content starts as a valid Ogg stream and lacks its last page. libsndfile cannot open these."""
    starts = content.startswith(b"OggS") and bool(_ogg_page_flags(content, 0) & 0x02)
    return starts and not _ogg_ends(content)


def with_audio_size(content: bytes) -> bytes:
    """Return a WAV file whose recorder was stopped before it wrote the size of the audio, with that size.

    Such a file declares no audio, and the RIFF chunk does not cover the bytes that follow either.
    """
    if not content.startswith(b"RIFF") or len(content) < 12:
        return content
    start, size = _audio_chunk(content)
    (riff_size,) = struct.unpack_from("<I", content, 4)
    if size == 0 and start < len(content) and not start < riff_size + 8 <= len(content):
        return content[: start - 4] + struct.pack("<I", len(content) - start) + content[start:]
    return content


def has_frame_count(content: bytes) -> bool:
    """Return whether the first frame of an MP3 stream has an encoder header with the number of frames."""
    start = 0
    if content.startswith(b"ID3"):  # skip the tag: id3.org, ID3v2.4.0, section 3.1
        size = content[6:10]
        start = 10 + sum(byte << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))
    return bool(re.search(rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f]", content[start : start + 1024]))


def _audio_chunk(content: bytes) -> tuple[int, int]:
    """Return the offset and the declared size of the audio in a WAV or AIFF file; the end of the file if there is none.

    Layouts: Microsoft, RIFF/WAVE (1991); Apple, Audio Interchange File Format (1989), which is big-endian.
    """
    layout, audio = (">4sI", b"SSND") if content.startswith(b"FORM") else ("<4sI", b"data")
    position = 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from(layout, content, position)
        position += 8
        if name == audio:
            return position, size
        position += size + size % 2
    return len(content), 0


def _ogg_ends(content: bytes) -> bool:
    """Return whether the last page is complete and has the end-of-stream flag."""
    page = content.rfind(b"OggS")
    return page >= 0 and bool(_ogg_page_flags(content, page) & 0x04)


def _ogg_page_flags(content: bytes, page: int) -> int:
    """Return the header flags of the page at this offset (RFC 3533, section 6); 0 for an incomplete page."""
    if page + 27 > len(content):
        return 0
    flags, segments = content[page + 5], content[page + 26]
    table = content[page + 27 : page + 27 + segments]
    complete = len(table) == segments and page + 27 + segments + sum(table) <= len(content)
    return flags if complete else 0
