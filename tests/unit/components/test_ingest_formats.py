"""The step ingest on clips of ESC-50."""

from pathlib import Path

import pandas as pd
from helpers.ingest import ingest, settings
from helpers.project import ROOT

from mlops.artifacts import DatasetFolder


def test_real_clips_of_many_formats_pass_the_default_policy(real_clips: Path, tmp_path: Path) -> None:
    picked = {  # stereo at 44.1 and 48 kHz, mono at 48 kHz, the shortest, the longest, the quietest, the loudest
        "1-101336-A-30.ogg": (44_100, 2),
        "1-103995-A-30.ogg": (48_000, 2),
        "1-137-A-32.ogg": (48_000, 1),
        "4-164661-B-12.ogg": (44_100, 1),
        "1-172649-F-40.ogg": (44_100, 1),
        "3-163607-B-13.ogg": (44_100, 1),
        "3-131943-A-37.ogg": (44_100, 1),
    }
    table = pd.read_csv(real_clips / "meta" / "esc50.csv")
    source = tmp_path / "real"
    (source / "meta").mkdir(parents=True)
    (source / "audio").mkdir()
    table[table["filename"].isin(picked)].to_csv(source / "meta" / "esc50.csv", index=False)
    for name in picked:
        (source / "audio" / name).symlink_to(real_clips / "audio" / name)
    ingest(str(source), settings(ROOT).replace(min_clips_per_class=1), tmp_path / "dataset")
    clips = DatasetFolder(tmp_path / "dataset").clips().set_index("filename")
    assert {name: (clip["rate"], clip["channels"]) for name, clip in clips.iterrows()} == picked
    assert clips.loc["4-164661-B-12.ogg", "frames"] < 4 * 44_100
    findings = pd.read_csv(tmp_path / "dataset" / "findings.csv")["finding"]
    assert findings[findings != "one_fold"].tolist() == ["clipped"]  # the classes of seven clips are in one fold each
