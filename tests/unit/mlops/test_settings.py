"""Settings: errors name file, line and key; recipes, params.yaml and overrides are merged in this order."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from helpers.project import ROOT
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from audiocnn.config import EvaluateSettings, SpectrogramSettings, TrainSettings
from audiocnn.strict_model import SettingsError
from mlops.settings import parse_overrides, resolve
from pipeline import settings as pipeline_settings

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))


def keys(values: Mapping[str, Any], prefix: str = "") -> set[str]:
    """The dotted keys of a nested mapping that have a value."""
    inner = [(f"{prefix}{key}", value) for key, value in values.items()]
    parts = [keys(value, f"{key}.") if isinstance(value, Mapping) else {key} for key, value in inner]
    return set().union(*parts)


def write(folder: Path, change: dict | None = None, text: str | None = None) -> Path:
    """Write params.yaml with changes, and the recipes, to a folder."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key, value in (change or {}).items():
        *parents, leaf = key.split(".")
        node = values
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    (folder / "recipes").mkdir(exist_ok=True)
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        (folder / "recipes" / recipe.name).write_text(recipe.read_text())
    path = folder / "params.yaml"
    path.write_text(text if text is not None else yaml.safe_dump(values, sort_keys=False))
    return path


def test_the_committed_settings_are_those_of_the_original_project() -> None:
    loaded = pipeline_settings.load(ROOT / "params.yaml")
    assert loaded.recipe == "seed"
    assert (loaded.spectrograms.rate, loaded.spectrograms.n_mels, loaded.spectrograms.frames) == (22050, 128, 216)
    train = loaded.train
    assert (train.batch_size, train.epochs, train.lr, train.max_lr) == (32, 100, 5e-4, 2e-3)
    assert (train.pct_start, train.weight_decay, train.label_smoothing) == (0.1, 0.01, 0.1)
    mixing = train.augment
    assert (mixing.mix, mixing.mix_alpha, mixing.mix_share) == ("mixup", 0.2, 0.3)
    assert (mixing.freq_mask, mixing.time_mask) == (30, 80)
    assert (train.architecture.width, train.architecture.dropout) == (1.0, 0.5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_makes_complete_settings(recipe: str) -> None:
    assert pipeline_settings.load(ROOT / "params.yaml", {"recipe": recipe}).recipe == recipe


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_key_is_set_in_params_and_in_a_recipe(recipe: str) -> None:
    params = keys(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert not params & keys(yaml.safe_load((ROOT / "recipes" / f"{recipe}.yaml").read_text()))


def test_all_recipes_set_the_same_keys() -> None:
    own = [keys(yaml.safe_load((ROOT / "recipes" / f"{recipe}.yaml").read_text())) for recipe in RECIPES]
    assert all(each == own[0] for each in own)


def test_params_win_over_the_recipe_and_overrides_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, {"train.epochs": 7})
    assert pipeline_settings.load(path).train.epochs == 7
    assert pipeline_settings.load(path, parse_overrides(["train.epochs=3"])).train.epochs == 3


def test_a_recipe_replaces_the_front_end_too(tmp_path: Path) -> None:
    path = write(tmp_path)
    recipe = yaml.safe_load((tmp_path / "recipes" / "seed.yaml").read_text())
    recipe["spectrograms"] |= {"rate": 44100, "f_max": 22050.0}
    (tmp_path / "recipes" / "wide.yaml").write_text(yaml.safe_dump(recipe))
    assert pipeline_settings.load(path, {"recipe": "wide"}).spectrograms.rate == 44100


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"train.epoch": 3}, "train.epoch", "unknown key"),
        ({"train.epochs": "ten"}, "train.epochs", "should be a valid integer, found 'ten'"),
        ({"train.epochs": True}, "train.epochs", "should not be a boolean, found true"),
        ({"train.epochs": None}, "train.epochs", "should be a valid integer, found null"),
        ({"train.lr": True}, "train.lr", "should not be a boolean"),
        ({"train.architecture": {"time_stride": 4}}, "train.architecture.time_stride", "unknown key"),
        ({"train.ema_horizon": 1000}, "train.ema_horizon", "less than or equal to 1"),
        ({"train.augment": {"tempo": 3}}, "train.augment.tempo", "less than or equal to 2"),
        ({"train.augment": {"roll": 1}}, "train.augment.roll", "should be a valid boolean"),
        ({"train.architecture": {"band_norm": 1}}, "train.architecture.band_norm", "should be a valid boolean"),
        ({"train.hold_out": [True]}, "train.hold_out", "should not be a boolean"),
        ({"train.epochs": 0}, "train.epochs", "greater than 0"),
        ({"train.batch_size": 1}, "train.batch_size", "greater than or equal to 2"),
        ({"train.precision": "fp8"}, "train.precision", "'bf16'"),
        ({"train.architecture": {"dropout": 1.0}}, "train.architecture.dropout", "less than 1"),
        ({"train.max_lr": float("nan")}, "train.max_lr", "finite"),
        ({"spectrograms": {"f_max": 11026.0}}, "spectrograms.f_max", "half the sample rate"),
        ({"spectrograms": {"hop": 4096}}, "spectrograms.hop", "n_fft (1024)"),
        ({"spectrograms": {"n_fft": 2**19}}, "spectrograms.n_fft", "clip lengths"),
        ({"ingest.policy.silent": "ignore"}, "ingest.policy.silent", "'error', 'quarantine' or 'warn'"),
        ({"train.fold": -1}, "train.fold", "greater than or equal to 0"),
        ({"train.seed": 99999999999999999999999}, "train.seed", "beyond 2**53"),
        ({"train.seed": 1e22}, "train.seed", "should be a valid integer"),
        ({"train.lr": 10**400}, "train.lr", "beyond 2**53"),
        ({"train.lr": "1e-4 or so"}, "train.lr", "should be a valid number"),
        ({"train.lr": "1_0.5"}, "train.lr", "should be a valid number"),
        ({"train.lr": "1e999"}, "train.lr", "finite"),
        ({"train.epochs": "1e2"}, "train.epochs", "should be a valid integer"),
        ({"spectrograms": {"n_mels": 514}}, "spectrograms.n_mels", "bins (513)"),
        ({"train.augment": {"freq_mask": 129}}, "train.augment.freq_mask", "128 mel bands"),
        ({"train.augment": {"time_mask": 217}}, "train.augment.time_mask", "216 frames"),
        ({"register.name": "ü"}, "register.name", "a to z"),
        ({"register.name": "a\n"}, "register.name", "a to z"),
        ({"register": None}, "register", "expected a mapping, found null"),
        ({"recipe": True}, "recipe", "unknown recipe true; known recipes in"),
        ({"ingest.esc50_url": "https://"}, "ingest.esc50_url", "URL"),
        ({"deploy.inference": "localhost:8080"}, "deploy.inference", "URL"),
        ({"deploy.inference": "http://"}, "deploy.inference", "URL"),
        ({"deploy.inference": "http://127.0.0.1:99999"}, "deploy.inference", "URL"),
        ({"deploy.inference": "http://[::1"}, "deploy.inference", "URL"),
        ({"deploy.inference": "http://127.0.0.1:8080/\nx=y"}, "deploy.inference", "URL"),
        ({"deploy.metrics": "http://localhost:8080"}, "deploy.metrics", "same port as deploy.inference"),
        ({"deploy.workers": 257}, "deploy.workers", "less than or equal to 256"),
        ({"deploy.backend": "tensorrt"}, "deploy.backend", "'auto', 'openvino', 'onnxruntime' or 'torch'"),
        ({"deploy.bf16": True, "deploy.backend": "torch"}, "deploy.bf16", "needs the backend openvino or auto"),
        ({"deploy.max_request_bytes": 2**31}, "deploy.max_request_bytes", "less than or equal to 2147483647"),
    ],
)
def test_a_wrong_setting_is_named_with_file_line_and_key(tmp_path: Path, change: dict, key: str, words: str) -> None:
    path = write(tmp_path, change)
    with pytest.raises(SettingsError) as raised:
        pipeline_settings.load(path)
    message = str(raised.value)
    assert re.match(rf"{re.escape(str(path))}, line \d+: {re.escape(key)}(\.\d)?: ", message), message
    assert words in message and len(message.splitlines()) == 1


