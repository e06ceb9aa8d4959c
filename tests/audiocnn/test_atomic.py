"""Whole or not at all."""

from pathlib import Path

import pytest

from audiocnn.atomic import atomic_file, atomic_folder


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "new" / "a.txt") as part:
        part.write_text("one")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "one"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error), atomic_file(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "out") as part:
            (part / content).write_text(content)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_folder_and_no_rest(tmp_path: Path, error: type[BaseException]) -> None:
    with atomic_folder(tmp_path / "out") as part:
        (part / "a").write_text("old")
    with pytest.raises(error), atomic_folder(tmp_path / "out") as part:
        (part / "a").write_text("half")
        raise error
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_moved_into_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atomic_folder(tmp_path / "out") as part:
        (part / "a").write_text("old")
    rename = Path.replace

    def fail_second(self: Path, target: Path) -> Path:
        if target.name == "out" and (self / "b").exists():
            raise OSError("disk gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail_second)
    with pytest.raises(OSError, match="disk gone"), atomic_folder(tmp_path / "out") as part:
        (part / "b").write_text("new")
    assert (tmp_path / "out" / "a").read_text() == "old"
