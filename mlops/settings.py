"""The resolver of settings: params.yaml, a recipe and overrides -> validated models.

A recipe is an overlay: recipes/NAME.yaml has the same blocks as params.yaml, and the key `recipe` names it. The
committed files set every key in one place only; a key that params.yaml sets nevertheless wins over the recipe, and an
override (`--set`) wins over both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator

from audiocnn.strict_model import SettingsError, StrictModel, merge, shown

Model = TypeVar("Model", bound=StrictModel)
PARAMS = Path("params.yaml")
RECIPES = "recipes"  # directory beside params.yaml
RECIPE = "recipe"  # the key that names one
OVERRIDE = "--set"  # where an overridden key was set: the option of every command line
YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)  # invalid dates; too deeply nested brackets


def is_http_address(url: str) -> bool:
    """Return whether `url` is an http or https URL with a host."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # unbalanced brackets, a port above 65535
        return False
    return valid and url.isprintable() and " " not in url


def is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def _check_http_address(url: str) -> str:
    if not is_http_address(url):
        raise ValueError("should be a URL such as http://127.0.0.1:8080")
    return url


HttpAddress = Annotated[str, AfterValidator(_check_http_address)]


@dataclass(frozen=True)
class ResolvedSettings:
    """Merged settings that are not validated yet. The methods raise a SettingsError with file, line and key.

    Attributes:
        places: by dotted key, where it was set: "params.yaml, line 7", or "--set" for an override.
        where: the path of params.yaml, for errors about missing keys.
        unknown: blocks that only overrides set.
    """

    values: Mapping[str, Any]
    places: Mapping[str, str]
    where: str
    unknown: tuple[str, ...] = ()

    @property
    def recipe(self) -> str:
        return str(self.values[RECIPE])

    def parse(self, model: type[Model]) -> Model:
        """Validate everything, and report all errors at once."""
        return model.parse(self.values, self.where, self.places)

    def block(self, name: str, model: type[Model]) -> Model:
        if self.unknown:
            key = self.unknown[0]
            raise SettingsError(f"{_at(self.places[key])}{key}: unknown key; known keys: {', '.join(self.values)}")
        if name not in self.values:
            raise SettingsError(f"{self.where}: {name}: is missing")
        return model.parse(self.values[name], self.where, self.places, prefix=name)


def resolve(path: Path = PARAMS, overrides: Mapping[str, Any] | None = None, place: str = OVERRIDE) -> ResolvedSettings:
    """Merge the recipe, params.yaml and overrides such as {"train": {"epochs": 3}}.

    Args:
        place: where the overrides were set, for error messages.
    Raises:
        SettingsError: a file is missing or malformed, or the recipe is unknown.
    """
    values, places = _read(path)
    overrides = overrides or {}
    chosen = {RECIPE: place} if RECIPE in overrides else places
    recipe, recipe_places = _read(_recipe_file(path, merge(values, overrides), chosen))
    known = merge(recipe, values)
    unknown = tuple(block for block in overrides if block not in known)
    overridden = dict.fromkeys((*flatten(overrides), *unknown), place)
    return ResolvedSettings(merge(known, overrides), {**recipe_places, **places, **overridden}, str(path), unknown)


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """Parse ["train.epochs=3", ...] into nested overrides; values are YAML.

    Raises:
        SettingsError: an assignment is not of the form key=value, or sets a key within another assignment's value.
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        if not sign or not key.strip():
            raise SettingsError(f"{OVERRIDE} {assignment}: expected KEY=VALUE, for example train.epochs=3")
        try:
            value = yaml.safe_load(text)
        except YAML_ERRORS as error:
            raise SettingsError(f"{OVERRIDE} {assignment}: the value is not valid YAML: {error}") from error
        _assign(result, key.strip().split("."), value, assignment)
    return result


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one with dotted keys, for example {"train.epochs": 3}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def difference(values: Mapping[str, Any], base: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the overrides, nested, that turn the settings `base` into `values`.

    Raises:
        SettingsError: `values` lacks a key.
    """
    if removed := [key for key in base if key not in values]:
        raise SettingsError(
            f"{prefix}{removed[0]}: overrides cannot remove a key; commit the change and build an image"
        )
    changes: dict[str, Any] = {}
    for key, value in values.items():
        before = base.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if inner := difference(value, before, f"{prefix}{key}."):
                changes[key] = inner
        elif key not in base or value != before:
            changes[key] = value
    return changes


def _assign(target: dict[str, Any], key: list[str], value: Any, assignment: str) -> None:
    *parents, last = key
    for depth, name in enumerate(parents, 1):
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            whole = f"{'.'.join(parents[:depth])} is already set to {shown(target)}"
            raise SettingsError(f"{OVERRIDE} {assignment}: {whole}; remove one of the two")
    target[last] = value


def _recipe_file(params: Path, values: Mapping[str, Any], places: Mapping[str, str]) -> Path:
    directory = params.parent / RECIPES
    known = {recipe.stem: recipe for recipe in sorted(directory.glob("*.yaml"))}
    name, place = values.get(RECIPE), places.get(RECIPE, str(params))
    if isinstance(name, str) and name in known:
        return known[name]
    if RECIPE in values:
        problem = f"{_at(place)}{RECIPE}: unknown recipe {shown(name)}"
    elif similar := get_close_matches(RECIPE, map(str, values), n=1):
        problem = f"{places[similar[0]]}: {similar[0]}: unknown key; the key of the recipe is `{RECIPE}`"
    else:
        problem = f"{place}: {RECIPE}: is missing"
    raise SettingsError(f"{problem}; known recipes in {directory}: {', '.join(known) or 'none'}")


def _at(place: str) -> str:
    """Return the beginning of an error message: "params.yaml, line 7: ", or "--set " before a key."""
    return f"{place} " if place == OVERRIDE else f"{place}: "


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a YAML file's mapping, and the place of every key."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: there is no such file; change to its folder, or name it with --params") from error
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except YAML_ERRORS as error:
        raise SettingsError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected a mapping of settings, found {shown(values)}")
    places: dict[str, str] = {}
    _collect_places(node, str(path), "", places)
    return values, places


def _collect_places(node: yaml.Node | None, file: str, prefix: str, places: dict[str, str]) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value in node.value:
        key, place = f"{prefix}{key_node.value}", f"{file}, line {key_node.start_mark.line + 1}"
        if key in places:  # PyYAML would silently use the last one
            raise SettingsError(f"{place}: {key}: the key is duplicated")
        places[key] = place
        _collect_places(value, file, f"{key}.", places)
