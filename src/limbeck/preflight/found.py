"""What the check found, and where it notes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .. import assemble
from ..config.load import LoadedRecipe
from ..errors import CodeNotAllowed, LimbeckError, NotFetched, Problem, RecipeError


@dataclass
class Preflight:
    """What the check found."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be checked, and what the user should know."""
    inferred: dict[str, Any] = field(default_factory=dict)
    """Values that follow from the models, such as adapters, by dotted key."""
    bytes_needed: int = 0
    """Least space that the run will take on disk."""
    facts: list[str] = field(default_factory=list)
    """What the recipe amounts to, a line each."""
    plan: list[str] = field(default_factory=list)
    """What would be trained, a line a stage."""

    def raise_problems(self) -> None:
        """Raises all problems at once, where there are any."""
        if self.problems:
            raise RecipeError(self.problems)


class Desk:
    """What every part of the check shares: the recipe, and the list of what was found.

    Attributes:
        own: the teachers that have a model of their own.
    """

    def __init__(self, loaded: LoadedRecipe, allow_code: bool) -> None:
        self.loaded, self.recipe, self.allow_code = loaded, assemble.located(loaded), allow_code
        self.found = Preflight()
        self.own = assemble.teacher_models(self.recipe, allow_code=allow_code)

    @contextmanager
    def at(self, key: str) -> Iterator[None]:
        """Turns what goes wrong inside into a problem at `key`."""
        try:
            yield
        except CodeNotAllowed as error:
            self.found.notes.append(f"{key}: {error} It was not checked.")
        except NotFetched as error:
            self.found.notes.append(f"{key}: {error} What depends on it was not checked.")
        except LimbeckError as error:
            self.problem(key, str(error))

    def problem(self, key: str, message: str) -> None:
        """Notes a problem at a key of the recipe."""
        named, _, rest = message.partition(": ")
        says_where = f".{key}".endswith(f".{named}")  # in a stage, an objective knows its own key alone
        self.found.problems.append(self.loaded.problem(key, rest if says_where and rest else message))
