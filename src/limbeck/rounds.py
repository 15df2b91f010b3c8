"""What finished rounds leave behind, and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .engine.loop import Outcome

if TYPE_CHECKING:
    from .session import Session


@dataclass(frozen=True)
class Done:
    """A finished round, for the results."""

    name: str
    learner: str
    round: int
    outcome: Outcome


class Shelf(Protocol):
    """Keeps what finished phases have left, for other runs with the same phases."""

    def fetch(self, session: Session, number: int, began: tuple[int, float]) -> bool:
        """Puts the outcome of a phase into the session, where it is there. `began`: lines of metrics and seconds before it."""
        ...

    def keep(self, session: Session, number: int) -> None:
        """Takes the outcome of a phase that `fetch` did not find."""
        ...


def last_of(folder: Path, name: str) -> Path:
    """Where the last weights of a model are, if better ones were handed on."""
    return folder / "checkpoints" / f"last-{name}.safetensors"
