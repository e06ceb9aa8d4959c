"""What people are told of the registry's champion."""

import dataclasses
import io
from pathlib import Path

import registry_support as make
from rich.console import Console
from support_serving import deploy_settings

from audiocnn.params import Params
from audiocnn.settings import RegisterSettings
from components.promote.champion import approve
from components.promote.step import promote
from pipeline import champion


def test_a_champion_that_a_person_made_one_is_shown_with_the_reason(tiny: Params, tmp_path: Path) -> None:
    data = make.write_data(tmp_path / "data")
    made = make.candidate(tmp_path / "model", "overruled", data, right=10)
    promote(made.registration, made.model, made.evaluation, data.spectrograms, make.POLICY, tmp_path / "decision")
    settings = dataclasses.replace(
        tiny, register=RegisterSettings("overruled"), deploy=deploy_settings(tmp_path / "state")
    )

    def shown() -> str:
        out = io.StringIO()
        Console(file=out, width=400).print(champion.overview(settings))
        return out.getvalue()

    assert "version 1: refuse (accuracy is 25 %" in shown() and "approved" not in shown()
    approve("overruled", 1, force="[/done] see [ticket]", by="anna")
    (line,) = [line for line in shown().splitlines() if line.strip().startswith("champion")]
    assert "by anna: [/done] see [ticket]" in line
