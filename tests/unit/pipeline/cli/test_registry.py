"""What people are told of the registry's champion."""

import io
from pathlib import Path

from helpers.torchserve import deploy_settings
from rich.console import Console

from components.promote.step import promote
from mlops.tracking.champion import approve
from mlops.tracking.settings import RegisterSettings
from pipeline.cli import registry as champion
from pipeline.settings import PipelineSettings


def test_a_champion_that_a_person_made_one_is_shown_with_the_reason(tiny: PipelineSettings, tmp_path: Path) -> None:
    data = make.write_data(tmp_path / "data")
    made = make.candidate(tmp_path / "model", "overruled", data, right=10)
    promote(made.registration, made.model, made.evaluation, data.spectrograms, make.POLICY, tmp_path / "decision")
    settings = tiny.replace(register=RegisterSettings("overruled"), deploy=deploy_settings(tmp_path / "state"))

    def shown() -> str:
        out = io.StringIO()
        Console(file=out, width=400).print(champion.overview(settings))
        return out.getvalue()

    assert "version 1: refuse (accuracy is 25 %" in shown() and "approved" not in shown()
    approve("overruled", 1, force="[/done] see [ticket]", by="anna")
    (line,) = [line for line in shown().splitlines() if line.strip().startswith("champion")]
    assert "by anna: [/done] see [ticket]" in line
