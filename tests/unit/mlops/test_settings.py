"""Settings: what is wrong is named with file, line and key."""

from pathlib import Path

import pytest
import yaml
from helpers.project import ROOT
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.config import SpectrogramSettings, TrainSettings
from audiocnn.strict_model import SettingsError
from mlops.settings import parse_overrides
from pipeline import settings as pipeline_settings


def write(folder: Path, change: dict | None = None, text: str | None = None) -> Path:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key, value in (change or {}).items():
        *parents, leaf = key.split(".")
        node = values
        for parent in parents:
            node = node[parent]
        node[leaf] = value
    (folder / "recipes").mkdir(exist_ok=True)
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        (folder / "recipes" / recipe.name).write_text(recipe.read_text())
    path = folder / "params.yaml"
    path.write_text(text if text is not None else yaml.safe_dump(values, sort_keys=False))
    return path


def test_the_committed_settings_are_the_front_end_and_recipe_that_the_readme_names() -> None:
    loaded = pipeline_settings.load(ROOT / "params.yaml")
    assert (loaded.spectrograms.rate, loaded.spectrograms.n_mels, loaded.spectrograms.frames) == (22050, 128, 216)
    train = loaded.train
    assert (train.recipe, train.batch_size, train.epochs, train.lr, train.max_lr) == ("seed", 32, 100, 5e-4, 2e-3)
    assert (train.pct_start, train.weight_decay, train.label_smoothing) == (0.1, 0.01, 0.1)
    mixing = train.augment
    assert (mixing.mix, mixing.mix_alpha, mixing.mix_share) == ("mixup", 0.2, 0.3)
    assert (mixing.freq_mask, mixing.time_mask) == (30, 80)
    assert (train.architecture.width, train.architecture.dropout) == (1.0, 0.5)


def test_every_recipe_makes_complete_settings() -> None:
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert pipeline_settings.load(ROOT / "params.yaml", {"recipe": recipe.stem}).train.recipe == recipe.stem


def test_a_key_in_params_wins_over_the_recipe_and_an_override_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, {"train.epochs": 7})
    assert pipeline_settings.load(path).train.epochs == 7
    assert pipeline_settings.load(path, parse_overrides(["train.epochs=3"])).train.epochs == 3


@pytest.mark.parametrize(
    ("change", "key", "word"),
    [
        ({"train.epoch": 3}, "train.epoch", "unknown key"),
        ({"train.epochs": "ten"}, "train.epochs", "expected int"),
        ({"train.epochs": True}, "train.epochs", "expected int"),
        ({"train.epochs": 0}, "train.epochs", "above 0"),
        ({"train.batch_size": 1}, "train.batch_size", "at least 2"),
        ({"train.precision": "fp8"}, "train.precision", "'bf16'"),
        ({"train.architecture": {"dropout": 1.0}}, "train.architecture.dropout", "between 0 and 1"),
        ({"train.max_lr": float("nan")}, "train.max_lr", "finite"),
        ({"spectrograms.f_max": 11026.0}, "spectrograms.f_max", "half the rate"),
        ({"spectrograms.hop": 4096}, "spectrograms.hop", "n_fft"),
        ({"ingest.policy.silent": "ignore"}, "ingest.policy.silent", "expected one of"),
        ({"train.fold": -1}, "train.fold", "negative"),
        ({"train.seed": 99999999999999999999999}, "train.seed", "beyond 2**53"),
        ({"train.seed": 1e22}, "train.seed", "expected int"),
        ({"train.lr": 10**400}, "train.lr", "beyond 2**53"),
        ({"train.lr": "1e-4 or so"}, "train.lr", "expected float"),
        ({"train.lr": "1_0.5"}, "train.lr", "expected float"),
        ({"train.lr": "1e999"}, "train.lr", "finite"),
        ({"train.epochs": "1e2"}, "train.epochs", "expected int"),
        ({"spectrograms.n_mels": 514}, "spectrograms.n_mels", "bins (513)"),
        ({"train.augment": {"freq_mask": 129}}, "train.augment.freq_mask", "128 bands"),
        ({"train.augment": {"time_mask": 217}}, "train.augment.time_mask", "216 frames"),
        ({"register.name": "ü"}, "register.name", "a to z"),
        ({"register.name": "a\n"}, "register.name", "a to z"),
        ({"ingest.esc50_url": "https://"}, "ingest.esc50_url", "URL"),
        ({"deploy.inference": "localhost:8080"}, "deploy.inference", "URL"),
        ({"deploy.inference": "http://"}, "deploy.inference", "URL"),
        ({"deploy.inference": "http://127.0.0.1:99999"}, "deploy.inference", "URL"),
        ({"deploy.inference": "http://[::1"}, "deploy.inference", "URL"),
        ({"deploy.inference": "http://127.0.0.1:8080/\nx=y"}, "deploy.inference", "URL"),
        ({"deploy.metrics": "http://localhost:8080"}, "deploy.metrics", "port of deploy.inference, 8080"),
        ({"deploy.workers": 257}, "deploy.workers", "at most 256"),
        ({"deploy.max_request_bytes": 2**31}, "deploy.max_request_bytes", "at most 2147483647"),
    ],
)
def test_a_wrong_setting_is_named_with_file_line_and_key(tmp_path: Path, change: dict, key: str, word: str) -> None:
    path = write(tmp_path, change)
    with pytest.raises(SettingsError) as raised:
        pipeline_settings.load(path)
    message = str(raised.value)
    assert key in message and word in message and str(path) in message and "line" in message


