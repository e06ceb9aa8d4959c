"""The step ingest as a KFP component, run by KFP in a subprocess."""

from pathlib import Path

import pytest
from helpers.ingest import FRONT_END, IngestFolder
from helpers.kfp_local import init_kfp_local
from helpers.project import ROOT
from kfp import dsl

from components.ingest.component import ingest
from components.ingest.step import IngestError
from mlops.artifacts import DatasetFolder


@pytest.fixture
def folder(tmp_path: Path) -> IngestFolder:
    folder = IngestFolder(tmp_path / "clips")
    (folder.audio / "1-1-0.wav").write_bytes(b"")
    return folder


def test_outputs_are_the_data_set_its_report_and_its_metrics(
    folder: IngestFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    init_kfp_local(tmp_path, monkeypatch)
    overrides = {"ingest.policy.empty": "quarantine", "spectrograms": FRONT_END.to_dict()}
    task = ingest(source=folder.write(), recipe="demo", overrides=overrides, shards=2)
    assert task.outputs["Output"] == ["1/2", "2/2"]
    data = Path(task.outputs["dataset"].path)
    record = DatasetFolder(data).record()
    assert record.clips == 7
    assert task.outputs["dataset"].metadata == {"digest": record.digest, "clips": 7, "classes": 2}
    assert Path(task.outputs["report"].path).read_text() == (data / "report.html").read_text()
    metrics = task.outputs["statistics"].metadata
    assert (metrics["clips"], metrics["classes"], metrics["quarantined"], metrics["warnings"]) == (7, 2, 1, 0)


def test_refused_data_set_fails_and_outputs_the_report(folder: IngestFolder, tmp_path: Path) -> None:
    outputs = {
        "dataset": dsl.Dataset(uri=str(tmp_path / "dataset")),
        "report": dsl.HTML(uri=str(tmp_path / "report")),
        "statistics": dsl.Metrics(uri=str(tmp_path / "statistics")),
    }
    with pytest.raises(IngestError, match=r"1-1-0\.wav: empty"):
        ingest.python_func(source=folder.write(), recipe="demo", overrides={}, shards=1, **outputs)
    assert "refused" in (tmp_path / "report").read_text()
    assert not (tmp_path / "dataset").exists()
