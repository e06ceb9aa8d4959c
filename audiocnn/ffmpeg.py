"""Decode what libsndfile does not read with the program ffmpeg: M4A and AAC, WebM, FLAC in Ogg, MP3 in WAV.

The program gets the file as its standard input and nothing else: no other file, no network, no variable of the
environment, and limited time and memory. The container is named, not detected by ffmpeg, because some of its formats
refer to other files.
"""

import resource
import shutil
import struct
import subprocess
import tempfile
from contextlib import suppress
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from audiocnn import formats
from audiocnn.errors import Truncated, Undecodable

PROGRAM = "ffmpeg"
CONTAINERS = ("M4A", "AAC", "WebM")  # named in the list of supported formats
CODECS = "aac,alac,flac,mp3,mp3float,opus,libopus,vorbis"  # ffmpeg's names of the decoders that it may use
LIMITS = {
    resource.RLIMIT_CPU: 600,  # s: a day of AAC takes about half of it
    resource.RLIMIT_AS: 2**30,  # bytes of memory
    resource.RLIMIT_FSIZE: 2**16,  # bytes of messages; it writes no other file
    resource.RLIMIT_CORE: 0,
}


def find_container(file: BinaryIO) -> tuple[str, str] | None:
    """Return the name of a container that ffmpeg reads, and ffmpeg's own name of it; None for any other content."""
    file.seek(0)
    head = file.read(64)
    if head[4:8] == b"ftyp":
        return "M4A", "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "WebM", "matroska"
    if head[:2] in (b"\xff\xf1", b"\xff\xf9"):
        return "AAC", "aac"
    if head.startswith(b"OggS") and b"\x7fFLAC" in head:
        return "FLAC in Ogg", "ogg"
    if head.startswith(b"RIFF") and head[12:16] == b"fmt " and head[20:22] == b"\x55\0":
        return "MP3 in WAV", "wav"  # libsndfile stops at an estimate of the length
    return None


class FfmpegFile:
    """An audio file that ffmpeg decodes, with the attributes and methods of soundfile.SoundFile that are used here."""

    format = "ffmpeg"
    subtype = "FLOAT"
    frames = formats.UNKNOWN_LENGTH  # the number is not known before the end

    def __init__(self, content: BinaryIO, name: str, container: str, program: str) -> None:
        self._name = name
        if truncation := formats.find_truncation(content, name):
            raise Truncated(truncation)
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  close() closes it
        with _with_file_descriptor(content) as file:
            file.seek(0)
            self._process = subprocess.Popen(
                _command(program, container), stdin=file, stdout=subprocess.PIPE, stderr=self._messages, env={}
            )
        _set_limits(self._process.pid)
        try:
            self.samplerate, self.channels = self._read_header()
        except BaseException:
            self.close()
            raise

    def read(self, frames: int, dtype: str, always_2d: bool) -> npt.NDArray[Any]:
        """Return up to `frames` frames, none at the end; the arguments are those of soundfile."""
        assert dtype == "float32" and always_2d
        content = self._output.read(frames * self.channels * 4)
        if len(content) < frames * self.channels * 4:
            self._check_end(decoded=True)
        whole = len(content) - len(content) % (4 * self.channels)
        return np.frombuffer(content[:whole], ">f4").astype(np.float32).reshape(-1, self.channels)

    def close(self) -> None:
        """Stop the program."""
        self._process.kill()
        self._process.wait()
        self._output.close()
        self._messages.close()

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _read_header(self) -> tuple[int, int]:
        """Return sample rate and number of channels from the header of Sun's format .au."""
        header = self._output.read(24)
        if len(header) < 24:
            self._check_end(decoded=False)
            raise Undecodable(f"the {self._name} file has no audio that can be decoded")
        _, start, _, _, rate, channels = struct.unpack(">6I", header)
        self._output.read(start - 24)
        return rate, channels

    def _check_end(self, decoded: bool) -> None:
        """Raise an AudioError if ffmpeg did not decode the file to its end."""
        status = self._process.wait()
        self._messages.seek(0)
        messages = self._messages.read().decode(errors="replace").strip()
        if status < 0:
            raise Undecodable(f"the {self._name} file needs more time or memory than ffmpeg is given")
        if "Protocol not found" in messages:
            raise Undecodable(f"{self._name} needs ffmpeg 6 or later; install it, or use {formats.ACCEPTED}")
        if decoded and (status or "prematurely" in messages):  # the message about WebM; the status is 0
            raise Truncated(f"the {self._name} file ends early, or is damaged")


def open_with_ffmpeg(content: BinaryIO, allowed: bool) -> FfmpegFile | None:
    """Open a file with ffmpeg if its container is one of those above; otherwise return None.

    Args:
        allowed: whether the program may be started.
    Raises:
        AudioError: the file is Undecodable, also without the program, or Truncated.
    """
    if (found := find_container(content)) is None:
        return None
    name, container = found
    if not allowed:
        raise Undecodable(
            f"{name} is decoded by the program ffmpeg only, which is not used here; use {formats.ACCEPTED}"
        )
    if (program := shutil.which(PROGRAM)) is None:
        raise Undecodable(f"{name} needs the program ffmpeg: install version 6 or later, or use {formats.ACCEPTED}")
    return FfmpegFile(content, name, container, program)


def _command(program: str, container: str) -> list[str]:
    return [
        *(program, "-nostdin", "-hide_banner", "-loglevel", "error", "-xerror"),
        *("-protocol_whitelist", "fd,pipe", "-codec_whitelist", CODECS),
        *("-threads", "1", "-f", container, "-i", "fd:"),  # fd: can seek, pipe: cannot
        *("-map", "0:a:0", "-vn", "-sn", "-dn", "-threads", "1", "-f", "au", "-c:a", "pcm_f32be", "pipe:1"),
    ]


def _set_limits(pid: int) -> None:
    """Limit what a process can use; a limit of this process that is lower stays."""
    with suppress(ProcessLookupError):  # it has ended
        for limit, value in LIMITS.items():
            _, hard = resource.prlimit(pid, limit)
            lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(pid, limit, (lower, lower))


def _with_file_descriptor(content: BinaryIO) -> BinaryIO:
    """Return a duplicate of an open file, or a temporary file with the content of one in memory."""
    content.seek(0)
    try:
        return open(content.fileno(), "rb", closefd=False)
    except OSError:
        file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
        shutil.copyfileobj(content, file)
        file.flush()
        return file
