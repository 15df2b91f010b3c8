"""The grammar of a tap: `PATH[:input|:output][.KEY]...[@CALL]`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from ..errors import TapError, did_you_mean

GRAMMAR = "PATH[:input|:output][.KEY]...[@CALL], such as layer3, encoder.layer.5:output.0 or blocks.3:input@1"


@dataclass(frozen=True)
class Tap:
    """One value of a forward pass."""

    path: str
    """Dotted name of the layer; empty for the model itself."""
    side: Literal["input", "output"] = "output"
    """Its result, or its first positional argument."""
    keys: tuple[int | str, ...] = ()
    """Which part of a tuple, dict or dataclass, from the outside in."""
    call: int | None = None
    """Which call, counted from 0, of a layer that runs several times in a forward."""

    def __str__(self) -> str:
        side = f":{self.side}" if self.keys or self.side == "input" else ""
        keys = "".join(f".{key}" for key in self.keys)
        return (self.path or ".") + side + keys + ("" if self.call is None else f"@{self.call}")


def parse_tap(text: str) -> Tap:
    """Reads a tap.

    Raises:
        TapError: where the text does not follow the grammar.
    """
    body, at, call = text.strip().partition("@")
    if at and not call.isdecimal():
        raise TapError(f"tap {text!r}: after '@' stands which call of the layer, counted from 0, got {call!r}.")
    path, colon, rest = body.partition(":")
    side, *keys = rest.split(".") if colon else ["output"]
    if side not in ("input", "output"):
        raise TapError(f"tap {text!r}: after ':' stands input or output, got {side!r}.{did_you_mean(side, ('input', 'output'))}")
    if not all(keys) or any(c.isspace() for c in path):
        raise TapError(f"tap {text!r} cannot be read; the form is {GRAMMAR}.")
    path = "" if path == "." else path
    numbers = [int(key) if key.removeprefix("-").isdecimal() else key for key in keys]
    return Tap(path, cast('Literal["input", "output"]', side), tuple(numbers), int(call) if at else None)


def pick(value: Any, keys: Sequence[int | str], text: str) -> Any:
    """The part of `value` under `keys`.

    Raises:
        TapError: where there is none; it names those that there are.
    """
    for key in keys:
        parts = parts_of(value)
        if key in parts:
            value = parts[key]
        elif isinstance(key, int) and -len(parts) <= key < len(parts):
            value = list(parts.values())[key]  # a mapping or dataclass by position
        else:
            hint = did_you_mean(str(key), map(str, parts)) if parts else ""
            raise TapError(f"tap {text!r}: there is no {key!r} in {summary(value)}.{hint}")
    return value


def parts_of(value: Any) -> dict[Any, Any]:
    """Key to part of a tuple, list, mapping, named tuple or dataclass; empty for anything else."""
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and type(value) is not tuple and isinstance(named := vars(type(value)).get("_fields"), tuple):
        return dict(zip(named, value, strict=True))
    if isinstance(value, (tuple, list)):
        return dict(enumerate(value))
    return {}


def summary(value: Any) -> str:
    """What `value` is, for a message: its type and the keys that it has."""
    parts = parts_of(value)
    if not parts:
        shape = getattr(value, "shape", None)
        return f"a {type(value).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else "")
    kinds = ", ".join(f"{key}: {type(part).__name__}" for key, part in list(parts.items())[:8])
    return f"a {type(value).__name__} with {kinds}"


def key_examples(value: Any, tap: Tap) -> list[str]:
    """Taps that would read a tensor out of `value`, which has several parts."""
    found: list[str] = []
    for key, part in parts_of(value).items():
        inner = dataclasses.replace(tap, keys=(*tap.keys, key))
        found += key_examples(part, inner) if parts_of(part) else [str(inner)] if hasattr(part, "shape") else []
    return found
