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
    """A .npy file with a float16 array of this shape, whose rows begin at byte `start`.

    It is written without a memory map, whose pages would count as memory of the process.
    """

    path: Path
    shape: tuple[int, int, int]
    start: int

    @classmethod
    def create(cls, path: Path, shape: tuple[int, int, int]) -> Self:
        """Create a file of zeros."""
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            start = file.tell()
            file.flush()
            end = start + 2 * int(np.prod(shape))
            if hasattr(os, "posix_fallocate"):  # not on macOS
                # A full disk is an error before the computation, and writing is a third faster.
                os.posix_fallocate(file.fileno(), 0, end)
            else:
                file.truncate(end)
        return cls(path, shape, start)

    def open(self) -> "Rows":
        """Open the file for writing in this process."""
        return Rows(self)


class Rows:
    """An open RowFile. `rows[3] = values` writes a row; the order is arbitrary."""

    def __init__(self, file: RowFile) -> None:
        self._shape, self._start = file.shape[1:], file.start
        self._size = 2 * int(np.prod(self._shape))
        self._file = os.open(file.path, os.O_WRONLY)

    def __setitem__(self, row: int, values: npt.NDArray[np.float16]) -> None:
        if values.shape != self._shape or values.dtype != np.float16:
            raise ValueError(f"expected float16 {self._shape}, found {values.dtype} {values.shape}")
        content = np.ascontiguousarray(values, "<f2").data.cast("B")
        if os.pwrite(self._file, content, self._start + row * self._size) != self._size:
            raise OSError(errno.ENOSPC, "a row was written incompletely")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
