"""A .npy file that several processes fill row by row."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RowFile:
    """A float16 array of `shape` in a .npy file, the rows beginning at byte `start`.

    A memory map would do the same, but its pages count as memory of the process, and that must not grow with the data.
    """

    path: Path
    shape: tuple[int, int, int]
    start: int

    @classmethod
    def create(cls, path: Path, shape: tuple[int, int, int]) -> Self:
        """A new file; rows that nobody writes are zeros."""
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            start = file.tell()
            file.flush()
            # Reserved at once: a full disk is told before anything is computed, and writing is a third faster.
            # macOS cannot: there the rows are a hole in the file until they are written.
            end = start + 2 * int(np.prod(shape))
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, end)
            else:
                file.truncate(end)
        return cls(path, shape, start)

    def open(self) -> "Rows":
        """To write rows, in this process; another one opens it for itself."""
        return Rows(self)


class Rows:
    """An open RowFile: `rows[3] = values`, in any order."""

    def __init__(self, file: RowFile) -> None:
        self._shape, self._start = file.shape[1:], file.start
        self._size = 2 * int(np.prod(self._shape))
        self._file = os.open(file.path, os.O_WRONLY)

    def __setitem__(self, row: int, values: npt.NDArray[np.float16]) -> None:
        if values.shape != self._shape or values.dtype != np.float16:
            raise ValueError(f"expected a row float16 {self._shape}, found {values.dtype} {values.shape}")
        content = np.ascontiguousarray(values, "<f2").data.cast("B")
        if os.pwrite(self._file, content, self._start + row * self._size) != self._size:
            raise OSError(errno.ENOSPC, "a row was written in part")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