def test_the_line_in_the_message_is_the_line_of_the_key(tmp_path: Path) -> None:
    path = write(tmp_path, {"train.epochs": "ten"})
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "epochs: ten" in text)
    with pytest.raises(SettingsError, match=f"line {line}:"):
        pipeline_settings.load(path)


def test_all_errors_are_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, {"train.epochs": 0, "ingest.subset": "esc20", "train.epoch": 3})
    with pytest.raises(SettingsError) as raised:
        pipeline_settings.load(path, parse_overrides(["evaluate.confidence=2", "training.epochs=3"]))
    assert len(str(raised.value).splitlines()) == 5
    assert sorted(re.findall(r"(?:line \d+:|--set) ([a-z_.]+): ", str(raised.value))) == [
        "evaluate.confidence",
        "ingest.subset",
        "train.epoch",
        "train.epochs",
        "training",
    ]


def test_a_wrong_key_in_a_recipe_names_the_file_of_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path)
    recipe = tmp_path / "recipes" / "seed.yaml"
    recipe.write_text(recipe.read_text().replace("time_mask: 80", "time_mask: wide"))
    with pytest.raises(SettingsError, match=r"seed\.yaml, line \d+: train\.augment\.time_mask"):
        pipeline_settings.load(path)


@pytest.mark.parametrize("text", ["1e-4", "+.0001", "1.E-04", "0.0001"])
def test_every_notation_of_a_number_is_accepted(tmp_path: Path, text: str) -> None:
    assert pipeline_settings.load(write(tmp_path, {"train.lr": text})).train.lr == 1e-4
    assert pipeline_settings.load(ROOT / "params.yaml", parse_overrides([f"train.lr={text}"])).train.lr == 1e-4


