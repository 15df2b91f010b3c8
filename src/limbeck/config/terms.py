"""Splits the terms of an objective: keys of every term on one side, hyper-parameters of the loss on the other."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from ..errors import LimbeckError
from ..registry import LOSSES
from ..types import Needs
from .marks import Node, Parts, Report, found
from .messages import explain, unknown_key
from .term_schema import Schedule, TermSpec

MISSING = dataclasses.MISSING
"""Default of a hyper-parameter that has none."""

RESERVED = frozenset(field.alias or name for name, field in TermSpec.model_fields.items() if name not in ("options", "schedules"))
"""Keys that every term has, whatever its loss."""


@dataclasses.dataclass
class Term:
    """A term after the split."""

    path: Parts
    node: Node
    loss: str | None = None
    cls: type[Any] | None = None
    """Class of the loss; None where it is unknown or local code that may not run."""
    needs: Needs | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    schedules: dict[str, Any] = dataclasses.field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """The values for `TermSpec`."""
        own = {key: node.plain() for key, node in self.node.mapping.items() if key in RESERVED}
        return {**own, "options": self.options, "schedules": self.schedules}


def is_code(name: str) -> bool:
    """Whether a name is `module:Class`."""
    return ":" in name


def split_term(report: Report, tree: Node, path: Parts, node: Node, *, allow_code: bool) -> Term:
    """Validates one term as far as its loss knows; problems go to the report."""
    term = Term(path, node)
    extra = {key: value for key, value in node.mapping.items() if key not in RESERVED}
    name = node.get("loss")
    term.loss = name.text if name is not None else None
    if term.loss is not None:
        term.cls = _find(report, tree, term, term.loss, allow_code=allow_code)
    if term.cls is not None:
        _validate(report, tree, term, extra)
    elif term.loss is not None and is_code(term.loss):
        for key, value in extra.items():
            if "schedule" in value.mapping:
                term.schedules[key] = value.plain()
            else:
                term.options[key] = value.plain()
    weight = node.get("weight")
    if weight is not None and "kept" in weight.mapping:
        _kept(report, tree, (*path, "weight", "kept"), weight.mapping["kept"])
    elif weight is not None and weight.mapping and "alike" not in weight.mapping:
        _schedule(report, tree, (*path, "weight"), weight, hint=None, minimum=0.0)
    return term


def _find(report: Report, tree: Node, term: Term, name: str, *, allow_code: bool) -> type[Any] | None:
    if is_code(name) and not allow_code:
        return None
    try:
        return LOSSES.get(name, allow_code=allow_code)
    except LimbeckError as error:
        report.at_value(tree, (*term.path, "loss"), str(error))
    except Exception as error:  # a package that offers a loss may fail in any way while it is imported
        report.at_value(tree, (*term.path, "loss"), f"the loss {name!r} cannot be imported: {type(error).__name__}: {error}")
    return None


@cache
def hyper_parameters(cls: type[Any]) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Name to field and type of every hyper-parameter of a loss (or another part)."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: (field, hints[field.name]) for field in dataclasses.fields(cls) if field.init}


@cache
def adapter_of(hint: Any) -> TypeAdapter[Any]:
    """Strict validation of one hyper-parameter."""
    try:
        return TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))
    except PydanticUserError:
        return TypeAdapter(hint)


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Default of a field; `MISSING` where there is none."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _validate(report: Report, tree: Node, term: Term, extra: dict[str, Node]) -> None:
    if term.cls is None:
        return
    known = hyper_parameters(term.cls)
    count = len(report.problems)
    for key, node in extra.items():
        if key not in known:
            place = f"loss {term.loss!r}"
            report.at_key(tree, (*term.path, key), unknown_key(key, node.plain(), place, [*known, *sorted(RESERVED)]))
    for key, (field, hint) in known.items():
        node = extra.get(key)
        if node is None or (node.value is None and default_of(field) is not MISSING):
            _default(report, tree, term, key, field)
        elif "schedule" in node.mapping and _is_float(hint):
            ramp = _schedule(report, tree, (*term.path, key), node, hint=hint)
            if ramp is not None:
                term.schedules[key] = ramp
        else:
            term.options[key] = check_value(report, tree, (*term.path, key), node.plain(), hint)
    if len(report.problems) == count:
        _construct(report, tree, term)


def _default(report: Report, tree: Node, term: Term, key: str, field: dataclasses.Field[Any]) -> None:
    default = default_of(field)
    if default is MISSING:
        report.at_key(tree, term.path, f"expected the hyper-parameter {key!r} of loss {term.loss!r}, found nothing.")
    else:
        term.options[key] = default


def check_value(report: Report, tree: Node, path: Parts, value: Any, hint: Any) -> Any:
    """A value that fits a type with bounds; problems go to the report.

    Values are checked as JSON, where a list may stand for a tuple.
    """
    try:
        return adapter_of(hint).validate_json(json.dumps(value))
    except ValidationError as error:
        for detail in error.errors(include_url=False)[:1]:
            inner = tuple(part for part in detail["loc"] if isinstance(part, int))
            report.at_value(tree, (*path, *inner), explain(detail))
    return value


def _is_float(hint: Any) -> bool:
    return hint is float or any(_is_float(arg) for arg in get_args(hint)[: 1 if get_origin(hint) is not None else None])


def _schedule(report: Report, tree: Node, path: Parts, node: Node, *, hint: Any, minimum: float | None = None) -> dict[str, Any] | None:
    """The ramp at a node, both of its ends within the bounds of the value; None after a complaint."""
    count = len(report.problems)
    try:
        ramp = Schedule.model_validate(node.plain())
    except ValidationError as error:
        if hint is not None:  # of a weight, the recipe's own validation says it
            for detail in error.errors(include_url=False):
                _bad_schedule(report, tree, path, detail)
        return None
    for end in ("start", "end"):
        value = node.mapping[end].plain()
        if hint is not None:
            check_value(report, tree, (*path, end), value, hint)
        elif minimum is not None and value < minimum:
            report.at_value(tree, (*path, end), f"expected a number >= {minimum:g}, found {found(value)}.")
    if ramp.until <= ramp.begin:
        report.at_value(tree, (*path, "until"), f"expected a number > begin ({ramp.begin:g}), found {found(ramp.until)}.")
    if ramp.schedule == "exponential" and ramp.start * ramp.end <= 0:
        report.at_value(
            tree, (*path, "schedule"), f"expected two ends of one sign for 'exponential', found {ramp.start:g} and {ramp.end:g}."
        )
    return ramp.model_dump() if len(report.problems) == count else None


def _kept(report: Report, tree: Node, path: Parts, node: Node) -> None:
    """The shares of a weight's points ascend within (0, 1]; their form is a matter of the recipe's own validation."""
    points = node.plain()
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        return
    shares = [point[0] for point in points]
    if not all(isinstance(share, (int, float)) and not isinstance(share, bool) for share in shares):
        return
    last = 0.0
    for position, share in enumerate(shares):
        if not last < share <= 1:
            message = f"expected a share above {last:g} and at most 1, found {found(share)}: the points ascend."
            report.at_value(tree, (*path, position, 0), message)
            return
        last = share


def _bad_schedule(report: Report, tree: Node, path: Parts, detail: ErrorDetails) -> None:
    where = (*path, *(part for part in detail["loc"] if isinstance(part, str)))
    if detail["type"] == "extra_forbidden":
        report.at_key(tree, where, unknown_key(str(where[-1]), detail["input"], "a schedule", list(Schedule.model_fields)))
    elif detail["type"] == "missing":
        report.at_key(tree, path, f"expected the key {where[-1]!r} in a schedule, found nothing.")
    else:
        report.at_value(tree, where, explain(detail))


def _construct(report: Report, tree: Node, term: Term) -> None:
    """Builds the loss once, for what only the class itself can check, and to learn what it needs."""
    if term.cls is None:
        return
    try:
        starts = {key: ramp["start"] for key, ramp in term.schedules.items()}
        term.needs = term.cls(**term.options, **starts).needs
    except (TypeError, ValueError, LimbeckError) as error:
        report.at_value(tree, (*term.path, "loss"), f"the loss {term.loss!r} refuses its hyper-parameters: {error}")
