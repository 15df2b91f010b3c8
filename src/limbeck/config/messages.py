"""Says in plain words what a value should have been."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ..errors import did_you_mean
from .marks import Mark, Node, Parts, Report, found, locate, show_path
from .schema import Recipe
from .spec import TAGS, Spec

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of at most 64 bits",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "none_required": "null",
}
_BOUNDS = {"greater_than": ("gt", ">"), "greater_than_equal": ("ge", ">="), "less_than": ("lt", "<"), "less_than_equal": ("le", "<=")}


def unknown_key(key: str, value: Any, place: str, known: Iterable[str]) -> str:
    """`unknown key of train (got 3). Did you mean 'epochs'?`"""
    known = sorted(known)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.85)
    misplaced = not near and key in elsewhere()
    hint = f" Did you mean {elsewhere()[key]!r}?" if misplaced else did_you_mean(key, known, count=1)
    if not hint and known:
        hint = f" Known: {', '.join(known[:25])}{' ...' if len(known) > 25 else ''}."
    return f"unknown key of {place} (got {found(value)}).{hint}"


def explain(error: ErrorDetails) -> str:
    """A pydantic error about a value as `expected ..., found ...`."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "literal_error":
        expected, hint = context["expected"], ""
        if isinstance(value, str):
            hint = did_you_mean(value, [choice.strip("' ") for choice in expected.replace(" or ", ",").split(",")], count=1)
        return f"expected {expected}, found {found(value)}.{hint}"
    if kind in _BOUNDS:
        name, sign = _BOUNDS[kind]
        return f"expected a number {sign} {context[name]:g}, found {found(value)}."
    if kind in ("too_short", "too_long"):
        return f"expected {context.get('min_length', context.get('max_length'))} values, found {context.get('actual_length')}."
    expected = _EXPECTED.get(kind)
    if expected is None:
        return f"{error['msg'][:1].lower()}{error['msg'][1:]}, found {found(value)}."
    hint = ""
    if kind in ("bool_type", "bool_parsing") and isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
        hint = f" ({value} is text in YAML 1.2)"
    if kind.startswith(("int", "float")) and isinstance(value, str):
        hint = " (text)"
    return f"expected {expected}, found {found(value)}{hint}."


def report_errors(report: Report, tree: Node, errors: Sequence[ErrorDetails], skip: Iterable[Parts] = ()) -> None:
    """Adds pydantic's errors about a whole recipe to the report.

    Args:
        report: receives the problems.
        tree: the recipe.
        errors: of the validation of the tree's plain values.
        skip: paths about which the report has already said more.
    """
    skipped = set(skip)
    for error in errors:
        path = tuple(part for part in error["loc"] if part not in TAGS)
        if any(path[: len(other)] == other for other in skipped):
            continue
        if error["type"] == "missing":
            field, section = field_of(path), show_section(path[:-1])
            about = f" {field}" if field else ""
            report.add(_missing_mark(tree, path), path, f"expected this key in {section}, found nothing.{about}")
        elif error["type"] == "extra_forbidden":
            model = model_of(path[:-1])
            known = model.keys() if model is not None else []
            report.at_key(tree, path, unknown_key(str(path[-1]), error["input"], show_section(path[:-1]), known))
        else:
            report.at_value(tree, path, explain(error))


def _missing_mark(tree: Node, path: Parts) -> Mark:
    return locate(tree, path[:-1], at_key=True)


def show_section(path: Sequence[str | int]) -> str:
    """What messages call a section: `train`, `stage 'warm'`, `the recipe`."""
    if not path:
        return "the recipe"
    if isinstance(path[-1], int):
        return show_path(path[-2:])
    if len(path) > 1 and path[-2] in ("stages", "teachers", "models", "objective", "views"):
        names = {"stages": "stage", "teachers": "teacher", "models": "model", "objective": "term", "views": "view"}
        return f"{names[str(path[-2])]} {path[-1]!r}"
    return str(path[-1])


def fields(model: type[BaseModel]) -> Mapping[str, Any]:
    """Key as it is written to field, without those that only the loader fills."""
    hidden = {"options", "schedules"} if model.__name__ == "TermSpec" else set()
    return {field.alias or name: field for name, field in model.model_fields.items() if name not in hidden}


def model_of(path: Sequence[str | int]) -> Mapping[str, Any] | None:
    """The known keys of the section at a path; None where there are no fixed ones."""
    annotation: Any = Recipe
    for part in path:
        model = next(_models(annotation), None)
        if model is None:
            return None
        if _is_mapping(annotation) or isinstance(part, int):
            annotation = model
            continue
        field = fields(model).get(str(part))
        if field is None:
            return None
        annotation = field.annotation
    model = next(_models(annotation), None)
    return fields(model) if model is not None and not _is_mapping(annotation) else None


def _is_mapping(annotation: Any) -> bool:
    if getattr(annotation, "__origin__", None) is dict:
        return True
    return not isinstance(annotation, type) and any(_is_mapping(arg) for arg in get_args(annotation))


def _models(annotation: Any) -> Iterator[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def field_of(path: Parts) -> str:
    """The first sentence of a key's description."""
    known = model_of(path[:-1])
    field = known.get(str(path[-1])) if known else None
    return (field.description or "").split("\n")[0] if field else ""


@cache
def elsewhere() -> dict[str, str]:
    """Keys that exist in exactly one section, with their full path: for a key put in the wrong place."""
    seen: dict[str, list[str]] = {}

    def walk(model: type[BaseModel], prefix: str) -> None:
        for key, field in fields(model).items():
            seen.setdefault(key, []).append(f"{prefix}{key}")
            below = next(_models(field.annotation), None)
            if below is not None and not _is_mapping(field.annotation):
                walk(below, f"{prefix}{key}.")

    walk(Recipe, "")
    best = {key: min(paths, key=len) for key, paths in seen.items()}
    return {key: path for key, path in best.items() if "." in path}
