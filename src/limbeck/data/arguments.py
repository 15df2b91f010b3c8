"""Builds a part of the data room (a source, a transform) from the arguments in a recipe, with errors that name them."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import DataError, did_you_mean
from ..parts import check_fields

T = TypeVar("T")


def build(cls: type[T], args: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `cls`, its arguments checked by name, type and bound.

    Raises:
        DataError: an argument that does not exist, is missing, or has the wrong type or value; lists the accepted ones.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # pyright: ignore[reportArgumentType]
    accepted = f"Accepted: {', '.join(fields)}." if fields else "It takes no arguments."
    for name in args:
        if name not in fields:
            raise DataError(f"{where}: no argument is called {name!r}.{did_you_mean(str(name), fields)} {accepted}")
    required = [n for n, f in fields.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in args]
    if missing:
        raise DataError(f"{where}: the argument {missing[0]!r} is missing. {accepted}")
    hints = get_type_hints(cls, include_extras=True)
    for name, value in args.items():
        if not _fits(value, hints[name]):
            raise DataError(f"{where}: {name} must be {describe_type(hints[name])}, got {value!r}.")
    try:
        made = cls(**args)
        check_fields(made)
    except ValueError as error:
        raise DataError(f"{where}: {error}.") from error
    return made


def describe_type(hint: Any) -> str:
    """A type in words, such as `a number or a list of numbers`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return describe_type(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(part) for part in inner)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inner))
    if origin in (list, tuple, Sequence):
        return f"a list ({describe_type(inner[0])} each)"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null", dict: "a mapping"}


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, inner[0])
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in inner)
    if origin is Literal:
        return value in inner
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(_fits(item, inner[0]) for item in value)
    return hint is Any or _is_a(value, origin or hint)


def _is_a(value: Any, cls: type[Any]) -> bool:
    if isinstance(value, bool) and cls in (int, float):
        return False
    return isinstance(value, int | float) if cls is float else isinstance(value, cls)
