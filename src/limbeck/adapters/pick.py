"""Picks the adapter that brings two example features together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import LimbeckError, ShapeMismatch, UnknownName
from ..registry import ADAPTERS
from .base import Adapter, Match, describe_shape


def agree(student: Tensor, teacher: Tensor, match: Match) -> bool:
    """Whether two features agree as `match` asks, the batch aside.

    `space` compares height and width of maps and the number of tokens; vectors have no space and agree with each other.
    """
    if match == "any":
        return True
    if match == "full" or student.ndim != teacher.ndim:
        return student.shape[1:] == teacher.shape[1:]
    return student.shape[1] == teacher.shape[1] if student.ndim == 3 else student.shape[2:] == teacher.shape[2:]


def pick(
    student: Tensor,
    teacher: Tensor,
    match: Match,
    kind: str = "auto",
    options: Mapping[str, Any] | None = None,
    *,
    allow_code: bool = False,
) -> Adapter | None:
    """The adapter for two example features, its parameters made; None where none is needed.

    Args:
        student: example feature of the student, batch first; parameters go to its device. Only its shape and type are read.
        teacher: example feature of the teacher; the same.
        match: what must agree.
        kind: `auto` picks from the shapes, `none` adds nothing, any other is the name of an adapter, which is used even where
            the shapes agree.
        options: fields of the adapter.
        allow_code: whether `kind` may be local code, `module:Class`.

    Raises:
        ShapeMismatch: where no adapter, or not the one that is named, brings the two together.
        UnknownName: an adapter or a field that does not exist.
        LimbeckError: a field's value that is out of bounds.
    """
    if kind == "none" or (kind == "auto" and agree(student, teacher, match)):
        if not agree(student, teacher, match):
            raise ShapeMismatch(f"{_both(student, teacher)}, and adapter: none leaves them so. Leave adapter out to have one picked.")
        return None
    part = _suited(student, teacher, match) if kind == "auto" else ADAPTERS.get(kind, allow_code=allow_code)
    adapter = _made(part, options or {})
    adapter.setup(student, teacher)
    return adapter


def _suited(student: Tensor, teacher: Tensor, match: Match) -> type[Adapter]:
    for name in ADAPTERS.names():
        part: type[Adapter] = ADAPTERS.get(name)
        if part.suits(student, teacher, match):
            return part
    what = "the spatial size" if match == "space" else "the shape"
    raise ShapeMismatch(
        f"{_both(student, teacher)}, the loss asks for {what} to agree, and no adapter brings them together. "
        "Tap other layers, or name an adapter of your own: adapter: {kind: 'module:Class'}."
    )


def _both(student: Tensor, teacher: Tensor) -> str:
    return f"the student's feature is {describe_shape(student)}, the teacher's {describe_shape(teacher)}"


def _made(part: type[Adapter], options: Mapping[str, Any]) -> Adapter:
    names = [f.name for f in dataclasses.fields(part) if f.init]  # pyright: ignore[reportArgumentType]
    kind = part.__module__.rpartition(".")[2]
    for name in options:
        if name not in names:
            raise UnknownName(f"option of adapter {kind!r}", name, names)
    try:
        return part(**options)
    except (ValueError, TypeError) as error:
        raise LimbeckError(f"adapter {kind!r}: {error}") from error
