"""A part is a dataclass that is also an `nn.Module`: its fields are its hyper-parameters, stated once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Self, get_args, get_origin, get_type_hints

import annotated_types
from torch import nn


class Part(nn.Module):
    """Base of losses and adapters.

    Fields are hyper-parameters, constructor arguments and recipe keys at once; bounds are part of their types and hold
    in Python and in YAML.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Prepares the module before the dataclass's `__init__` sets the fields."""
        self = super().__new__(cls)
        nn.Module.__init__(self)
        return self

    def __post_init__(self) -> None:
        check_fields(self)

    def extra_repr(self) -> str:
        """The hyper-parameters, for `print`."""
        return ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.init)  # pyright: ignore[reportArgumentType]


_COMPARISONS = {
    annotated_types.Gt: ("gt", ">", lambda value, bound: value > bound),
    annotated_types.Ge: ("ge", ">=", lambda value, bound: value >= bound),
    annotated_types.Lt: ("lt", "<", lambda value, bound: value < bound),
    annotated_types.Le: ("le", "<=", lambda value, bound: value <= bound),
}


def check_fields(part: Any) -> None:
    """Checks a dataclass's fields against the bounds and choices in their types.

    Raises:
        ValueError: `DKD.temperature must be > 0, got -1`; of one of several values `Focal.class_weights[2] must be >= 0, got -1`.
    """
    hints = get_type_hints(type(part), include_extras=True)
    for field in dataclasses.fields(part):
        if not field.init:
            continue
        value, hint = getattr(part, field.name), hints[field.name]
        where = f"{type(part).__name__}.{field.name}"
        if get_origin(hint) is Annotated:
            _check_bounds(where, value, get_args(hint)[1:])
        elif get_origin(hint) is Sequence and get_origin(get_args(hint)[0]) is Annotated:
            for number, item in enumerate(value):
                _check_bounds(f"{where}[{number}]", item, get_args(get_args(hint)[0])[1:])
        elif str(get_origin(hint)) == "typing.Literal" and value not in get_args(hint):
            raise ValueError(f"{where} must be one of {', '.join(map(repr, get_args(hint)))}, got {value!r}")


def _check_bounds(where: str, value: Any, bounds: tuple[Any, ...]) -> None:
    for bound in bounds:
        for kind, (attribute, sign, holds) in _COMPARISONS.items():
            if not isinstance(bound, kind):
                continue
            limit = getattr(bound, attribute)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not holds(value, limit):
                raise ValueError(f"{where} must be {sign} {limit}, got {value!r}")
