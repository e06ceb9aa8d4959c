"""The road on real recordings: the steps one after another, from Ogg files to an answer over REST."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from helpers.networks import replace_settings
from helpers.project import read_json
from helpers.torchserve import deploy_settings

from components.deploy.step import deploy
from components.evaluate.step import evaluate
from components.ingest.step import ingest
from components.promote.step import promote
from components.register.step import register
from components.spectrograms.step import spectrograms
from components.train.step import train
from pipeline.settings import PipelineSettings
from serving.torchserve import server as process
from serving.torchserve.client import TorchServe

CLASSES, CLIPS = 3, 2  # of each fold


@pytest.fixture
def few(real_clips: Path, tmp_path: Path) -> Path:
    """Two clips a class and fold of three classes of ESC-10, in ESC-50's layout."""
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
def test_real_clips_reach_the_endpoint(few: Path, tiny: PipelineSettings, tmp_path: Path) -> None:
    at = {name: tmp_path / name for name in ("data", "pictures", "model", "scores", "version", "decision", "served")}
    training = replace_settings(tiny.train, width=0.125, epochs=1, fold=4)
    policy = tiny.promote.replace(min_accuracy=0.0, min_paired_clips=1, max_latency_ms=1e6)
    registry = tiny.register.replace(name="real")
    serving = deploy_settings(tmp_path / "torchserve")

    ingest(str(few), tiny.ingest, at["data"])
    spectrograms(at["data"], tiny.spectrograms, at["pictures"], str(tmp_path / "cache"))
    train(at["pictures"], training, at["model"], str(tmp_path / "checkpoints"))
    evaluate(at["model"], at["pictures"], tiny.evaluate, at["scores"])
    register(at["model"], at["scores"], at["data"], registry, at["version"])
    promote(at["version"], at["model"], at["scores"], at["pictures"], policy, at["decision"])
    assert read_json(at["decision"] / "decision.json")["outcome"] == "promote"
    try:
        deploy("real", at["data"], serving, at["served"])
        predictions = pd.read_csv(at["scores"] / "predictions.csv")
        for row in predictions.to_dict("records"):
            answer = TorchServe.of(serving).predict((few / "audio" / row["filename"]).read_bytes(), "real")
            # What evaluation said of the clip, out of the cache, is what the endpoint says of the file.
            assert answer["predictions"][0]["class"] == row["predicted"]
            assert answer["predictions"][0]["probability"] == pytest.approx(row["confidence"], abs=1e-3)
    finally:
        process.stop(Path(serving.state))
