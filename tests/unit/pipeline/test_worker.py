"""What a container's engine sends, as whole lines."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.worker import lines


@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=20), max_size=6), st.data())
def test_lines_are_whole_wherever_the_engine_cuts_them(said: list[str], data: st.DataObject) -> None:
    content = "".join(line + "\n" for line in said).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    pieces = [content[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    assert list(lines(pieces)) == [line + "\n" for line in said]


def test_a_last_line_without_an_end_is_not_lost() -> None:
    assert list(lines([b"one\ntw", b"o"])) == ["one\n", "two\n"]