def test_a_torchserve_elsewhere_may_have_one_address(tmp_path: Path) -> None:
    one = {f"deploy.{key}": "https://serving.example.org" for key in ("inference", "management", "metrics")}
    loaded = pipeline_settings.load(write(tmp_path, {**one, "deploy.start": False}))
    assert loaded.deploy.metrics == one["deploy.metrics"]


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes() + b"# caf\xe9\n")
    with pytest.raises(SettingsError, match=r"params\.yaml: is not UTF-8 text"):
        pipeline_settings.load(path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("train: 2001-13-45", "not valid YAML"),
        ("train: [", "not valid YAML"),
        ("- 1", "mapping"),
        ("", "mapping of settings, found null"),
        ("ingest: {a: 1}\ningest: {b: 1}", "duplicated"),
    ],
)
def test_a_malformed_file_is_one_sentence(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        pipeline_settings.load(write(tmp_path, text=text))


def test_a_missing_file_block_or_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no such file; change to its folder, or name it with"):
        pipeline_settings.load(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        pipeline_settings.load(tmp_path)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for block in ("deploy", "register"):
        rest = {name: value for name, value in values.items() if name != block}
        with pytest.raises(SettingsError, match=f"{block}: is missing"):
            pipeline_settings.load(write(tmp_path, text=yaml.safe_dump(rest)))
    expected = r"line \d+: recipe: unknown recipe 'best'; known recipes in .*recipes: demo, seed, strong"
    with pytest.raises(SettingsError, match=expected):
        pipeline_settings.load(write(tmp_path, {"recipe": "best"}))


def test_a_misspelled_or_missing_recipe_key_is_named(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    name = values.pop("recipe")
    known = "known recipes in .*recipes: demo, seed, strong"
    with pytest.raises(SettingsError, match=rf"params\.yaml: recipe: is missing; {known}"):
        pipeline_settings.load(write(tmp_path, text=yaml.safe_dump(values)))
    path = write(tmp_path, text=yaml.safe_dump({**values, 1: 2, "recepie": name}))
    with pytest.raises(
        SettingsError, match=rf"line \d+: recepie: unknown key; the key of the recipe is `recipe`; {known}"
    ):
        pipeline_settings.load(path)


def test_one_block_is_validated_by_itself() -> None:
    resolved = resolve(ROOT / "params.yaml", parse_overrides(["evaluate.confidence=2"]))
    assert resolved.block("train", TrainSettings).epochs == 100
    with pytest.raises(SettingsError, match=r"--set evaluate\.confidence: "):
        resolved.block("evaluate", EvaluateSettings)
    with pytest.raises(SettingsError, match="--set training: unknown key"):
        resolve(ROOT / "params.yaml", parse_overrides(["training.epochs=3"])).block("train", TrainSettings)


def test_settings_survive_a_pipeline_parameter() -> None:
    """KFP sends every number of a struct as a double."""
    settings = pipeline_settings.load(ROOT / "params.yaml").train

    def as_doubles(value: object) -> object:
        if isinstance(value, dict):
            return {key: as_doubles(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [as_doubles(inner) for inner in value]
        return float(value) if type(value) is int else value

    received = TrainSettings.parse(as_doubles(settings.to_dict()), "parameter")
    assert received == settings
    assert json.dumps(received.to_dict()) == json.dumps(settings.to_dict())


def test_settings_are_frozen_and_hashable() -> None:
    settings = pipeline_settings.load(ROOT / "params.yaml").train
    with pytest.raises(ValidationError, match="frozen"):
        settings.epochs = 3  # type: ignore[misc]
    assert {settings: 1}[settings.replace(epochs=settings.epochs)] == 1


@given(
    st.dictionaries(st.text(max_size=12), st.none() | st.booleans() | st.integers() | st.text(max_size=5), max_size=4)
)
def test_any_mapping_is_valid_or_a_settings_error(values: dict) -> None:
    with pytest.raises(SettingsError):
        SpectrogramSettings.parse(values, "anything")


def test_clips_too_short_for_the_network_are_refused() -> None:
    overrides = parse_overrides(["recipe=demo", "spectrograms.seconds=0.75", "train.augment.time_mask=8"])
    expected = r"--set spectrograms\.seconds: a clip has 17 frames and the network needs 33"
    with pytest.raises(SettingsError, match=expected):
        pipeline_settings.load(ROOT / "params.yaml", overrides)


def test_the_schema_for_editors_is_up_to_date_and_accepts_the_files() -> None:
    assert pipeline_settings.SCHEMA.read_text(encoding="utf-8") == pipeline_settings.json_schema()
    schema = json.loads(pipeline_settings.json_schema())
    for path in (ROOT / "params.yaml", *(ROOT / "recipes").glob("*.yaml")):
        jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"train": {"epoch": 3}}, schema)
