"""What is asked of the models at the end: that it makes sense for the task and the data."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..assemble import ALONE, data_request
from ..data.corruptions import kinds_of
from ..data.grouping import group_names
from ..errors import ModelError, UnknownName
from ..evaluate.exposure import fillings
from ..evaluate.kernel import check_size
from ..evaluate.waiting import check_room
from ..models.base import BuiltModel
from ..tasks.base import Task
from ..types import WRITES, DataInfo
from .found import Desk


def check_evaluation(desk: Desk, task: Task, info: DataInfo | None) -> None:
    """Every key of `evaluate`; what needs the data is left out where they could not be read."""
    _check_answer(desk, task)
    _check_fused(desk, task)
    wish = desk.recipe.evaluate
    if wish.corruptions and task.language is not None:
        desk.problem("evaluate.corruptions", f"for images, tables and text_classification, and this is {desk.recipe.task}. Remove it.")
    elif wish.corruptions and info is not None:
        with desk.at("evaluate.corruptions"):
            kinds_of(wish.corruptions, info.kind)
    _check_privacy(desk, task)
    if wish.groups is None:
        return
    if task.language is not None or task.labels == "joint":
        desk.problem("evaluate.groups", f"groups are of whole examples of one data set, and this is {desk.recipe.task}. Remove it.")
    elif info is not None:
        with desk.at("evaluate.groups"):
            request = data_request(desk.recipe.data, desk.recipe)
            group_names(request, wish.groups, kind=task.data_kind, labels=task.labels, allow_code=desk.allow_code)


def _check_privacy(desk: Desk, task: Task) -> None:
    """Membership is asked of tasks with one loss an example, planted secrets of models that predict the next token."""
    wish = desk.recipe.evaluate
    if wish.membership and task.labels in ("joint", "span"):
        desk.problem("evaluate.membership", f"the examples of {desk.recipe.task} have no loss that could be compared. Remove it.")
    if wish.canaries and task.language != "causal_lm":
        desk.problem("evaluate.canaries", f"planted texts are for causal_lm, and this is {desk.recipe.task}. Remove it.")
        return
    for number, canary in enumerate(wish.canaries):
        with desk.at(f"evaluate.canaries[{number}]"):
            fillings(canary, 1, 0)


def check_kernel(desk: Desk, built: Mapping[str, BuiltModel], task: Task) -> None:
    """The tangent kernels are of models of images or tables, and fit into the memory."""
    count = desk.recipe.evaluate.kernel
    if count is None:
        return
    if task.data_kind == "text" or task.labels == "joint":
        desk.problem("evaluate.kernel", f"the tangent kernel is of models of images and tables, and this is {desk.recipe.task}. Remove it.")
        return
    for name, model in built.items():
        with desk.at("evaluate.kernel"):
            try:
                check_size(count, sum(value.numel() for value in model.module.parameters()))
            except ModelError as error:
                raise ModelError(f"{name}: {error}") from error


def check_first_token(desk: Desk, built: Mapping[str, BuiltModel], task: Task, info: DataInfo) -> None:
    """Who is timed at writing writes, and has room for the prompt."""
    length = desk.recipe.evaluate.first_token
    if length is None:
        return
    if task.language not in WRITES:
        desk.problem("evaluate.first_token", f"task {desk.recipe.task} writes no tokens; this is for {' and '.join(WRITES)}. Remove it.")
        return
    for name, model in built.items():
        with desk.at("evaluate.first_token"):
            try:
                check_room(model.module, length, reads=info.shown(model.request.view).language == "seq2seq_lm")
            except ModelError as error:
                raise ModelError(f"{name}: {error}") from error


def _check_answer(desk: Desk, task: Task) -> None:
    """A pattern of answers is one, and the models write answers."""
    pattern = desk.recipe.evaluate.answer
    if pattern is None:
        return
    if task.language not in WRITES:
        desk.problem("evaluate.answer", f"task {desk.recipe.task} writes no answers; this is for causal_lm and seq2seq_lm. Remove it.")
    try:
        re.compile(pattern)
    except re.error as error:
        desk.problem("evaluate.answer", f"expected a regular expression, found {pattern!r}: {error}.")


def _check_fused(desk: Desk, task: Task) -> None:
    """Those that answer together are models of the recipe that predict tokens."""
    names = ["student", *desk.own, *desk.recipe.models]
    for name, spec in desk.recipe.evaluate.fused.items():
        place = f"evaluate.fused.{name}"
        if task.labels != "token":
            desk.problem(place, f"task {desk.recipe.task} predicts no tokens; fusing is for language models. Remove it.")
        if name in (*names, ALONE, "before"):
            desk.problem(place, f"{name!r} is a model of the recipe already; give what is fused another name.")
        if not spec.experts:
            desk.problem(
                f"{place}.experts", "expected a small model with what it was before it learnt, such as {student: small}, found none."
            )
        aim = [("aim", spec.aim)] if spec.aim is not None else []
        experts = [("experts", model) for pair in spec.experts.items() for model in pair]
        for key, model in [("large", spec.large), *experts, *aim]:
            if model not in names:
                desk.problem(f"{place}.{key}", str(UnknownName("model of this recipe", model, names)))
