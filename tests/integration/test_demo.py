"""The training pipeline on real recordings, from Ogg files to answers over REST."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from helpers.networks import replace_settings
from helpers.torchserve import deploy_settings

from mlops.artifacts import EvaluationFolder
from pipeline.local import run_training
from pipeline.settings import PipelineSettings
from pipeline.steps import TRAINING_STEPS
from serving.supervision.endpoint import stop
from serving.torchserve.client import TorchServeClient

CLASSES, CLIPS = 3, 2  # per fold


@pytest.fixture
def few(real_clips: Path, tmp_path: Path) -> Path:
    """Return two clips per class and fold of three classes of ESC-10, in ESC-50's layout."""
    table = pd.read_csv(real_clips / "meta" / "esc50.csv")
    table = table[table["esc10"]]
    table = table[table["target"].isin(sorted(table["target"].unique())[:CLASSES])]
    table = table.groupby(["fold", "target"]).head(CLIPS)
    for name in ("meta", "audio"):
        (tmp_path / "few" / name).mkdir(parents=True)
    table.to_csv(tmp_path / "few" / "meta" / "esc50.csv", index=False)
    for name in table["filename"]:
        shutil.copyfile(real_clips / "audio" / name, tmp_path / "few" / "audio" / name)
    return tmp_path / "few"


@pytest.mark.xdist_group("torchserve")
def test_real_clips_reach_the_endpoint(
    few: Path, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = tiny.replace(
        train=replace_settings(tiny.train, width=0.125, epochs=1, fold=4),
        register=tiny.register.replace(name="real"),
        promote=tiny.promote.replace(min_accuracy=0.0, min_class_recall=0.0, min_paired_clips=1, max_latency_ms=1e6),
        deploy=deploy_settings(tmp_path / "torchserve"),
    )
    try:
        run = run_training(settings, str(few))
        assert tuple(run.executed) == TRAINING_STEPS
        client = TorchServeClient.from_settings(settings.deploy)
        predictions = EvaluationFolder(run.output("evaluate")).predictions().table
        for row in predictions.to_dict("records"):
            answer = client.predict((few / "audio" / row["filename"]).read_bytes(), "real")
            # The evaluation reads spectrograms from the cache, the endpoint computes them from the file.
            assert answer["predictions"][0]["class"] == row["predicted"]
            assert answer["predictions"][0]["probability"] == pytest.approx(row["confidence"], abs=1e-3)
    finally:
        stop(Path(settings.deploy.state))
