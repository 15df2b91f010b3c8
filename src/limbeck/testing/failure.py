"""What a check raises."""

from __future__ import annotations

from typing import Any


class ContractError(AssertionError):
    """A loss breaks the contract; the text says how and what to do."""


def demand(holds: Any, message: str) -> None:
    """Raises `ContractError` with `message` unless `holds`."""
    if not holds:
        raise ContractError(message)
