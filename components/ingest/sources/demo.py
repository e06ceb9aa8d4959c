"""The embedded data set of synthetic sounds."""

from pathlib import Path

from audiocnn.synthetic.dataset import FOLDS, write_demo
from components.ingest.settings import IngestSettings
from components.ingest.sources.base import Source
from components.ingest.sources.layout import SourceFolder
from mlops.progress import report_progress


class DemoSource(Source):
    """`demo`: synthesized on demand."""

    def folds(self) -> list[int]:
        return sorted(FOLDS)

    def _fetch(self, _: IngestSettings, workspace: Path, /) -> SourceFolder:
        folder = write_demo(
            workspace / "demo", progress=lambda done, total: report_progress("ingest", "synthesized", done, total)
        )
        return SourceFolder(folder, "demo")
