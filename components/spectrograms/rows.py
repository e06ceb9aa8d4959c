"""A .npy file that several processes fill row by row."""

import os
from dataclasses import dataclass
from io import FileIO
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

    def open(self) -> FileIO:
        return self.path.open("r+b", buffering=0)

    def write(self, file: FileIO, row: int, values: npt.NDArray[np.float16]) -> None:
        """Write a row, float16 of shape `shape[1:]`, to the open file. The order of the rows is arbitrary."""
        if values.shape != self.shape[1:] or values.dtype != np.float16:
            raise ValueError(f"expected float16 {self.shape[1:]}, found {values.dtype} {values.shape}")
        content = np.ascontiguousarray(values, "<f2").data.cast("B")
        offset = self.start + row * len(content)
        while content:  # the last write before a full disk may be incomplete
            written = os.pwrite(file.fileno(), content, offset)
            content, offset = content[written:], offset + written
