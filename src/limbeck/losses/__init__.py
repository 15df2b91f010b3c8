"""One file, one published term. `from limbeck.losses import DKD` finds a class by its name, without a list to keep."""

from __future__ import annotations

from typing import Any

from ..registry import LOSSES


def __getattr__(name: str) -> Any:
    """The loss class called `name`; only its own file is imported."""
    for file in LOSSES.files():
        if file.replace("_", "") == name.lower():
            found = LOSSES.get(file)
            if found.__name__ == name:
                return found
    raise AttributeError(f"module 'limbeck.losses' has no attribute {name!r}")
