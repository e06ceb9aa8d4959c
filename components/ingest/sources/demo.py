"""The embedded data set: synthetic sounds, made on the spot."""

from pathlib import Path

from audiocnn.synthetic.dataset import FOLDS, write_demo
from components.ingest.progress import report_progress
from components.ingest.settings import IngestSettings
from components.ingest.sources.kind import Fetched, Kind


def _fetch(_: str, __: IngestSettings, workspace: Path) -> Fetched:
    folder = write_demo(workspace / "demo", progress=lambda done, clips: report_progress("made", done, clips))
    return Fetched(folder, "demo")


KIND = Kind("demo, the embedded data set", lambda source: source == "demo", _fetch, lambda _: sorted(FOLDS))
