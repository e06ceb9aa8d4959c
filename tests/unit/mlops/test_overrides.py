"""Overrides (`--set KEY=VALUE`): errors name the option as it was typed."""

import pytest
from helpers.project import ROOT
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.strict_model import SettingsError
from mlops.settings import parse_overrides
from pipeline import settings as pipeline_settings


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["train=3", "train.epochs=3"], "--set train.epochs=3: train is already set to 3"),
        (["train.augment=x", "train.augment.mix.deep=3"], "train.augment is already set to 'x'"),
        (["train.epochs=2001-13-45"], "not valid YAML"),
        (["train.epochs"], "expected KEY=VALUE"),
    ],
)
def test_malformed_and_contradictory_overrides_are_refused(assignments: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_overrides(assignments)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.augment.mix_share=2", "--set train.augment.mix_share: should be less than or equal to 1, found 2"),
        ("train.architecture.width=wide", "--set train.architecture.width: should be a valid number, found 'wide'"),
        ("train.architecture={width: -1}", "--set train.architecture.width: should be greater than 0, found -1"),
        ("train.augment.mixing=none", "--set train.augment.mixing: unknown key; known keys: roll, "),
        ("train.epochs=0", "--set train.epochs: should be greater than 0, found 0"),
        ("train.hold_out=1", "--set train.hold_out: expected a list such as [1], found 1"),
        ("train.hold_out=[1, 2, 1]", "--set train.hold_out: 1 is duplicated, found (1, 2, 1)"),
        ("train.hold_out=[x]", "--set train.hold_out.0: should be a valid integer, found 'x'"),
        ("training.epochs=3", "--set training: unknown key; known keys: "),
        ("train.recipe=demo", "--set train.recipe: unknown key; known keys: "),
    ],
)
def test_a_wrong_override_is_named_with_its_value(assignment: str, message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        pipeline_settings.load(ROOT / "params.yaml", parse_overrides(["recipe=demo", assignment]))
    assert str(raised.value).startswith(message)


@given(st.lists(st.text(max_size=20), max_size=3))
def test_any_override_is_parsed_or_a_settings_error(assignments: list[str]) -> None:
    try:
        assert isinstance(parse_overrides(assignments), dict)
    except SettingsError as error:
        assert "--set" in str(error)
