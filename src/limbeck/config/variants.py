"""A recipe with changes laid over it, each at its place: how the arms of a study become recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Problem, RecipeError
from .compose import Composer
from .load import LoadedRecipe, finish, overrides
from .marks import Node, file_name, found
from .references import find_path, folders_of, near_files

Change = tuple[str, Node]
"""A dotted key and its new value."""


@dataclass(frozen=True)
class Variant:
    """What one arm makes of a recipe."""

    name: str
    changes: tuple[Change, ...] = ()
    recipe: Node | None = None
    """The path of another recipe, which takes the place of the study's."""

    @property
    def plain(self) -> dict[str, Any]:
        """The changes without marks; with `recipe`, where another one is named."""
        own = {key: node.plain() for key, node in self.changes}
        return own if self.recipe is None else {"recipe": self.recipe.plain(), **own}


def laid(loaded: LoadedRecipe, variant: Variant, given: Mapping[str, Any] | Sequence[str] = ()) -> LoadedRecipe:
    """The recipe of an arm: that of the study without its section `study`, or another one, with the arm's changes.

    Args:
        loaded: the recipe with the study; what the command line changed in it is part of it.
        variant: the arm.
        given: the changes of the command line, for an arm that is another recipe.

    Raises:
        RecipeError: all problems, each at its place, with the arm in the key.
    """
    composer = Composer()
    path = loaded.path
    try:
        if variant.recipe is None:
            tree = (loaded.base or loaded.tree).without("study")
        else:
            path = other_recipe(loaded, variant.recipe)
            tree = composer.file(path, file_name(path)).without("study")
            for key, value in overrides(composer.report, given):
                tree = composer.override(tree, key, value).without("study")
        for key, value in variant.changes:
            tree = composer.override(tree, key, value)
        return finish(composer, tree, path, allow_code=loaded.allow_code)
    except RecipeError as error:
        raise RecipeError([named(problem, variant.name) for problem in error.problems]) from None


def named(problem: Problem, arm: str) -> Problem:
    """A problem of an arm."""
    key = f"study.arms.{arm}" + (f": {problem.key}" if problem.key else "")
    return Problem(problem.where, key, problem.message, problem.excerpt)


def other_recipe(loaded: LoadedRecipe, reference: Node) -> Path:
    """The file of another recipe, which stands beside the one that names it.

    Raises:
        RecipeError: there is no such file.
    """
    folders = folders_of(loaded.tree, reference)
    path = find_path(str(reference.value), folders)
    if path is None or not path.is_file():
        hint = near_files(str(reference.value), folders)
        message = f"expected the path of a recipe, found {found(reference.value)}, which does not exist.{hint}"
        raise RecipeError([Problem(reference.mark.where, "recipe", message, reference.mark.excerpt())])
    return path
