"""Checkpoints: round trip, refusal of damaged content, and the fingerprint that names them."""

import pickle

import pytest
import torch
from helpers.networks import replace_settings
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.training.checkpoint import CheckpointError, decode, encode, fingerprint
from pipeline.settings import PipelineSettings

STATE = {"network": {"weight": torch.arange(6.0).reshape(2, 3)}, "step": 4, "history": [{"loss": 0.5}]}


def test_state_survives_encoding() -> None:
    found = decode(encode(STATE))
    assert torch.equal(found["network"]["weight"], STATE["network"]["weight"])
    assert found["step"] == 4 and found["history"] == STATE["history"]


@given(st.data())
def test_changed_and_truncated_checkpoints_are_refused(data: st.DataObject) -> None:
    content = encode(STATE)
    place = data.draw(st.integers(0, len(content) - 1))
    changed = content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :]
    for damaged in (changed, content[:place]):
        with pytest.raises(CheckpointError, match="truncated, damaged or not a checkpoint"):
            decode(damaged)


@given(st.binary(max_size=200))
def test_other_content_is_refused_in_one_sentence(content: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"^cannot resume from this checkpoint: [^\n]*$"):
        decode(content)


def test_code_in_a_checkpoint_is_not_executed() -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return exec, ("raise SystemExit('executed')",)

    with pytest.raises(CheckpointError, match=r"^cannot resume[^\n]*$"):
        decode(encode({"network": Evil()}))
    with pytest.raises(CheckpointError):
        decode(pickle.dumps(Evil()))


def test_fingerprint_depends_on_settings_data_and_code(tiny: PipelineSettings) -> None:
    settings = tiny.train
    name = fingerprint(settings, {"digest": "a"}, "1.0")
    assert name != fingerprint(settings.replace(max_lr=1e-3), {"digest": "a"}, "1.0")
    assert name != fingerprint(replace_settings(settings, mask_fill="zero"), {"digest": "a"}, "1.0")
    assert name != fingerprint(settings, {"digest": "b"}, "1.0")
    assert name != fingerprint(settings, {"digest": "a"}, "1.1")


def test_fingerprint_ignores_settings_that_do_not_change_weights(tiny: PipelineSettings) -> None:
    changed = tiny.train.replace(checkpoint_minutes=9.0, test_every=7, resident_mb=1.0, device="cuda:1")
    assert fingerprint(changed, {}, "") == fingerprint(tiny.train, {}, "")
