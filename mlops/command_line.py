"""What the steps' command lines share: where params.yaml is, how keys are overridden, how errors reach a person."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from audiocnn.errors import AudioCNNError
from mlops.settings import ResolvedSettings, parse_overrides, resolve

ParamsOption = Annotated[Path, typer.Option("--params", help="The settings file.")]
SetOption = Annotated[
    list[str], typer.Option("--set", help="Override one key, for example train.epochs=3. Repeatable.")
]


def resolve_options(path: Path, assignments: list[str]) -> ResolvedSettings:
    """Resolve params.yaml, its recipe and the overrides of a command line."""
    return resolve(path, parse_overrides(assignments))


# What the system says of files, in words that tell how to mend it.
REMEDIES = {
    errno.ENOSPC: "the disk is full; make room there and run it again",
    errno.EDQUOT: "your share of the disk is used up; make room there and run it again",
    errno.EFBIG: "files of that size are not allowed there; raise the limit (ulimit -f) or choose another place",
    errno.EIO: "the disk fails to read or write; look into its health, or choose another place",
    errno.EROFS: "that disk can only be read; choose another place",
    errno.EACCES: "you may not read or write there; change its permissions or choose another place",
    errno.EPERM: "you may not change what is there; change its owner or choose another place",
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "a part of that path is a file, where a folder is needed; choose another place",
    errno.ENAMETOOLONG: "the name is too long for the disk; choose a shorter one",
    errno.EXDEV: "a folder that is a disk of its own cannot be replaced; choose a folder in it",
    errno.EBUSY: "it is in use, or a disk of its own, and cannot be replaced; choose a folder in it",
}


def sentence(error: OSError) -> str:
    """What the system says, with the path and how to mend it, as far as they are known."""
    if error.errno is None or not error.strerror:  # a library's own
        return str(error)
    said = REMEDIES.get(error.errno, error.strerror)
    return said if error.filename is None else f"{error.filename}: {said}"


@contextmanager
def errors_to_exit() -> Iterator[None]:
    """End with `error: one sentence` and status 2 for what a user can mend, 130 for Ctrl-C; bugs keep their traceback.

    AudioCNNError is the base of all that the rooms raise for bad input; OSError tells of files and sockets.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; nothing half-written is left", file=sys.stderr)
        raise typer.Exit(130) from None
    except (AudioCNNError, OSError) as error:
        print(f"error: {sentence(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        raise typer.Exit(2) from None