def test_the_line_in_the_message_is_the_key_s_line(tmp_path: Path) -> None:
    path = write(tmp_path, {"train.epochs": "ten"})
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "epochs: ten" in text)
    with pytest.raises(SettingsError, match=f"line {line}:"):
        pipeline_settings.load(path)


def test_a_wrong_key_in_a_recipe_names_the_recipe_s_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    recipe = tmp_path / "recipes" / "seed.yaml"
    recipe.write_text(recipe.read_text().replace("time_mask: 80", "time_mask: wide"))
    with pytest.raises(SettingsError, match=r"seed\.yaml, line \d+: train\.augment\.time_mask"):
        pipeline_settings.load(path)


@pytest.mark.parametrize("text", ["1e-4", "+.0001", "1.E-04", "0.0001"])
def test_every_way_to_write_a_number_serves_where_one_is_expected(tmp_path: Path, text: str) -> None:
    assert pipeline_settings.load(write(tmp_path, {"train.lr": text})).train.lr == 1e-4
    assert pipeline_settings.load(ROOT / "params.yaml", parse_overrides([f"train.lr={text}"])).train.lr == 1e-4


def test_a_torchserve_elsewhere_may_answer_behind_one_address(tmp_path: Path) -> None:
    one = {f"deploy.{key}": "https://serving.example.org" for key in ("inference", "management", "metrics")}
    assert (
        pipeline_settings.load(write(tmp_path, {**one, "deploy.start": False})).deploy.metrics == one["deploy.metrics"]
    )


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes() + b"# caf\xe9\n")
    with pytest.raises(SettingsError, match=r"params\.yaml: is no text in UTF-8"):
        pipeline_settings.load(path)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["train=3", "train.epochs=3"], "'train.epochs=3': train is set to 3 as a whole"),
        (["train.augment=x", "train.augment.mix.deep=3"], "train.augment is set to 'x' as a whole"),
        (["train.epochs=2001-13-45"], "no YAML"),
    ],
)
def test_overrides_that_contradict_each_other_or_are_no_values_are_named(assignments: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_overrides(assignments)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.augment.mix_share=2", "override: train.augment.mix_share: must be between 0 and 1 (found 2)"),
        ("train.architecture.width=wide", "override: train.architecture.width: expected float, found str 'wide'"),
        (
            "train.architecture={width: -1}",
            "override: train.architecture.width: must be above 0 and at most 16 (found -1)",
        ),
        ("train.augment.mixing=none", "override: unknown key train.augment.mixing"),
        ("train.epochs=0", "override: train.epochs: must be above 0 (found 0)"),
        ("train.hold_out=1", "override: train.hold_out: expected a list such as [1], found int 1"),
        ("train.hold_out=[1, 2, 1]", "override: train.hold_out: 1 stands there twice"),
        ("train.hold_out=[x]", "override: train.hold_out: expected int, found str 'x'"),
    ],
)
def test_a_wrong_override_is_named_as_one_with_the_value_and_not_with_a_recipe_s_line(
    assignment: str, message: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        pipeline_settings.load(ROOT / "params.yaml", parse_overrides(["recipe=demo", assignment]))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("train: 2001-13-45", "no YAML"),
        ("train: [", "no YAML"),
        ("- 1", "mapping"),
        ("", "mapping"),
        ("ingest: {a: 1}\ningest: {b: 1}", "stands twice"),
    ],
)
def test_a_malformed_file_is_one_sentence(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        pipeline_settings.load(write(tmp_path, text=text))


def test_a_missing_file_block_or_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        pipeline_settings.load(tmp_path / "none.yaml")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    del values["deploy"]
    with pytest.raises(SettingsError, match="deploy is missing"):
        pipeline_settings.load(write(tmp_path, text=yaml.safe_dump(values)))
    with pytest.raises(SettingsError, match=r"no recipe 'best'.*demo, seed"):
        pipeline_settings.load(write(tmp_path, {"train.recipe": "best"}))


def test_settings_survive_the_way_through_a_pipeline_parameter() -> None:
    # KFP carries every number of a struct as a double.
    settings = pipeline_settings.load(ROOT / "params.yaml").train
    carried = {key: float(v) if type(v) is int else v for key, v in settings.to_dict().items()}
    assert TrainSettings.parse(carried, "parameter") == settings


@given(
    st.dictionaries(st.text(max_size=12), st.none() | st.booleans() | st.integers() | st.text(max_size=5), max_size=4)
)
def test_any_mapping_gives_settings_or_a_params_error(values: dict) -> None:
    with pytest.raises(SettingsError):
        SpectrogramSettings.parse(values, "anything")


@given(st.lists(st.text(max_size=20), max_size=3))
def test_any_override_gives_a_mapping_or_a_params_error(assignments: list[str]) -> None:
    try:
        assert isinstance(parse_overrides(assignments), dict)
    except SettingsError as error:
        assert "override" in str(error)


def test_clips_too_short_for_the_network_are_refused_with_the_frames_that_it_needs() -> None:
    given = parse_overrides(["spectrograms.seconds=0.7"])
    short = {"recipe": "demo", "augment": {"time_mask": 8}}
    with pytest.raises(SettingsError, match=r"a clip has 31 frames and the network needs 33; raise it, or lower"):
        pipeline_settings.load(ROOT / "params.yaml", {**given, "train": short})
    wider = {**short, "architecture": {"time_stride": 2}}
    assert pipeline_settings.load(ROOT / "params.yaml", {**given, "train": wider}).spectrograms.frames == 31
