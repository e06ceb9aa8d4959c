"""Folder of the step ingest: `clips.csv`, `audio/`, `dataset.json`, `findings.csv` and `report.html`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from audiocnn.config import PositiveInt
from audiocnn.data.clips import CLIP_COLUMNS, digest, read_clips
from audiocnn.strict_model import StrictModel
from mlops.artifacts.base_folder import RecordFolder


class DatasetRecord(StrictModel):
    """Content of `dataset.json`.

    Attributes:
        digest: SHA-256 of the clip table; it identifies the data set from here on.
        source: short name of the source.
        origin: address from which the source can be fetched again.
        quarantined: names of files that were left out.
        settings: the block `ingest`; empty in records of release 0.1.0.
    """

    digest: str
    source: str
    origin: str
    clips: PositiveInt
    classes: PositiveInt
    quarantined: tuple[str, ...]
    settings: dict[str, Any] = Field(default_factory=dict)


class DatasetFolder(RecordFolder[DatasetRecord]):
    """Checked clips and their table."""

    step = "ingest"
    marker, kind = "dataset.json", DatasetRecord

    @property
    def audio(self) -> Path:
        return self.path / "audio"

    @property
    def clip_table(self) -> Path:
        return self.path / "clips.csv"

    @property
    def findings(self) -> Path:
        return self.path / "findings.csv"

    def clips(self) -> pd.DataFrame:
        """Read the clip table, one row per clip, columns CLIP_COLUMNS."""
        return read_clips(self.clip_table)

    def write_clips(
        self,
        clips: pd.DataFrame,
        source: str,
        origin: str,
        quarantined: Iterable[str] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> DatasetRecord:
        """Write `clips.csv` and `dataset.json`; return the content of the latter.

        Args:
            clips: a table with at least the columns CLIP_COLUMNS.
        """
        clips.to_csv(self.clip_table, columns=list(CLIP_COLUMNS), index=False, lineterminator="\n")
        record = DatasetRecord(
            digest=digest(clips),
            source=source,
            origin=origin,
            clips=len(clips),
            classes=int(clips["category"].nunique()),
            quarantined=tuple(sorted(quarantined)),
            settings=dict(settings or {}),
        )
        self.write(record)
        return record
