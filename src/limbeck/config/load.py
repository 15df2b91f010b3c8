"""Loads a recipe: reads, composes, validates and checks it, and reports every problem at once with its place.

Nothing that a recipe names is executed, opened or downloaded, except a loss of the user's own when that is allowed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import Problem, RecipeError
from .checks import Checker
from .compose import Composer, from_python, parse_override
from .derived import from_teacher
from .marks import Mark, Node, Parts, Report, Source, file_name, found, locate, parse_path, show_path
from .messages import report_errors
from .references import find_path, folders_of
from .schema import Recipe
from .terms import Term, split_term


@dataclass(frozen=True)
class LoadedRecipe:
    """A valid recipe and where each of its values comes from."""

    recipe: Recipe
    path: Path | None
    """File of the recipe, as it was given; None for a Python mapping."""
    tree: Node
    """Every value that was set, with its mark; stages are complete."""
    code: list[str] = field(default_factory=list)
    """Local code that the recipe names, such as `my_module:MyLoss`; it runs only where that is allowed."""
    base: Node | None = None
    """The tree before stages were completed."""
    allow_code: bool = False

    def problem(self, key_path: Sequence[str | int] | str, message: str) -> Problem:
        """A problem found later, placed at the value of a key (or at its nearest parent that is written).

        Args:
            key_path: `objective.hint.student[0]`, or the parts of the path.
            message: what was expected and what was found.
        """
        parts = parse_path(key_path) if isinstance(key_path, str) else tuple(key_path)
        mark = locate(self.tree, parts)
        return Problem(mark.where, show_path(parts), message, mark.excerpt())

    def locate(self, key_path: Sequence[str | int] | str) -> Mark:
        """Where a value stands."""
        return locate(self.tree, parse_path(key_path) if isinstance(key_path, str) else key_path)

    def find(self, text: str, key_path: Sequence[str | int] | str = ()) -> Path | None:
        """The file or folder that a relative path in the recipe means; None where there is none.

        It is looked for beside the file that names it, beside the recipe, and in the working directory.
        """
        parts = parse_path(key_path) if isinstance(key_path, str) else tuple(key_path)
        return find_path(text, folders_of(self.tree, self.tree.get(*parts) or self.tree))

    def with_inferred(self, values: Mapping[str, Any]) -> LoadedRecipe:
        """The recipe with values that were worked out later, by dotted key; `resolved` marks them `# inferred`.

        Raises:
            RecipeError: the recipe with these values is not valid.
        """
        composer, tree = Composer(), self.base or self.tree
        mark = Mark(Source("inferred", "inferred"))
        for key, value in values.items():
            tree = composer.override(tree, key, from_python(value, mark, composer.report, parse_path(key)))
        return finish(composer, tree, self.path, allow_code=self.allow_code)

    def resolved(self, folder: Path | None = None, *, defaults: bool = True) -> str:
        """The whole recipe as YAML, with the origin of each value as a comment. It loads to an equal recipe.

        Args:
            folder: where the text will be kept, if elsewhere than the recipe: relative paths are rewritten to hold from there.
            defaults: write them, too. Without them something else can be laid over the text, such as another loss over a term, whose
                defaults would be keys that the other one does not know.
        """
        from .render import render

        return render(self, folder, defaults=defaults)


def load_recipe(
    source: str | Path | Mapping[str, Any],
    *,
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002  the name that users know from the command line
    allow_code: bool = False,
) -> LoadedRecipe:
    """Loads a recipe from a file or a Python mapping.

    Args:
        source: path of a YAML file, or the recipe as a mapping.
        set: overrides by dotted key, as a mapping of Python values or as texts `a.b=c` whose values are YAML; None or `null` removes.
        allow_code: whether losses given as `module:Class` may be imported, to check their hyper-parameters.

    Raises:
        RecipeError: all problems, each with its place.
    """
    composer = Composer()
    path: Path | None = None
    if isinstance(source, Mapping):
        tree = composer.mapping(source)
    else:
        path = Path(source)
        tree = composer.file(path, file_name(path))
    for key, value in overrides(composer.report, set):
        tree = composer.override(tree, key, value)
    return finish(composer, tree, path, allow_code=allow_code)


def overrides(report: Report, values: Mapping[str, Any] | Sequence[str]) -> list[tuple[str, Node]]:
    """The overrides as nodes, in order."""
    pairs: list[tuple[str, Node]] = []
    if isinstance(values, Mapping):
        for key, value in values.items():
            mark = Mark(Source(f"--set {key}={found(value)}", "set"))
            pairs.append((str(key), from_python(value, mark, report, parse_path(str(key)))))
        return pairs
    for text in [values] if isinstance(values, str) else values:
        try:
            pairs.append(parse_override(text))
        except RecipeError as error:
            report.include(error.problems)
    return pairs


def finish(composer: Composer, base: Node, path: Path | None, *, allow_code: bool) -> LoadedRecipe:
    """A composed recipe, validated and checked.

    Raises:
        RecipeError: all problems, those of the composer among them.
    """
    report = composer.report
    tree = composer.stages(from_teacher(base, report))
    if composer.incomplete:
        raise RecipeError(report.sorted())
    terms = _terms(report, tree, allow_code=allow_code)
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(_plain(tree, terms))
    except ValidationError as error:
        report_errors(report, tree, error.errors(include_url=False))
    except RecursionError:
        report.add(tree.mark, (), "expected a recipe of moderate depth, found one that is nested too deeply.")
    checker = Checker(tree, report, terms, allow_code=allow_code)
    checker.run()
    if report.problems or recipe is None:
        raise RecipeError(report.sorted())
    return LoadedRecipe(recipe, path, tree, checker.code, base, allow_code)


def _terms(report: Report, tree: Node, *, allow_code: bool) -> dict[Parts, Term]:
    """Every term of the top level and of the stages by its path."""
    places: list[Parts] = [("objective",)]
    stages = tree.mapping.get("stages")
    places += [("stages", name, "objective") for name in stages.mapping] if stages is not None else []
    for above in [(), *(("stages", name) for name in (stages.mapping if stages is not None else ()))]:
        peers = tree.get(*above, "peers")
        places += [(*above, "peers", name, "objective") for name in peers.mapping] if peers is not None else []
    terms: dict[Parts, Term] = {}
    for place in places:
        node = tree.get(*place)
        for label, value in node.mapping.items() if node is not None else ():
            if isinstance(value.value, dict):
                own = (*place, label)
                terms[own] = split_term(report, tree, own, value, allow_code=allow_code)
    return terms


def _plain(tree: Node, terms: Mapping[Parts, Term]) -> dict[str, Any]:
    """The values for pydantic, with every term in its split form."""
    values = tree.plain()
    for path, term in terms.items():
        section = values
        for part in path[:-1]:
            section = section[part]
        section[path[-1]] = term.plain()
    return values


def relative_to(path: Path, folder: Path) -> str:
    """A path as seen from a folder, with forward slashes; absolute where there is no way between them."""
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:
        return path.absolute().as_posix()
