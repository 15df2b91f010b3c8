"""The arms of a study as recipes: changes laid over the study's recipe, grids and lists of losses written out, every one checked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..config.load import LoadedRecipe
from ..config.marks import Node, locate
from ..config.render import flow
from ..config.study_schema import ArmSpec, StudySpec
from ..config.variants import Change, Variant, laid, named
from ..describe import describe
from ..errors import LimbeckError, Problem, RecipeError, UnknownName, did_you_mean
from ..preflight import preflight
from ..registry import LOSSES

DISTILLED = "distilled"
"""The arm of a recipe that names none."""
_KEPT = ("weight", "from", "only")
"""What a term keeps when another loss takes its place."""


@dataclass(frozen=True)
class Arm:
    """A variant of the recipe that can be run."""

    name: str
    changes: Mapping[str, Any]
    """What it changes, by dotted key."""
    loaded: LoadedRecipe


@dataclass
class Arms:
    """The arms of a study, in order, and what was found on the way."""

    found: list[Arm] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def seeds_of(spec: StudySpec) -> list[int]:
    """The seeds of a study, each once, in order."""
    return list(dict.fromkeys(spec.seeds)) if isinstance(spec.seeds, list) else list(range(spec.seeds))


def arms_of(loaded: LoadedRecipe, given: Mapping[str, Any] | Sequence[str] = (), *, device: str | None = None) -> Arms:
    """Every arm of a recipe's study, laid over it and checked.

    Args:
        loaded: the recipe.
        given: the changes of the command line, which also hold for arms that are other recipes.
        device: where they will run.
    """
    arms = Arms()
    spec = loaded.recipe.study or StudySpec()
    names: dict[str, str] = {}
    for origin, variant, optional in _variants(loaded, spec, arms):
        if variant.name in names:
            text = f"two arms are called {variant.name!r}: {names[variant.name]!r} and {origin!r}. Give one another name."
            arms.problems.append(_problem(loaded, origin, text))
            continue
        names[variant.name] = origin
        _check(loaded, variant, given, device, arms, optional=optional)
    _merge_problems(arms)
    if not arms.found and not arms.problems:
        arms.problems.append(
            loaded.problem("study.arms", "expected an arm that fits this recipe, found none; " + "; ".join(arms.notes[:3]))
        )
    return arms


def _check(
    loaded: LoadedRecipe, variant: Variant, given: Mapping[str, Any] | Sequence[str], device: str | None, arms: Arms, *, optional: bool
) -> None:
    """Adds an arm, or its problems; one that is optional and does not fit is left out with a note."""
    problems: Sequence[Problem]
    try:
        recipe = laid(loaded, variant, given)
        found = preflight(recipe, allow_code=loaded.allow_code, device=device)
        problems = [named(problem, variant.name) for problem in found.problems]
        arms.notes += [note for note in found.notes if note not in arms.notes]
        if not problems:
            arms.found.append(Arm(variant.name, variant.plain, recipe))
            return
    except RecipeError as error:
        problems = error.problems
    if optional:
        arms.notes.append(f"{variant.name} is left out: {problems[0].message}")
    else:
        arms.problems += problems


def _merge_problems(arms: Arms) -> None:
    """The same complaint about the same place, of several arms, is told once."""
    kept: dict[tuple[str, str], Problem] = {}
    also: dict[tuple[str, str], int] = {}
    for problem in arms.problems:
        key = (problem.where, problem.message)
        kept.setdefault(key, problem)
        also[key] = also.get(key, 0) + 1
    arms.problems = [
        replace(problem, key=f"{problem.key} (and {also[key] - 1} other arms)") if also[key] > 1 else problem
        for key, problem in kept.items()
    ]


# what the arms say


def _variants(loaded: LoadedRecipe, spec: StudySpec, arms: Arms) -> Iterator[tuple[str, Variant, bool]]:
    """The name under which an arm stands, the arm, and whether it may be left out."""
    written = loaded.tree.get("study", "arms")
    if written is None or not spec.arms:
        yield DISTILLED, Variant(DISTILLED), False
        return
    for name, own in spec.arms.items():
        node = written.mapping[name]
        try:
            yield from ((name, variant, optional) for variant, optional in _arm(loaded, name, node, own))
        except LimbeckError as error:
            arms.problems.append(_problem(loaded, name, str(error)))


def _arm(loaded: LoadedRecipe, name: str, node: Node, spec: ArmSpec) -> Iterator[tuple[Variant, bool]]:
    known = {info.alias or key for key, info in ArmSpec.model_fields.items()}
    changes = tuple((key, value) for key, value in node.mapping.items() if key not in known)
    forms = [key for key in ("recipe", "grid", "from") if node.mapping.get(key) is not None]
    if len(forms) > 1 and forms != ["recipe", "grid"]:
        raise LimbeckError(f"expected either {' or '.join(map(repr, forms))}, found both.")
    lists = [key for key in ("tags", "names", "without", "label") if key in node.mapping]
    if lists and spec.from_ is None:
        raise LimbeckError(f"{lists[0]!r} belongs to `from: losses`, found it without `from`.")
    recipe = node.mapping.get("recipe")
    if spec.from_ is not None:
        yield from _losses(loaded, name, spec, changes)
    elif spec.grid:
        yield from ((replace(variant, recipe=recipe), False) for variant in _grid(name, node.mapping["grid"], changes))
    else:
        yield Variant(name, changes, recipe), False


def _grid(name: str, grid: Node, changes: Sequence[Change]) -> Iterator[Variant]:
    """A variant for every combination; keys are shown by their last part, where that is enough."""
    keys = list(grid.mapping)
    short = {key: key.rpartition(".")[2] for key in keys}
    shown = short if len(set(short.values())) == len(keys) else {key: key for key in keys}
    lists = [node.value if isinstance(node.value, list) else [] for node in grid.mapping.values()]
    for values in itertools.product(*lists):
        label = ",".join([name, *(f"{shown[key]}={_value(node)}" for key, node in zip(keys, values, strict=True))])
        yield Variant(label, (*changes, *zip(keys, values, strict=True)))


def _value(node: Node) -> str:
    """A value in the name of an arm, which is also that of a folder."""
    text = flow(node.plain()).strip('"')
    return "".join(c if c.isalnum() or c in "._-+" else "_" for c in text)


def _losses(loaded: LoadedRecipe, name: str, spec: ArmSpec, changes: Sequence[Change]) -> Iterator[tuple[Variant, bool]]:
    """A variant for each loss of the families that are asked for, and for each that is named."""
    known = LOSSES.names()
    for other in (*spec.names, *spec.without):
        if other not in known:
            raise UnknownName("loss", other, known)
    if not spec.tags and not spec.names:
        raise LimbeckError("expected `tags` (families of losses, such as [logits]) or `names` beside `from: losses`, found neither.")
    terms = _terms(loaded, spec.label)
    docs = {other: describe(LOSSES, other) for other in known}
    for other in known:
        if other in spec.without or not (other in spec.names or docs[other].family in spec.tags):
            continue
        layers = docs[other].needs.get("features", "none") != "none"
        own = [(path, _term(node, other, layers=layers)) for path, node in terms.items()]
        yield Variant(other, (*own, *changes)), other not in spec.names


def _terms(loaded: LoadedRecipe, label: str) -> dict[str, Node]:
    """The terms that are called `label`, at the top of the recipe and in its stages, by dotted key.

    Raises:
        LimbeckError: there is none.
    """
    tree = loaded.base or loaded.tree
    stages = tree.mapping.get("stages")
    places = [("objective",), *(("stages", stage, "objective") for stage in (stages.mapping if stages is not None else ()))]
    found = {".".join((*place, label)): node for place in places if (node := tree.get(*place, label)) is not None}
    if not found:
        labels = sorted({key for place in places if (node := tree.get(*place)) is not None for key in node.mapping})
        close = did_you_mean(label, labels) or (f" Known: {', '.join(labels)}." if labels else "")
        raise LimbeckError(f"expected a term called {label!r} in the objective, in whose place losses are put, found none.{close}")
    return found


def _term(node: Node, loss: str, *, layers: bool) -> Node:
    """A term with another loss in its place: its weight and origin stay, and its layers where the loss reads layers."""
    kept = (*_KEPT, *(("student", "teacher", "layers") if layers else ()))
    items = {"loss": Node(loss, node.mark), **{key: value for key, value in node.mapping.items() if key in kept}}
    return Node(items, node.mark, {key: node.keys.get(key, node.mark) for key in items}, replaces=True)


def _problem(loaded: LoadedRecipe, name: str, message: str) -> Problem:
    path = ("study", "arms", name)
    mark = locate(loaded.tree, path, at_key=True)
    return Problem(mark.where, f"study.arms.{name}", message, mark.excerpt())
