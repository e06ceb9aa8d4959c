"""What `audiocnn status` shows of the registry."""

import io
from pathlib import Path

from helpers import registry as artifacts
from helpers.torchserve import deploy_settings
from rich.console import Console

from components.promote.step import promote
from mlops.tracking.champion import approve
from pipeline.cli.model_versions import overview
from pipeline.settings import PipelineSettings


def test_an_approved_version_is_shown_with_the_reason(tiny: PipelineSettings, tmp_path: Path) -> None:
    data = artifacts.write_data(tmp_path / "data")
    made = artifacts.candidate(tmp_path / "model", "overruled", data, correct=10)
    inputs = (made.registration, made.model, made.evaluation, data.spectrograms)
    promote(*inputs, artifacts.POLICY, tmp_path / "decision")
    settings = tiny.replace(
        register=tiny.register.replace(name="overruled"), deploy=deploy_settings(tmp_path / "state")
    )

    def shown() -> str:
        out = io.StringIO()
        Console(file=out, width=400).print(overview(settings))
        return out.getvalue()

    assert "version 1: refuse (accuracy is 25 %" in shown() and "approved" not in shown()
    approve("overruled", 1, because="[/done] see [ticket]", by="anna")
    (line,) = [line for line in shown().splitlines() if line.strip().startswith("champion")]
    assert "by anna: [/done] see [ticket]" in line
