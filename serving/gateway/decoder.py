"""A process that decodes one recording: `python -m serving.gateway.decoder RATE WINDOW_SECONDS MAX_SECONDS FFMPEG`.

It reads a sound file from its standard input, which has to be a file, and writes the recording's chunks to its standard
output: each as one line of JSON that has the number of bytes of the WAV file that follows, none if the chunk is silent.
The last line has the clip, or the error. In a process of its own, decoding does not slow down other requests, has
limited memory, and cannot end the gateway. FFMPEG is 1 or 0: whether it may start the program ffmpeg.
"""

import json
import os
import resource
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from audiocnn.errors import AudioError, TooLong
from audiocnn.streams import open_stream
from audiocnn.windows import SENT_WINDOWS, Chunk, Grid, chunks, cut, to_wav

NICENESS = 10
MAX_MEMORY = 2**30  # bytes of address space


def lines(
    file: BinaryIO, grid: Grid, max_seconds: float, ffmpeg: bool = False
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the chunks of a sound file and what ends it."""
    try:
        with open_stream(file, max_seconds, ffmpeg) as stream:
            if stream.declared_seconds > max_seconds:  # before an hour of it is classified
                raise TooLong(f"the recording lasts {stream.declared_seconds:.0f} s; the maximum is {max_seconds:g} s")
            for chunk in chunks(stream, grid, grid.seconds_of(SENT_WINDOWS)):
                yield _line(chunk, grid)
            yield {"clip": stream.describe(), "seconds": stream.seconds}, b""
    except AudioError as error:
        yield {"error": str(error), "reason": error.reason}, b""


def _line(chunk: Chunk, grid: Grid) -> tuple[dict[str, Any], bytes]:
    windows = cut(chunk, grid)
    if windows.silent.all():
        return {"silent": windows.starts}, b""
    content = to_wav(chunk, grid)
    return {"start": chunk.start, "bytes": len(content)}, content


def main() -> None:
    """Decode the file at standard input."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    rate, window_seconds, max_seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    ffmpeg = sys.argv[4] == "1"
    output = sys.stdout.buffer
    for line, content in lines(sys.stdin.buffer, Grid(rate, window_seconds), max_seconds, ffmpeg):
        output.write(json.dumps(line).encode() + b"\n" + content)
        output.flush()


if __name__ == "__main__":
    main()
