"""Checks `data.select` of a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ..data.selection import SELECTIONS
from ..errors import LimbeckError, UnknownName
from ..registry import TEACHERS
from .arguments import check_fields, fields_of
from .compose import from_python, parse_override
from .data_schema import SelectSpec
from .marks import Mark, Node, Parts, Report, Source, found
from .messages import explain
from .terms import is_code


def check_selection(report: Report, tree: Node, path: Parts, method: str | None, models: Sequence[str], *, allow_code: bool) -> None:
    """A manifest, or a method with its own fields and an amount.

    Args:
        report: receives the problems.
        tree: the recipe.
        path: of `data.select`.
        method: a method that exists; None where there is none or another one was named.
        models: names of the models that can be asked.
        allow_code: whether local code may be imported for its fields.
    """
    node = tree.get(*path)
    if node is None or not isinstance(node.value, dict):
        return  # the recipe's own validation says it
    names = node.mapping
    if ("manifest" in names) == ("method" in names):
        report.at_key(tree, path, f"expected either a manifest or a method, found {'both' if 'method' in names else 'neither'}.")
        return
    if "method" in names and ("fraction" in names) == ("top" in names):
        report.at_key(tree, path, f"expected either `fraction` or `top`, found {'both' if 'top' in names else 'neither'}.")
    _fields(report, tree, path, node, method, allow_code=allow_code)
    teacher = names.get("teacher")
    if teacher is not None and teacher.text is not None and teacher.text not in models:
        report.at_value(tree, (*path, "teacher"), str(UnknownName("model of this recipe", teacher.text, models)))
    elif method is not None and "epochs" not in names and (allow_code or not is_code(method)):
        _answers(report, tree, path, method, models, allow_code=allow_code)


def _answers(report: Report, tree: Node, path: Parts, method: str, models: Sequence[str], *, allow_code: bool) -> None:
    """The teacher that is asked has a model of its own when the stage begins: it is no ensemble, no store and not made of the learner."""
    try:
        cls = SELECTIONS.get(method, allow_code=allow_code)
    except (LimbeckError, NameError, ImportError):
        return  # told where the fields are checked
    reads = {*cls.reads}
    defaults = {own.name: str(own.default) for own in dataclasses.fields(cls)}
    for judge in cls.judges:
        _judge(report, tree, (*path, judge), defaults[judge], models, allow_code=allow_code)
    if not reads & {"logits", "features", "losses"}:
        return
    named = tree.get(*path, "teacher")
    name = named.text if named is not None and named.text is not None else "teacher"
    kinds, able = answerable(tree, models, allow_code=allow_code)
    if name not in kinds or name in able:
        return
    text = (
        f"a selection asks one model, and {name!r} is a teacher of kind {kinds[name]!r}, which has none of its own when the stage begins."
    )
    text = f"{text} Name {' or '.join(map(repr, able))} with `teacher`, or train a model for the purpose with `epochs`."
    if named is None:
        report.at_key(tree, path, text)
    else:
        report.at_value(tree, (*path, "teacher"), text)


def _judge(report: Report, tree: Node, path: Parts, default: str, models: Sequence[str], *, allow_code: bool) -> None:
    """A further model that a method asks is one of the recipe's, with a model of its own."""
    named = tree.get(*path)
    name = named.text if named is not None and named.text is not None else default
    _, able = answerable(tree, models, allow_code=allow_code)
    if name in able:
        return
    if named is not None:
        report.at_value(tree, path, str(UnknownName("model of this recipe", name, able)))
    else:
        text = f"{path[-1]}: the method asks a model called {name!r}; name another with `{path[-1]}`, or write `models: {{{name}: ...}}`."
        report.at_key(tree, path[:-1], text)


def answerable(tree: Node, models: Sequence[str], *, allow_code: bool) -> tuple[dict[str, str | None], list[str]]:
    """Of all models their kinds, and those that have weights of their own to be asked."""
    kinds = {other: _kind(tree, other) for other in models}
    return kinds, [other for other, kind in kinds.items() if kind is None or _has_model(kind, allow_code=allow_code)]


def _kind(tree: Node, name: str) -> str | None:
    """The kind of a teacher; None of another model, and of a teacher that does not say."""
    for place in (("teachers", name), (name,) if name == "teacher" else ("teachers", name)):
        kind = tree.get(*place, "kind")
        if kind is not None and kind.text is not None:
            return kind.text
    return None


def _has_model(kind: str, *, allow_code: bool) -> bool:
    """Whether teachers of a kind have a model of their own; one that cannot be read is told elsewhere."""
    try:
        return is_code(kind) or TEACHERS.get(kind, allow_code=allow_code).source == "own"
    except LimbeckError:
        return True


def _fields(report: Report, tree: Node, path: Parts, node: Node, method: str | None, *, allow_code: bool) -> None:
    """The keys beside `method` are those of every selection and the fields of the method."""
    parameters = {}
    place = "data.select" if method is None else f"selection {method!r}"
    if method is not None and is_code(method) and not allow_code:
        return
    if method is not None:
        part = fields_of(report, tree, (*path, "method"), SELECTIONS, method, allow_code=allow_code)
        if part is None:
            return
        cls, parameters = part
        if "history" in cls.reads and "epochs" not in node.mapping:
            text = f"expected `epochs` for {method!r}, which watches a model while it is trained, found {found(None)}."
            report.at_key(tree, path, text)
    elif "method" in node.mapping:
        return
    check_fields(report, tree, path, parameters, SelectSpec.model_fields, place)


def selection_of(values: Mapping[str, Any], fields: Sequence[str], *, allow_code: bool) -> SelectSpec:
    """A selection from the words of a command, checked like that of a recipe.

    Args:
        values: the keys of `data.select`.
        fields: fields of the method as texts `key=value`, whose values are YAML.
        allow_code: whether local code may be imported for its fields.

    Raises:
        LimbeckError: the first thing that is wrong.
    """
    given = dict(values)
    for text in fields:
        if "=" not in text:
            raise LimbeckError(f"--field {text}: expected KEY=VALUE, such as balanced=true.")
        key, node = parse_override(text)
        given[key] = node.plain()
    method = str(given.get("method", ""))
    if not is_code(method) and method not in SELECTIONS.names():
        raise UnknownName(SELECTIONS.kind, method, SELECTIONS.names())
    report = Report()
    tree = from_python(given, Mark(Source("limbeck select", "set")), report, ())
    _fields(report, tree, (), tree, method, allow_code=allow_code)
    if report.problems:
        raise LimbeckError(f"{report.problems[0].key}: {report.problems[0].message}")
    try:
        return SelectSpec.model_validate(given)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise LimbeckError(f"--{detail['loc'][0]}: {explain(detail)}") from None
