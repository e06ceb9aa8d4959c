"""Base class of artifact folders, and reading and writing of their JSON and CSV files."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

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
    """

    step: ClassVar[str]
    marker: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def report(self) -> Path:
        """HTML report, of the steps that write one."""
        return self.path / "report.html"

    @classmethod
    def check_output(cls, path: Path, inputs: Iterable[Path] = ()) -> None:
        """Check early that `create(path)` will be possible; see `mlops.outputs.check_output`."""
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
        return parse_record(read_json(self.path / name, self.step), kind, str(self.path / name), self.step)

    def write_record(self, name: str, record: StrictModel) -> None:
        (self.path / name).write_text(json_text(record.to_dict()), encoding="utf-8")


class RecordFolder(Folder, Generic[Record]):
    """A folder whose marker is a record in JSON, and that may have the same in Markdown.

    Attributes:
        page_name: name of the Markdown file, empty without one.
    """

    kind: type[Record]
    page_name: ClassVar[str] = ""

    @property
    def page(self) -> Path:
        return self.path / self.page_name

    def record(self) -> Record:
        return self.read_record(self.marker, self.kind)

    def write(self, record: Record, page: str = "") -> None:
        """Write the record and, if the folder has one, the page."""
        self.write_record(self.marker, record)
        if self.page_name:
            self.page.write_text(page, encoding="utf-8")


def read_json(path: Path, step: str) -> Any:
    """Return the content of a JSON file; `step`, which writes it, is for the message of an ArtifactError."""
    with _read_errors(path, step):
        return json.loads(path.read_text(encoding="utf-8"))


def json_text(content: Any) -> str:
    """Return JSON with indentation. NaN and infinity are refused with a ValueError."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def parse_record(values: Any, kind: type[Record], where: str, step: str) -> Record:
    """Validate the values of a record. The message of an ArtifactError names `where` and the first problem."""
    try:
        return kind.parse(values, where)
    except SettingsError as error:
        first = str(error).splitlines()[0]
        raise ArtifactError(f"{first}; run the step {step} again") from error


def read_table(path: Path, dtypes: Mapping[str, type], step: str) -> pd.DataFrame:
    """Read a CSV file that has at least the columns of `dtypes`; `step`, which writes it, is for an ArtifactError."""
    # Only numbers can be missing: text such as "none" or "" is kept as it is.
    empty = {column: [""] for column, dtype in dtypes.items() if dtype is not str}
    with _read_errors(path, step):
        table = pd.read_csv(path, dtype=dict(dtypes), keep_default_na=False, na_values=empty)
    if missing := [column for column in dtypes if column not in table.columns]:
        raise ArtifactError(f"{path}: column {missing[0]} is missing; run the step {step} again")
    return table


@contextmanager
def _read_errors(path: Path, step: str) -> Iterator[None]:
    """Convert errors of reading and parsing a file to ArtifactError."""
    try:
        yield
    except FileNotFoundError:
        raise ArtifactError(f"{path}: file is missing; run the step {step}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the step {step} again") from error
