"""Checks of how a loss is written: documentation, fields, bounds."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from ..describe import Doc, describe_file
from ..losses.base import Loss
from ..registry import LOSSES
from .failure import ContractError, demand


def check_docs(loss_class: type[Loss]) -> None:
    """The module docstring has a short title, a formula and a reference, and every field says what it is."""
    doc = _doc(loss_class)
    demand(doc.title, f"{_where(loss_class)}: the module needs a docstring whose first line is its title.")
    demand(len(doc.title) <= 80, f"{_where(loss_class)}: the title is help text and has at most 80 characters, found {len(doc.title)}.")
    demand(doc.formula, f"{_where(loss_class)}: the module docstring needs the formula, under '.. math::'.")
    demand(doc.reference, f"{_where(loss_class)}: the module docstring needs a paragraph 'Reference: authors, title, venue, arXiv id'.")
    for field in doc.fields:
        demand(field.help, f"{_where(loss_class)}: the field {field.name!r} needs a docstring below it.")


def check_name(loss_class: type[Loss]) -> None:
    """The file defines this one loss, and a built-in's file carries the name by which recipes call it."""
    module = inspect.getmodule(loss_class)
    own = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, Loss) and c.__module__ == loss_class.__module__]
    public = sorted(c.__name__ for c in own if not c.__name__.startswith("_"))
    demand(public == [loss_class.__name__], f"{_where(loss_class)}: a file defines exactly one loss, found {public}.")
    stem = _file(loss_class).stem
    demand(stem.isidentifier() and stem == stem.lower(), f"{_where(loss_class)}: the file name {stem!r} must be in snake_case.")
    if loss_class.__module__.startswith(f"{LOSSES.package}."):
        demand(LOSSES.get(stem) is loss_class, f"{_where(loss_class)}: the registry finds {LOSSES.get(stem)} under {stem!r}.")


def check_dataclass(loss_class: type[Loss]) -> None:
    """A final dataclass with keyword-only fields, compared by identity as modules are, which builds with its defaults."""
    where = _where(loss_class)
    demand(dataclasses.is_dataclass(loss_class), f"{where}: decorate it with @dataclass(eq=False, repr=False, kw_only=True).")
    demand("__dataclass_params__" in vars(loss_class), f"{where}: the class itself must be a dataclass, not only its base.")
    params: Any = vars(loss_class)["__dataclass_params__"]
    demand(not params.eq and not params.repr, f"{where}: @dataclass needs eq=False (modules hash by identity) and repr=False.")
    demand(vars(loss_class).get("__final__"), f"{where}: decorate it with @final; write a new loss instead of extending one.")
    for field in dataclasses.fields(loss_class):  # pyright: ignore[reportArgumentType]
        demand(field.kw_only, f"{where}.{field.name}: fields are keyword-only (kw_only=True).")
    try:
        loss_class()
    except Exception as error:
        raise ContractError(f"{where}: the defaults must be valid, but {loss_class.__name__}() fails: {error}") from error


def check_bounds(loss_class: type[Loss]) -> None:
    """A value outside a field's bounds or choices raises a ValueError that names the class and the field."""
    hints = get_type_hints(loss_class, include_extras=True)
    for field in dataclasses.fields(loss_class):  # pyright: ignore[reportArgumentType]
        for bad in _bad_values(hints[field.name]):
            where = f"{loss_class.__name__}.{field.name}"
            try:
                loss_class(**{field.name: bad})
            except ValueError as error:
                demand(where in str(error), f"the error for {where}={bad!r} must name it, found: {error}")
            else:
                raise ContractError(f"{where}={bad!r} is outside its type but was accepted; call super().__post_init__().")


def _bad_values(hint: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return ["none of these choices"]
    bad: list[Any] = []
    for bound in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        if isinstance(bound, Gt):
            bad += [bound.gt]
        elif isinstance(bound, Ge):
            bad += [bound.ge - 1]  # pyright: ignore[reportOperatorIssue]
        elif isinstance(bound, Lt):
            bad += [bound.lt]
        elif isinstance(bound, Le):
            bad += [bound.le + 1]  # pyright: ignore[reportOperatorIssue]
    return bad


def _file(loss_class: type[Loss]) -> Path:
    return Path(inspect.getfile(loss_class))


def _where(loss_class: type[Loss]) -> str:
    return f"{_file(loss_class).name}: {loss_class.__name__}"


def _doc(loss_class: type[Loss]) -> Doc:
    return describe_file(_file(loss_class), name=_file(loss_class).stem, kind="loss", class_name=loss_class.__name__)
