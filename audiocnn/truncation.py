"""Detect truncated audio files, which libsndfile decodes without an error."""

import struct

UNKNOWN_LENGTH = 2**62  # libsndfile reports about 2**63 frames for a FLAC stream whose encoder wrote to a pipe


def find_truncation(content: bytes, container: str, frames: int, announced: int) -> str | None:
    """Compare decoded audio with the length that its container announces.

    Two kinds of file announce no length, and a truncated one passes as a shorter clip: MP3 streams without an encoder
    header, and FLAC streams of unknown length that end between two frames.

    Args:
        content: the whole file.
        container: libsndfile's name of the container, such as "WAV".
        frames: number of frames decoded.
        announced: number of frames that libsndfile reads from the header.
    Returns:
        a sentence that describes the truncation, or None.
    """
    if frames < announced < UNKNOWN_LENGTH and not (container == "MP3" and not _mp3_has_frame_count(content)):
        return f"the header announces {announced} samples, the file contains {frames}"
    if container in ("WAV", "WAVEX", "AIFF") and (missing := _missing_chunk_bytes(content)) > 0:
        return f"the last {missing} bytes of the audio that the header announces are missing"
    if container == "OGG" and not _ogg_ends(content):
        return "the Ogg stream ends without its last page"
    return None


def is_truncated_ogg(content: bytes) -> bool:
    """Return whether the content starts as a valid Ogg stream and lacks its last page. libsndfile cannot open these."""
    starts = content.startswith(b"OggS") and bool(_ogg_page_flags(content, 0) & 0x02)
    return starts and not _ogg_ends(content)


def _missing_chunk_bytes(content: bytes) -> int:
    """Return how many bytes the audio chunk extends beyond the end of the file.

    Layouts: Microsoft, RIFF/WAVE (1991); Apple, Audio Interchange File Format (1989), which is big-endian.
    """
    layout, audio = (">4sI", b"SSND") if content.startswith(b"FORM") else ("<4sI", b"data")
    position = 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from(layout, content, position)
        if name == audio:
            # Recorders that write to a pipe do not know the length and set all bits or none.
            return 0 if size in (0, 0xFFFFFFFF) else max(0, position + 8 + size - len(content))
        position += 8 + size + size % 2
    return 0


def _mp3_has_frame_count(content: bytes) -> bool:
    """Return whether the first frame has an encoder header ("Xing" or "Info"); otherwise libsndfile estimates."""
    start = 0
    if content.startswith(b"ID3"):  # skip the tag: id3.org, ID3v2.4.0, section 3.1
        size = content[6:10]
        start = 10 + sum(byte << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))
    first = content[start : start + 1024]
    return b"Xing" in first or b"Info" in first


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
