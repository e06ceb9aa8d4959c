"""Base class of artifact folders, and reading and writing of their JSON and CSV files."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import pandas as pd

from audiocnn.errors import AudioCNNError
from audiocnn.strict_model import SettingsError, StrictModel
from mlops.outputs import check_output, output_folder

Record = TypeVar("Record", bound=StrictModel)


class ArtifactError(AudioCNNError):
    """A file of an artifact that is missing or invalid. The message names the file and the step to run again."""


class Folder:
    """A folder that one step writes and other steps read.

    Methods without a verb, such as `record()`, read a file. They raise an ArtifactError if it is missing or invalid.

    Attributes:
        step: the step that writes it.
        marker: a file that every output of that step contains. Only folders with it are replaced.
        path: the folder.
    """

    step: ClassVar[str]
    marker: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def check_output(cls, path: Path, inputs: Iterable[Path] = ()) -> None:
        """Check early that `create(path)` will be possible.

        Args:
            inputs: folders that the step reads; the output must not replace them.
        Raises:
            OutputError: `path` contains other files or an input, or cannot be written.
        """
        check_output(path, cls.marker, inputs)

    @classmethod
    @contextmanager
    def create(cls, path: Path) -> Iterator[Self]:
        """Yield the folder to be filled. It appears at `path` when the block ends without an error, or not at all.

        Raises:
            OutputError: as for `check_output`.
        """
        with output_folder(path, cls.marker) as part:
            yield cls(part)

    def read_record(self, name: str, kind: type[Record]) -> Record:
        """Read a JSON file."""
        return parse_record(read_json(self.path / name, self.step), kind, str(self.path / name), self.step)

    def write_record(self, name: str, record: StrictModel) -> None:
        """Write a JSON file."""
        (self.path / name).write_text(json_text(record.to_dict()), encoding="utf-8")


def read_json(path: Path, step: str) -> Any:
    """Return the content of a JSON file.

    Args:
        step: the step that writes the file, for the error message.
    Raises:
        ArtifactError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: file is missing; run the step {step}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the step {step} again") from error


def json_text(content: Any) -> str:
    """Return JSON with indentation. NaN and infinity are refused with a ValueError."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def parse_record(values: Any, kind: type[Record], where: str, step: str) -> Record:
    """Validate the values of a record.

    Raises:
        ArtifactError: naming `where` and the first error.
    """
    try:
        return kind.parse(values, where)
    except SettingsError as error:
        first = str(error).splitlines()[0]
        raise ArtifactError(f"{first}; run the step {step} again") from error


def read_table(path: Path, dtypes: Mapping[str, type], step: str) -> pd.DataFrame:
    """Read a CSV file.

    Args:
        dtypes: the required columns and their types.
        step: the step that writes the file, for the error message.
    Raises:
        ArtifactError: the file is missing, is not a table, or lacks a column.
    """
    # Only numbers can be missing: text such as "none" or "" is kept as it is.
    empty = {column: [""] for column, dtype in dtypes.items() if dtype is not str}
    try:
        table = pd.read_csv(path, dtype=dict(dtypes), keep_default_na=False, na_values=empty)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: file is missing; run the step {step}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the step {step} again") from error
    if missing := [column for column in dtypes if column not in table.columns]:
        raise ArtifactError(f"{path}: column {missing[0]} is missing; run the step {step} again")
    return table
