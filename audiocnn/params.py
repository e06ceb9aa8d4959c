"""params.yaml <-> frozen typed settings. Unknown keys, wrong types, impossible values are errors with their line."""

import dataclasses
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from audiocnn.errors import AudioCNNError
from audiocnn.settings import (
    DeploySettings,
    EvaluateSettings,
    IngestSettings,
    PromoteSettings,
    RegisterSettings,
    SpectrogramSettings,
    TrainSettings,
)

Settings = TypeVar("Settings")
RECIPES = "recipes"
LARGEST = 2**53  # Kubeflow carries every number as a double, which holds whole numbers up to it
NO_YAML = (yaml.YAMLError, ValueError, RecursionError)  # dates that are none, brackets without end
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


class ParamsError(AudioCNNError):
    """A settings file or an override that cannot be used; the message names the file, the line and the key."""


@dataclass(frozen=True)
class Params:
    """All settings of one run: one block a step, as in params.yaml."""

    ingest: IngestSettings
    spectrograms: SpectrogramSettings
    train: TrainSettings
    evaluate: EvaluateSettings
    register: RegisterSettings
    promote: PromoteSettings
    deploy: DeploySettings

    def __post_init__(self) -> None:
        limits = {"freq_mask": ("bands", self.spectrograms.n_mels), "time_mask": ("frames", self.spectrograms.frames)}
        for key, (what, limit) in limits.items():
            if (width := getattr(self.train.augment, key)) > limit:
                raise ValueError(f"train.augment.{key}: {width} is more than the {limit} {what} of a spectrogram")
        if (frames := self.spectrograms.frames) < (least := self.train.architecture.least_frames):
            raise ValueError(
                f"spectrograms.seconds: a clip has {frames} frames and the network needs {least}; raise it, or lower "
                f"spectrograms.hop or train.architecture.time_stride"
            )


@dataclass
class _Source:
    """Where each key of a merged mapping came from: dotted key -> "file, line n"."""

    places: dict[str, str] = field(default_factory=dict)

    def of(self, key: str, default: str) -> str:
        return self.places.get(key, default)


def load(path: Path = Path("params.yaml"), overrides: Mapping[str, Any] | None = None) -> Params:
    """Read `path`, the recipe that its `train.recipe` names, and `overrides` on top.

    Args:
        path: a params.yaml; recipes are looked up in `recipes/` beside it.
        overrides: nested like the file, for example {"train": {"epochs": 3}}; they win over everything.
    Raises:
        ParamsError: the file, the recipe or an override is missing, malformed or impossible.
    """
    source = _Source()
    merged = _merge(_read(path, source, ""), overrides or {}, source, "")
    train = merged.get("train")
    if isinstance(train, Mapping):
        merged["train"] = _with_recipe(path, train, source)
    return _build(Params, merged, source, str(path), "")


def parse(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Build one settings block from a mapping (a KFP parameter, a model file).

    Raises:
        ParamsError: naming `where` and the key.
    """
    return _build(kind, values, _Source(), where, "")


def change(settings: Settings, changes: Mapping[str, Any], where: str) -> Settings:
    """A settings block with some keys changed, nested ones too: {"epochs": 3, "augment": {"mix": "power"}}.

    Raises:
        ParamsError: naming `where` and the key.
    """
    return _build(type(settings), _merge(as_dict(settings), changes, _Source(), ""), _Source(), where, "")


def as_dict(settings: Any) -> dict[str, Any]:
    """Settings as plain JSON and YAML types; `parse` turns them back."""

    def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in pairs}

    return dataclasses.asdict(settings, dict_factory=plain)


def override(assignments: list[str]) -> dict[str, Any]:
    """Parse `["train.epochs=3", ...]` into nested overrides; values are YAML scalars or lists.

    Raises:
        ParamsError: an assignment is not of the form key=value, or sets a key within what another set to a value.
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if not sign or not key.strip():
            raise ParamsError(f"override {assignment!r}: expected block.key=value, for example train.epochs=3")
        node = result
        *parents, leaf = key.strip().split(".")
        for depth, parent in enumerate(parents, 1):
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                whole = ".".join(parents[:depth])
                raise ParamsError(
                    f"override {assignment!r}: {whole} is set to {node!r} as a whole; leave out one of both"
                )
        try:
            node[leaf] = yaml.safe_load(value)
        except NO_YAML as error:
            raise ParamsError(f"override {assignment!r}: the value is no YAML: {error}") from error
    return result


def _with_recipe(path: Path, train: Mapping[str, Any], source: _Source) -> dict[str, Any]:
    name = train.get("recipe")
    folder = path.parent / RECIPES
    file = folder / f"{name}.yaml"
    if not isinstance(name, str) or not file.is_file():
        known = ", ".join(sorted(recipe.stem for recipe in folder.glob("*.yaml"))) or "none"
        where = source.of("train.recipe", str(path))
        raise ParamsError(f"{where}: train.recipe: there is no recipe {name!r} in {folder}; there are: {known}")
    recipe_source = _Source()
    recipe = _read(file, recipe_source, "train.")
    source.places = {**recipe_source.places, **source.places}
    return _merge(recipe, train, _Source(), "")


def _read(path: Path, source: _Source, prefix: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: is no text in UTF-8 ({error.reason} at byte {error.start})") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except NO_YAML as error:
        raise ParamsError(f"{path}: is no YAML: {error}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: expected a mapping of settings, found {type(values).__name__}")
    _note_lines(node, str(path), prefix, source)
    return values


def _note_lines(node: yaml.Node | None, file: str, prefix: str, source: _Source) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        place = f"{file}, line {key.start_mark.line + 1}"
        if key.value in seen:
            raise ParamsError(f"{place}: {prefix}{key.value}: the key stands twice")
        seen.add(key.value)
        source.places[prefix + key.value] = place
        _note_lines(value, file, f"{prefix}{key.value}.", source)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], source: _Source, prefix: str) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value, source, f"{prefix}{key}.")
        else:
            merged[key] = value
            _note_override(f"{prefix}{key}", value, source)
    return merged


