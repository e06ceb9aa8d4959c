"""A .npy file that is filled row by row."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt


class Rows:
    """The rows of a float16 array in a file.

    A memory map would do the same, but its pages count as memory of this process, and there it must not grow.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...]) -> None:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        self._file, self._shape, self._start = file, shape[1:], file.tell()
        self._size = 2 * int(np.prod(self._shape))
        file.truncate(self._start + shape[0] * self._size)

    def __setitem__(self, row: int, values: npt.NDArray[np.float16]) -> None:
        if values.shape != self._shape or values.dtype != np.float16:
            raise ValueError(f"expected a row float16 {self._shape}, found {values.dtype} {values.shape}")
        self._file.seek(self._start + row * self._size)
        self._file.write(np.ascontiguousarray(values, "<f2").data)


@contextmanager
def open_rows(path: Path, shape: tuple[int, ...]) -> Iterator[Rows]:
    """Write `path`, a .npy file of float16 `shape`, row by row in any order; rows that are left out are zeros."""
    with path.open("wb") as file:
        yield Rows(file, shape)
