"""Models to be ranked: how they are named, read from a file, and varied from the one that a recipe has."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..config.model_schema import ModelSpec
from ..errors import LimbeckError, RunError, did_you_mean
from ..run import recipe_file

FACTORS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Sizes that are tried of the recipe's own student, as multiples of its widths."""
KEYS = [name for name in ModelSpec.model_fields if name not in ("model", "args")]
_SIZES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Entry:
    """A model to be ranked."""

    name: str
    """As the user wrote it."""
    spec: ModelSpec


def read_candidates(texts: Sequence[str]) -> list[Entry]:
    """Candidates by name, or from files that list them.

    Each text is a YAML file with a list, the folder of a run, or a model with arguments: `convnet channels=[8,16]`,
    `timm:resnet18 weights=pretrained`. Entries of a file are such texts, or mappings as under `student:` of a recipe.

    Raises:
        RunError: for what is no candidate, with its place.
    """
    found: list[Entry] = []
    for text in texts:
        path = Path(text)
        if path.suffix in (".yaml", ".yml", ".json"):
            found += _file(path)
        else:
            found.append(_entry(text, text))
    names = [entry.name for entry in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RunError(f"the candidate {twice!r} is named twice.")
    return found


def _file(path: Path) -> list[Entry]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise RunError(f"{path}: is no valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, list) or not content:
        raise RunError(f"{path}: expected a list of models, such as `- convnet channels=[8,16]`, found {type(content).__name__}.")
    return [_entry(item, f"{path}: entry {number + 1}") for number, item in enumerate(content)]


def _entry(item: Any, place: str) -> Entry:
    if isinstance(item, str):
        return _text(item, place)
    if not isinstance(item, Mapping) or "model" not in item:
        raise RunError(f"{place}: expected a model, as text or as a mapping with `model`, found {item!r}.")
    told = {key: value for key, value in item.items() if key != "name"}
    shown = " ".join(f"{key}={value}" for key, value in {**(told.get("args") or {}), **told}.items() if key not in ("model", "args"))
    return Entry(str(item.get("name", f"{told['model']} {shown}".strip())), _spec(told, place))


def _text(text: str, place: str) -> Entry:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RunError(f"{place}: {error}") from error
    if not words:
        raise RunError(f"{place}: expected a model, found an empty text.")
    if (Path(words[0]) / "recipe.yaml").is_file():
        return Entry(text, _of_run(Path(words[0])))
    told: dict[str, Any] = {"model": words[0], "args": {}}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise RunError(f"{place}: expected KEY=VALUE after the model, such as channels=[8,16], found {word!r}.")
        try:
            (told if key in KEYS else told["args"])[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RunError(f"{place}: the value of {key} cannot be read; write it as in a recipe.") from error
    return Entry(text, _spec(told, place))


def _spec(told: Mapping[str, Any], place: str) -> ModelSpec:
    try:
        return ModelSpec.model_validate(dict(told))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        hint = did_you_mean(key, ModelSpec.model_fields) if first["type"] == "extra_forbidden" else ""
        raise RunError(f"{place}: {key}: {first['msg'].lower()}.{hint}") from error


def _of_run(folder: Path) -> ModelSpec:
    """The student of a finished run, with its weights."""
    from ..config.load import load_recipe

    loaded = load_recipe(recipe_file(folder), allow_code=True)
    if not (folder / "student" / "model.safetensors").is_file():
        raise RunError(f"{folder}: holds no student yet; the run is not finished.")
    return loaded.recipe.student.model_copy(update={"weights": str(folder.absolute())})


def variants(spec: ModelSpec) -> list[Entry]:
    """The recipe's student, narrower and wider: every number in its arguments that means a width, multiplied by `FACTORS`.

    Raises:
        RunError: where its arguments hold no such number.
    """
    found: dict[str, Entry] = {}
    for factor in FACTORS:
        args = {key: _scaled(value, factor) if key in WIDTHS else value for key, value in spec.args.items()}
        if args == spec.args and factor != 1.0:
            continue
        shown = " ".join(f"{key}={str(value).replace(' ', '')}" for key, value in args.items())
        name = f"{spec.model} {shown}".strip()
        found.setdefault(name, Entry(name, spec.model_copy(update={"args": args, "weights": None})))
    if len(found) < 2:
        raise RunError(f"no widths are found in the arguments of {spec.model!r} to vary. Name students with --candidates.")
    return list(found.values())


WIDTHS = ("channels", "hidden", "width", "hidden_size", "intermediate_size", "embed_dim")


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list | tuple):
        return [_scaled(item, factor) for item in value]
    return max(1, round(value * factor)) if isinstance(value, int) and not isinstance(value, bool) else value


def size_of(text: str, what: str) -> float:
    """A number such as `250000`, `1.5M` or `2e6`.

    Raises:
        LimbeckError: where it is none, or not above zero.
    """
    word = text.strip().lower().removesuffix("flops").removesuffix("bytes").removesuffix("b").strip()
    unit = word[-1:] if word[-1:] in _SIZES else ""
    try:
        value = float(word.removesuffix(unit)) * _SIZES[unit]
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise LimbeckError(f"--budget-{what}: expected a number above zero, such as 250k or 1.5M, found {text!r}.")
    return value
