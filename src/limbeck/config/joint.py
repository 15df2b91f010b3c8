"""Checks of a recipe with several data sets: their names, sources and labels, and which of them every term is for."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import UnknownName
from ..types import LabelKind
from .arguments import check_source_arguments
from .marks import Node, Parts, Report, found
from .references import JOINT, check_source
from .terms import Term

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_APART = ("args", "classes", "group", "mix", "pool")
"""Keys of `data` that are for one data set; `group` stands under `split`."""


def check_joint(report: Report, tree: Node, terms: Mapping[Parts, Term], labels: LabelKind | None) -> list[str]:
    """All checks of `data.datasets`, `data.only` and the terms' `only`; returns the local code that the data sets name.

    Args:
        report: receives the problems.
        tree: the recipe.
        terms: of all objectives.
        labels: what the labels of the task mean; None where there is no such task.
    """
    code: list[str] = []
    names = list(_datasets(tree))
    if labels is not None and (labels == "joint") != bool(names):
        _unfit(report, tree, labels)
        return code
    for name in names:
        path: Parts = ("data", "datasets", name)
        if not _LABEL.fullmatch(name):
            report.at_key(tree, path, f"expected a name of letters, digits, '_' and '-' that begins with a letter, found {found(name)}.")
        source = tree.get(*path, "source")
        if source is not None and (own := check_source(report, tree, (*path, "source"), source)) is not None:
            code.append(own)
        check_source_arguments(report, tree, path)
    if len(names) == 1:
        report.at_key(
            tree, ("data", "datasets"), "expected two or more data sets, found one. For one alone, use `source` and its own task."
        )
    stages = tree.mapping.get("stages")
    for prefix in ((), *(("stages", name) for name in (stages.mapping if stages is not None else ()))):
        _section(report, tree, (*prefix, "data"), names)
    for term in terms.values():
        _only(report, tree, term, names, labels)
    return code


def kind_of(tree: Node, term: Term, labels: LabelKind | None) -> LabelKind | None:
    """What the labels mean that a term reads: those of the task, or of the data set that the term is for; None where it is not known."""
    if labels != "joint":
        return labels
    only = term.node.get("only")
    own = tree.get("data", "datasets", only.text, "labels") if only is not None and only.text is not None else None
    return own.text if own is not None and own.text in ("class", "multilabel", "real") else None


def _datasets(tree: Node) -> Mapping[str, Node]:
    node = tree.get("data", "datasets")
    return node.mapping if node is not None else {}


def _unfit(report: Report, tree: Node, labels: LabelKind) -> None:
    """A task for one data set with several, or the other way round."""
    if labels == "joint":
        example = "`datasets: {first: {source: ..., labels: class}, second: {source: ..., labels: real}}`"
        report.at_key(tree, ("data",), f"expected several data sets for `task: joint`, such as {example}, found none.")
    else:
        report.at_key(
            tree, ("data", "datasets"), f"expected `task: joint` for several data sets, found a task for labels of kind {labels!r}."
        )


def _section(report: Report, tree: Node, path: Parts, names: list[str]) -> None:
    """The data of the recipe or of a stage: the same data sets everywhere, nothing that is for one only, and `only` by its names."""
    node = tree.get(*path)
    only = node.get("only") if node is not None else None
    for position, entry in enumerate(only.value if only is not None and isinstance(only.value, list) else ()):
        if entry.text is not None and entry.text not in names:
            hint = "" if names else "`only` is for several data sets; leave it out."
            report.at_value(tree, (*path, "only", position), str(UnknownName("data set", entry.text, names, hint)))
    if node is None or not names:
        return
    source = node.get("source")
    if source is not None and source.text not in (None, JOINT):
        report.at_value(tree, (*path, "source"), "expected either `source` or `datasets`, found both. Name it under `datasets`.")
    if len(path) > 1 and (own := node.get("datasets")) is not None and _differs(own, tree.get("data", "datasets")):
        report.at_key(
            tree, (*path, "datasets"), "expected the data sets of the whole recipe in every stage; choose among them with `only`."
        )
    for key in _APART:
        place = (*path, "split", key) if key == "group" else (*path, key)
        given = tree.get(*place)
        if given is not None and given.plain() not in (None, {}, []):
            report.at_key(tree, place, f"{key!r} is for one data set, and these are {len(names)}. Remove this key.")


def _differs(own: Node, whole: Node | None) -> bool:
    return whole is None or own.plain() != whole.plain()


def _only(report: Report, tree: Node, term: Term, names: list[str], labels: LabelKind | None) -> None:
    """A term is for one of the data sets, and says so where it must."""
    only = term.node.get("only")
    if only is not None and only.text is not None:
        if only.text not in names:
            hint = "" if names else "`only` is for several data sets (`task: joint`); remove this key."
            report.at_value(tree, (*term.path, "only"), str(UnknownName("data set", only.text, names, hint)))
        return
    needs = term.needs
    if labels != "joint" or needs is None or not names:
        return
    layers = term.node.get("student")
    reads_outputs = needs.logits and not (needs.features == "optional" and layers is not None)
    if needs.labels or reads_outputs:
        listed = ", ".join(names)
        text = f"expected `only` to say for which data set ({listed}), found nothing: every data set has outputs and labels of its own."
        report.at_key(tree, term.path, text)
