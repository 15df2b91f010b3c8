"""Checks the name and the arguments of an optimizer against torch's own signatures."""

from __future__ import annotations

import inspect
import types
import typing
from functools import cache
from typing import Any

import torch

from ..errors import did_you_mean
from .marks import Node, Parts, Report, found
from .messages import unknown_key

_UNFIT = {"LBFGS": "it needs a closure", "SparseAdam": "it takes sparse gradients only"}


@cache
def optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Lower-case name to class of torch's optimizers that fit a usual training loop."""
    found_ = {name.lower(): item for name, item in vars(torch.optim).items() if inspect.isclass(item) and name not in _UNFIT}
    return {name: item for name, item in found_.items() if issubclass(item, torch.optim.Optimizer) and item is not torch.optim.Optimizer}


def check_optimizer(report: Report, tree: Node, path: Parts, node: Node) -> None:
    """Reports an unknown optimizer, and arguments that it does not take."""
    name = node.get("name")
    text = name.text if name is not None and name.value is not None else "adamw"
    if text is None or text.startswith("timm:"):
        return
    for unfit, reason in _UNFIT.items():
        if text.lower() == unfit.lower():
            report.at_value(tree, (*path, "name"), f"expected an optimizer that fits a usual training loop, found {text!r}: {reason}.")
            return
    known = optimizers()
    if text.lower() not in known:
        names = sorted(cls.__name__ for cls in known.values())
        hint = did_you_mean(text, names, count=1) or f" Known: {', '.join(names)}."
        report.at_value(tree, (*path, "name"), f"expected a torch optimizer (any case) or timm:NAME, found {text!r}.{hint}")
        return
    _check_arguments(report, tree, path, node, known[text.lower()])


def _check_arguments(report: Report, tree: Node, path: Parts, node: Node, cls: type[torch.optim.Optimizer]) -> None:
    parameters = {key: p for key, p in inspect.signature(cls).parameters.items() if key != "params"}
    try:
        hints = typing.get_type_hints(cls.__init__)
    except (NameError, TypeError):
        hints = {}
    good: dict[str, Any] = {}
    count = len(report.problems)
    for key, value in node.mapping.items():
        plain = value.plain()
        if key == "name":
            continue
        if key not in parameters:
            place = f"optimizer {cls.__name__!r}"
            report.at_key(tree, (*path, key), unknown_key(key, plain, place, ["name", *parameters]))
        elif plain is None:
            continue
        elif key == "lr":
            good[key] = plain
        elif (expected := _mismatch(plain, hints.get(key, Any))) is not None:
            report.at_value(tree, (*path, key), f"expected {expected}, found {found(plain)}.")
        else:
            good[key] = tuple(plain) if isinstance(plain, list) else plain
    if len(report.problems) == count:
        _construct(report, tree, path, cls, good)


def _construct(report: Report, tree: Node, path: Parts, cls: type[torch.optim.Optimizer], arguments: dict[str, Any]) -> None:
    """Builds the optimizer over one parameter, for the bounds that only its constructor knows."""
    lr = arguments.get("lr", 1e-3)
    if isinstance(lr, bool) or not isinstance(lr, (int, float)) or not 0 <= lr < float("inf"):
        return  # the recipe's own validation says it
    try:
        cls([torch.nn.Parameter(torch.zeros(1, 1))], **{**arguments, "lr": float(lr)})
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        said = str(error).lower()
        named = next((key for key in arguments if key in said or key.rstrip("s") in said), None)
        report.at_value(tree, (*path, named or "name"), f"the optimizer {cls.__name__!r} refuses its arguments: {error}.")


def _mismatch(value: Any, hint: Any) -> str | None:
    """What was expected, where a plain value does not fit a type; unknown types accept everything."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    options = tuple(option for option in options if option not in (torch.Tensor, type(None)))
    reasons = [_single(value, option) for option in options]
    return None if None in reasons or not reasons else reasons[0]


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _single(value: Any, hint: Any) -> str | None:
    if hint is bool:
        return None if isinstance(value, bool) else "true or false"
    if hint is float:
        return None if isinstance(value, (int, float)) and not isinstance(value, bool) else "a number"
    if hint is int:
        return None if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if hint is str:
        return None if isinstance(value, str) else "text"
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        fits = (
            isinstance(value, list) and len(value) == len(inner) and all(_mismatch(v, h) is None for v, h in zip(value, inner, strict=True))
        )
        return None if fits else f"a list of {len(inner)} numbers"
    return None
