"""The step spectrograms: the result depends only on the clips and the settings."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from audiocnn.audio import load
from audiocnn.data.clips import DatasetError
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.features import FRONT_END_VERSION, LogMel
from components.spectrograms import compute, step
from components.spectrograms.rows import RowFile
from mlops.artifacts import DatasetFolder
from mlops.spectrogram_cache.entries import SpectrogramCache
from mlops.storage import FolderStore
from pipeline.settings import PipelineSettings


def run(dataset: Path, tiny: PipelineSettings, folder: Path) -> step.Summary:
    return step.spectrograms(dataset, tiny.spectrograms, folder / "out", str(folder / "cache"))


def test_rows_are_the_spectrograms_of_the_clips_and_spec_describes_them(
    dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    assert run(dataset, tiny, tmp_path) == step.Summary(clips=50, computed=50)
    data = SpectrogramSet.open(tmp_path / "out")
    for row in (0, 17, 49):
        waveform = load(dataset / "audio" / data.clips["filename"].iat[row], tiny.spectrograms)
        expected = LogMel(tiny.spectrograms)(torch.from_numpy(waveform)).numpy()
        assert np.array_equal(data.spectrograms[row].astype(np.float32), expected)
    assert data.settings == tiny.spectrograms and data.spec["front_end"] == FRONT_END_VERSION
    record = DatasetFolder(dataset).record().to_dict()
    assert {key: record[key] for key in data.spec["dataset"]} == data.spec["dataset"]
    assert data.spec["dataset"]["origin"] == "demo"


def test_only_new_clips_are_computed(dataset: Path, tiny: PipelineSettings, tmp_path: Path) -> None:
    grown = shutil.copytree(dataset, tmp_path / "grown")
    clips = DatasetFolder(grown).clips()
    clips.iloc[1:].to_csv(grown / "clips.csv", index=False)
    assert run(grown, tiny, tmp_path).computed == 49
    (grown / "audio" / clips["filename"].iat[5]).rename(grown / "audio" / "renamed.wav")
    clips.loc[5, "filename"] = "renamed.wav"
    clips.iloc[1:].to_csv(grown / "clips.csv", index=False)
    assert run(grown, tiny, tmp_path).computed == 0
    clips.to_csv(grown / "clips.csv", index=False)
    assert run(grown, tiny, tmp_path).computed == 1


def test_the_result_does_not_depend_on_the_number_of_processes(
    dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    run(dataset, tiny, tmp_path / "one")
    step.spectrograms(
        dataset, tiny.spectrograms, tmp_path / "two" / "out", str(tmp_path / "two" / "cache"), processes=2
    )
    one, two = ((tmp_path / name / "out" / "spectrograms.npy").read_bytes() for name in ("one", "two"))
    assert one == two


def test_the_result_is_the_same_without_posix_fallocate(
    dataset: Path, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(dataset, tiny, tmp_path / "one")
    monkeypatch.delattr("os.posix_fallocate")  # macOS
    run(dataset, tiny, tmp_path / "two")
    one, two = ((tmp_path / name / "out" / "spectrograms.npy").read_bytes() for name in ("one", "two"))
    assert one == two
    assert len(RowFile.create(tmp_path / "empty.npy", (3, 4, 5)).path.read_bytes()) == 128 + 2 * 3 * 4 * 5


@pytest.mark.parametrize("count", [1, 3, 60])
def test_shards_fill_the_cache_and_do_not_change_the_result(
    count: int, dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    run(dataset, tiny, tmp_path / "whole")
    cache = str(tmp_path / "shards" / "cache")
    summaries = [
        step.fill_cache(dataset, tiny.spectrograms, cache, step.Shard.parse(f"{number}/{count}"))
        for number in range(1, count + 1)
    ]
    assert sum(one.clips for one in summaries) == sum(one.computed for one in summaries) == 50
    assert max(one.clips for one in summaries) - min(one.clips for one in summaries) <= 1
    assert run(dataset, tiny, tmp_path / "shards").computed == 0
    whole, shards = ((tmp_path / name / "out" / "spectrograms.npy").read_bytes() for name in ("whole", "shards"))
    assert whole == shards


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "a/b", "1/2/3", "-1/2", "1/0"])
def test_an_invalid_shard_is_refused(text: str) -> None:
    with pytest.raises(step.ShardError, match="an example is 2/8"):
        step.Shard.parse(text)


def test_a_missing_clip_is_an_error_and_no_output_is_left(
    dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    broken = shutil.copytree(dataset, tmp_path / "broken")
    name = DatasetFolder(broken).clips()["filename"].iat[30]
    (broken / "audio" / name).unlink()
    with pytest.raises(DatasetError, match=f"{name}.*run ingest again"):
        run(broken, tiny, tmp_path)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("how", ["alone", "shard", pytest.param("processes", marks=pytest.mark.slow)])
def test_a_clip_that_changed_after_ingest_does_not_enter_the_cache(
    how: str, dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    changed = shutil.copytree(dataset, tmp_path / "changed")
    clips = DatasetFolder(changed).clips()
    victim, other = clips["filename"].iat[30], clips["filename"].iat[31]
    shutil.copyfile(changed / "audio" / other, changed / "audio" / victim)  # still decodable
    cache = str(tmp_path / "cache")
    with pytest.raises(DatasetError, match=f"{victim}: the file changed after ingest; run ingest again"):
        if how == "shard":
            step.fill_cache(changed, tiny.spectrograms, cache, step.Shard(1, 1))
        else:
            processes = 2 if how == "processes" else 1
            step.spectrograms(changed, tiny.spectrograms, tmp_path / "out", cache, processes)
    assert not (tmp_path / "out").exists()
    entries = SpectrogramCache(FolderStore(Path(cache)), tiny.spectrograms)
    assert [*entries.get_many(clips["md5"].iloc[[30]])] == [None]


def test_an_interrupt_leaves_no_output_and_keeps_completed_entries(
    dataset: Path, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))

    def interrupted(*args: object) -> np.ndarray:
        if next(calls) == 20:
            raise KeyboardInterrupt
        return load(*args)

    monkeypatch.setattr(compute, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(dataset, tiny, tmp_path)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    monkeypatch.undo()
    assert run(dataset, tiny, tmp_path).computed == 30


def test_clips_of_any_rate_and_channels_get_the_same_shape(
    real_clips: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    import soundfile

    from components.ingest.step import ingest

    files = sorted((real_clips / "audio").glob("*.ogg"))
    infos = {file: soundfile.info(str(file)) for file in files[:700]}
    odd = {
        "stereo": next(file for file, info in infos.items() if info.channels == 2),
        "48 kHz": next(file for file, info in infos.items() if info.samplerate == 48000),
        "plain": files[0],
    }
    folder = tmp_path / "esc50"
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    lines = (real_clips / "meta" / "esc50.csv").read_text().splitlines()
    names = {file.name for file in odd.values()}
    (folder / "meta" / "esc50.csv").write_text(
        "\n".join([lines[0], *(line for line in lines if line.split(",")[0] in names)]) + "\n"
    )
    for file in odd.values():
        shutil.copyfile(file, folder / "audio" / file.name)

    ingest(str(folder), tiny.ingest.replace(min_clips_per_class=1), tiny.spectrograms, tmp_path / "dataset")
    run(tmp_path / "dataset", tiny, tmp_path)
    data = SpectrogramSet.open(tmp_path / "out")
    assert data.spectrograms.shape == (len(names), 64, 108)
    assert np.isfinite(data.spectrograms.astype(np.float32)).all()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_a_run_closes_its_files(dataset: Path, tiny: PipelineSettings, tmp_path: Path) -> None:
    run(dataset, tiny, tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    shutil.rmtree(tmp_path / "cache")
    run(dataset, tiny, tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