def _note_override(key: str, value: Any, source: _Source) -> None:
    source.places[key] = "override"
    if isinstance(value, Mapping):  # taken over whole where the file has no such block; a recipe may have
        for name, inner in value.items():
            _note_override(f"{key}.{name}", inner, source)


def _build(kind: type[Settings], values: Any, source: _Source, where: str, prefix: str) -> Settings:
    if not isinstance(values, Mapping):
        raise ParamsError(f"{source.of(prefix[:-1], where)}: {prefix[:-1] or 'settings'}: expected a mapping")
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in values:
        if key not in fields:
            known = ", ".join(fields)
            raise ParamsError(f"{source.of(f'{prefix}{key}', where)}: unknown key {prefix}{key}; known keys: {known}")
    missing = [name for name in fields if name not in values]
    if missing:
        raise ParamsError(f"{source.of(prefix[:-1], where)}: {prefix}{missing[0]} is missing")
    built = {name: _convert(hints[name], value, source, where, prefix + name) for name, value in values.items()}
    try:
        return kind(**built)
    except ValueError as error:
        name = str(error).split(" ", 1)[0].rstrip(":")
        found = f" (found {values[name]!r})" if name in values and "found" not in str(error) else ""
        raise ParamsError(f"{source.of(f'{prefix}{name}', where)}: {prefix}{error}{found}") from error


def _convert(hint: Any, value: Any, source: _Source, where: str, key: str) -> Any:
    """`value` as the type `hint`, or an error; a number serves as a float and nothing else is cast."""
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, source, where, f"{key}.")  # type: ignore[arg-type]
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        allowed = ", ".join(map(repr, get_args(hint)))
        raise ParamsError(f"{source.of(key, where)}: {key}: expected one of {allowed}, found {value!r}")
    if get_origin(hint) is tuple:
        return _several(get_args(hint)[0], value, source, where, key)
    if get_origin(hint) in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        return _convert(get_args(hint)[0], value, source, where, key)
    if hint in (int, float):
        value = _number(hint, value, source.of(key, where), key)
    if type(value) is hint:
        return value
    raise ParamsError(f"{source.of(key, where)}: {key}: expected {hint.__name__}, found {_shown(value)}")


def _several(hint: Any, values: Any, source: _Source, where: str, key: str) -> tuple[Any, ...]:
    """A list's values, each as the type `hint`; they name things, so none may stand there twice."""
    if not isinstance(values, list | tuple):
        raise ParamsError(f"{source.of(key, where)}: {key}: expected a list such as [1], found {_shown(values)}")
    converted = tuple(_convert(hint, value, source, where, key) for value in values)
    if twice := [value for number, value in enumerate(converted) if value in converted[:number]]:
        raise ParamsError(f"{source.of(key, where)}: {key}: {twice[0]!r} stands there twice")
    return converted


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


def _number(hint: type, value: Any, place: str, key: str) -> Any:
    """`value` as the type `hint`, int or float, where it is such a number; else as it is."""
    if hint is float and isinstance(value, str) and NUMBER.fullmatch(value):
        return float(value)  # YAML 1.1 takes 1e-4, without a point, for text
    if type(value) is int and abs(value) > LARGEST:
        raise ParamsError(f"{place}: {key}: {value} is beyond 2**53, the largest whole number that is kept")
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is int and type(value) is float and value.is_integer() and abs(value) <= LARGEST:
        return int(value)  # KFP carries every number of a struct as a double
    return value
