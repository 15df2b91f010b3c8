"""Checks `data.rollouts` of a recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import UnknownName
from ..types import WRITES
from .marks import Node, Parts, Report
from .rollout_schema import RolloutSpec
from .selection import answerable

_NAMED = re.compile(r"(?<!\{)\{(right|wrong)\}")


def check_rollouts(report: Report, tree: Node, prefix: Parts, models: Sequence[str], *, allow_code: bool) -> None:
    """Who writes, how a right reply is known, and whether what is kept gives the views what they name.

    Args:
        report: receives the problems.
        tree: the recipe.
        prefix: of the stage; empty of the recipe itself.
        models: names of the models of the recipe.
        allow_code: whether local code may be imported.
    """
    path: Parts = (*prefix, "data", "rollouts")
    node = tree.get(*path)
    if node is None or not isinstance(node.value, dict):
        return
    task = tree.get("task")
    if task is not None and task.text is not None and ":" not in task.text and task.text not in WRITES:
        report.at_key(tree, path, f"replies are written by models of {' and '.join(WRITES)}, and this is {task.text}. Remove it.")
        return
    if tree.get(*prefix, "data", "select") is not None:
        report.at_key(tree, path, "expected either `select` or `rollouts` in a stage, found both. Limit the questions with data.limit.")
    given = node.mapping.get("file")
    if given is not None and given.value is not None:
        defaults = RolloutSpec.model_fields  # a resolved recipe holds every default
        others = [
            name for name, own in node.mapping.items() if name in defaults and name != "file" and own.plain() != defaults[name].default
        ]
        if others:
            report.at_key(tree, (*path, others[0]), f"with `file` nothing is written, found `{others[0]}`. Remove one of them.")
        return
    _writer(report, tree, prefix, path, models, allow_code=allow_code)
    _answer(report, tree, path, node)
    _numbers(report, tree, path, node)
    _views(report, tree, prefix, path, node)


def _writer(report: Report, tree: Node, prefix: Parts, path: Parts, models: Sequence[str], *, allow_code: bool) -> None:
    """Who writes is a model of the recipe with weights of its own when the stage begins."""
    named = tree.get(*path, "by")
    if named is not None and named.text is None:
        return  # the recipe's own validation says it
    name = named.text if named is not None and named.text is not None else RolloutSpec().by
    place = (*path, "by")
    if name not in models:
        hint = "Name who writes with `by`." if named is None else ""
        report.at_value(tree, place, str(UnknownName("model of this recipe", name, models, hint)))
        return
    if name == "teacher" and prefix and _own_teacher(tree, prefix):
        text = "a teacher that only this stage has is not there when the stage begins; name who writes under `models`, and here with `by`."
        report.at_value(tree, place, text)
        return
    kinds, writers = answerable(tree, models, allow_code=allow_code)
    if name not in writers:
        text = f"a teacher of kind {kinds[name]!r} has no model of its own when the stage begins, so {name!r} cannot write."
        report.at_value(tree, place, f"{text} Name {' or '.join(map(repr, writers))} with `by`.")


def _own_teacher(tree: Node, prefix: Parts) -> bool:
    """Whether a stage has another teacher than the recipe."""
    own, top = tree.get(*prefix, "teacher"), tree.get("teacher")
    return own is not None and own.value is not None and (top is None or own.plain() != top.plain())


def _answer(report: Report, tree: Node, path: Parts, node: Node) -> None:
    """Replies that are verified have an answer that a pattern finds."""
    own = node.mapping.get("answer")
    if own is not None and own.text is not None:
        try:
            re.compile(own.text)
        except re.error as error:
            report.at_value(tree, (*path, "answer"), f"expected a regular expression, found {own.text!r}: {error}.")
        return
    pattern, keep = tree.get("evaluate", "answer"), node.mapping.get("keep")
    if (pattern is None or pattern.value is None) and (keep is None or keep.text != "all"):
        text = 'expected a pattern by which answers are found, such as answer: "#### (.+)" here or in `evaluate`, found nothing.'
        report.at_value(tree, (*path, "answer"), f"{text} With `keep: all` nothing is verified.")


def _numbers(report: Report, tree: Node, path: Parts, node: Node) -> None:
    """Several replies differ, and one is not both right and wrong."""
    spec = RolloutSpec()
    samples, temperature, keep = (
        spec.model_fields[name].default if (own := node.mapping.get(name)) is None or own.value is None else own.value
        for name in ("samples", "temperature", "keep")
    )
    if type(samples) is not int:
        return
    if keep == "mixed" and samples == 1:
        text = "expected 2 or more, of which one can be right and another wrong (`keep: mixed`), found 1; or say keep: right."
        report.at_value(tree, (*path, "samples"), text)
    elif samples > 1 and not isinstance(temperature, bool) and temperature == 0:
        text = f"expected a temperature above 0, at which {samples} replies differ, found 0; or say samples: 1."
        report.at_value(tree, (*path, "temperature"), text)
    if keep == "all" and node.mapping.get("again") is not None:
        text = "what is written again must be right, and with `keep: all` nothing is verified. Remove one of them."
        report.at_key(tree, (*path, "again"), text)


def _views(report: Report, tree: Node, prefix: Parts, path: Parts, node: Node) -> None:
    """The views that are read are there, and what they name is there by then."""
    views = tree.get(*prefix, "data", "views")
    known = views.mapping if views is not None else {}
    for place in ((*path, "view"), (*path, "again", "view")):
        named = tree.get(*place)
        if named is None or named.text is None:
            continue
        if named.text not in known:
            hint = "" if known else 'Name it under data.views, such as `views: {told: {prompt: "{right} {question}"}}`.'
            report.at_value(tree, place, str(UnknownName("view of the data", named.text, known, hint)))
        elif place[-2] == "rollouts" and _names(known[named.text]):
            text = f"the view {named.text!r} names {{{_names(known[named.text])[0]}}}, which is not there before the replies are written."
            report.at_value(tree, place, f"{text} Use it with `again`.")
    keep = node.mapping.get("keep")
    kept = keep.text if keep is not None and keep.text is not None else "mixed"
    missing = {"mixed": (), "right": ("wrong",), "all": ("right", "wrong")}.get(kept, ())
    for name, view in known.items():
        wanted = [column for column in _names(view) if column in missing]
        if wanted:
            text = f"names {{{wanted[0]}}}, and with data.rollouts.keep: {kept} a question need not have one. Say keep: "
            report.at_value(tree, (*prefix, "data", "views", name, "prompt"), f"{text}{'mixed' if wanted[0] == 'wrong' else 'right'}.")


def _names(view: Node) -> list[str]:
    """Which of the columns of written replies the prompt of a view names, in the order of the prompt."""
    prompt = view.get("prompt")
    return _NAMED.findall(prompt.text) if prompt is not None and prompt.text is not None else []


def explain_missing(message: str, column: str) -> str:
    """What to do about a view that names a column of written replies where none are written."""
    return f"{message} {{{column}}} is there where replies are written: data.rollouts." if column in ("right", "wrong") else message
