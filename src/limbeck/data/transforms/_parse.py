"""Reads the list of transforms of a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import DataError, LimbeckError
from ..arguments import build
from . import TRANSFORMS
from .base import Transform


def parse_transform(entry: str | Mapping[str, Any], *, allow_code: bool = False) -> Transform:
    """One transform from `name`, `{name: {argument: value}}` or `{name: value}` (its first argument).

    Raises:
        UnknownName: no such transform.
        DataError: an argument that it does not take; the message lists the accepted ones.
    """
    if isinstance(entry, str):
        name, args = entry, None
    elif isinstance(entry, Mapping) and len(entry) == 1:
        name, args = next(iter(entry.items()))
    else:
        raise DataError(f"data.transforms: each entry is a name or one {{name: {{argument: value}}}}, got {entry!r}.")
    if name.startswith("tv:"):
        from ._torchvision import torchvision_transform

        return torchvision_transform(name.removeprefix("tv:"), args)
    cls = TRANSFORMS.get(name, allow_code=allow_code)
    if args is not None and not isinstance(args, Mapping):
        fields = [f.name for f in dataclasses.fields(cls) if f.init]
        if not fields:
            raise DataError(f"transform {name!r}: It takes no arguments, got {args!r}.")
        args = {fields[0]: args}
    return build(cls, args or {}, f"transform {name!r}")


def parse_transforms(entries: Sequence[str | Mapping[str, Any]], *, allow_code: bool = False) -> list[Transform]:
    """All transforms of a list; the first faulty one is an error."""
    return [parse_transform(entry, allow_code=allow_code) for entry in entries]


def check_transforms(entries: Sequence[str | Mapping[str, Any]], *, kind: str | None = None) -> list[tuple[int, str]]:
    """Faults of a list of transforms, as (position, message); needs no data and runs no local code.

    Args:
        entries: the recipe's list.
        kind: kind of the data, to find transforms that do not apply to it; unchecked where None.
    """
    faults: list[tuple[int, str]] = []
    for position, entry in enumerate(entries):
        name = entry if isinstance(entry, str) else next(iter(entry), "") if isinstance(entry, Mapping) else ""
        if ":" in name and not name.startswith("tv:"):
            continue
        try:
            transform = parse_transform(entry)
        except LimbeckError as error:
            faults.append((position, str(error)))
            continue
        if kind is not None and kind not in transform.kinds:
            faults.append((position, f"transform {name!r} is for {' and '.join(transform.kinds)} data, the data are {kind}."))
    return faults
