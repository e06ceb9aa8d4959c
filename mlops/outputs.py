"""Output folders of steps: never overwrite anything but an earlier output of the same step."""

import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from audiocnn.atomic import atomic_folder
from audiocnn.errors import AudioCNNError


class OutputError(AudioCNNError):
    """An output folder that cannot be written, or that would overwrite other data."""


def output_folder(path: Path, marker: str) -> AbstractContextManager[Path]:
    """Return a temporary folder as a context manager; on success it replaces `path`, on failure it is removed.

    Args:
        marker: see check_output.
    Raises:
        OutputError: `path` cannot be written, or contains something other than an earlier output of this step.
    """
    return atomic_folder(check_output(path, marker), replace=True)


def check_output(path: Path, marker: str, inputs: Iterable[Path] = ()) -> Path:
    """Check before the work that `path` can be written and that nothing but an earlier output is overwritten.

    Args:
        marker: name of a file that every output of this step contains; it identifies an earlier output.
        inputs: files and folders that the step reads.
    Returns:
        `path`, with symbolic links resolved.
    Raises:
        OutputError: one of

            - `path` is or contains the working directory or an input;
            - it exists, is not empty, and does not contain the marker;
            - it cannot be created.
    """
    resolved = path.resolve()
    if Path.cwd().is_relative_to(resolved):
        raise OutputError(
            f"output {path} is or contains the working directory; choose another one, such as {path}/output"
        )
    for given in inputs:
        if given.resolve().is_relative_to(resolved):
            raise OutputError(f"output {path} is or contains the input {given}; choose another output")
    earlier = (resolved / marker).is_file()
    if resolved.exists() and not earlier and (not resolved.is_dir() or any(resolved.iterdir())):
        raise OutputError(
            f"output {path} exists and is not an earlier output of this step (it has no {marker}); choose another "
            "output, or remove it"
        )
    check_writable(path)
    return resolved


def check_writable(path: Path) -> None:
    """Check before the work that a file or folder can be created at `path`, or replaced there.

    Raises:
        OutputError: it cannot be created.
    """
    existing = next(parent for parent in path.resolve().parents if parent.exists())
    try:
        tempfile.TemporaryDirectory(dir=existing).cleanup()
    except OSError as error:
        raise OutputError(
            f"output {path} cannot be created in {existing} ({error.strerror}); choose another output"
        ) from error
