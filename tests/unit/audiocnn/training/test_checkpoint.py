"""A checkpoint comes back whole, or is refused in a sentence."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.training.checkpoint import CheckpointError, decode, encode

STATE = {"network": {"weight": torch.arange(6.0).reshape(2, 3)}, "step": 4, "history": [{"loss": 0.5}]}


def test_a_state_comes_back_as_it_was() -> None:
    found = decode(encode(STATE))
    assert torch.equal(found["network"]["weight"], STATE["network"]["weight"])
    assert found["step"] == 4 and found["history"] == STATE["history"]


@given(st.data())
def test_one_flipped_or_missing_byte_is_found(data: st.DataObject) -> None:
    content = encode(STATE)
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :]
    for broken in (flipped, content[:place]):
        with pytest.raises(CheckpointError, match="cut, damaged or no checkpoint"):
            decode(broken)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_in_a_sentence(content: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"^cannot resume from this checkpoint: [^\n]*$"):
        decode(content)


def test_nothing_in_a_checkpoint_is_executed() -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return exec, ("raise SystemExit('executed')",)

    with pytest.raises(CheckpointError, match=r"^cannot resume[^\n]*$"):
        decode(encode({"network": Evil()}))
    with pytest.raises(CheckpointError):
        decode(pickle.dumps(Evil()))
