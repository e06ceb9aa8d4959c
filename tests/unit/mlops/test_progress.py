"""Progress of a step in its log."""

import pytest

from mlops.progress import report_progress


def test_progress_is_printed_at_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    for done in range(1, 401):
        report_progress("ingest", "checked", done, 400)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0] == "[ingest] checked 40/400 clips" and lines[-1] == "[ingest] checked 400/400 clips"


def test_progress_in_batches_is_printed_when_a_tenth_is_passed(capsys: pytest.CaptureFixture[str]) -> None:
    for done, count in ((7, 7), (14, 7), (21, 7), (30, 9)):
        report_progress("spectrograms", "computed", done, 100, count=count)
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["14/100", "21/100", "30/100"]
