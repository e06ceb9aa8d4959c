"""The program ffmpeg of the package imageio-ffmpeg."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest


def put_on_path(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make the program the only `ffmpeg` on the PATH."""
    (folder / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    patch.setenv("PATH", str(folder), prepend=":")


def convert(wav: bytes, file: Path, *options: str) -> bytes:
    """Return the content of a sound file in another format, that of the name of `file`, which is written."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", "-i", "pipe:0", *options, str(file)]
    subprocess.run(command, input=wav, check=True)
    return file.read_bytes()
