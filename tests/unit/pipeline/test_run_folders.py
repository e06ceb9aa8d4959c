"""How many runs are kept."""

from pathlib import Path

import pytest

from pipeline.run_folders import UNFINISHED, run_folder


def create_run(name: str, successful: bool = True) -> str:
    """Run nothing, and return the folder's name."""
    try:
        with run_folder(name) as (folder, _):
            (folder / "ingest").mkdir()
            if not successful:
                raise RuntimeError
    except RuntimeError:
        assert not successful
    return folder.name


def remaining() -> set[str]:
    return {path.name for path in Path("var/runs").iterdir() if path.is_dir()}


def test_the_three_newest_successful_runs_are_kept(workplace: Path) -> None:
    other = create_run("training-twice")
    names = [create_run("training") for _ in range(5)]
    assert remaining() == {other, *names[-3:]}


def test_the_newest_unsuccessful_run_is_kept(workplace: Path) -> None:
    successful = [create_run("training") for _ in range(3)]
    failed = [create_run("training", successful=False) for _ in range(3)]
    assert remaining() == {*successful, failed[-1]}
    assert (Path("var/runs") / failed[-1] / UNFINISHED).exists()
    newest = create_run("training")
    assert remaining() == {*successful[1:], newest, failed[-1]}


def test_a_run_does_not_remove_itself(workplace: Path) -> None:
    with run_folder("training") as (first, log):
        with run_folder("training") as (second, _):
            create_run("training", successful=False)
            assert first.is_dir() and second.is_dir()
        assert first.is_dir()
    assert log == Path("var/logs") / f"{first.name}.log"


def test_other_folders_are_not_touched(workplace: Path) -> None:
    kept = Path("var/runs/training-best")
    kept.mkdir(parents=True)
    for _ in range(4):
        create_run("training")
    assert kept.is_dir()


@pytest.mark.parametrize("name", ["training", "crossval", "sweep"])
def test_runs_of_each_pipeline_are_counted_separately(name: str, workplace: Path) -> None:
    names = [create_run(name) for _ in range(3)]
    create_run("other")
    assert set(names) < remaining()
