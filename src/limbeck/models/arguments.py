"""Arguments of model builders, checked before they are passed on."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import LimbeckError, ModelError, did_you_mean


def unknown_argument(reference: str, name: str, accepted: Iterable[str]) -> ModelError:
    """The error for an argument that a builder does not take."""
    accepted = list(accepted)
    return ModelError(f"{reference} has no argument {name!r}.{did_you_mean(name, accepted)} It accepts: {', '.join(accepted)}.")


def accepted_arguments(builder: Callable[..., Any]) -> tuple[list[str], bool]:
    """Names of the arguments that can be given by keyword, and whether any other is taken as well."""
    parameters = inspect.signature(builder).parameters.values()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in by_name], any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def call_builder(reference: str, builder: Callable[..., Any], args: Mapping[str, Any]) -> Any:
    """Calls `builder` with `args`.

    Raises:
        ModelError: for an argument that it does not take, one that is missing, or a value that it refuses.
    """
    names, open_ended = accepted_arguments(builder)
    for name in args:
        if name not in names and not open_ended:
            raise unknown_argument(reference, name, names)
    try:
        return builder(**args)
    except LimbeckError:
        raise
    except TypeError as error:
        raise argument_error(reference, builder, error) from error
    except Exception as error:
        given = ", ".join(f"{k}={v!r}" for k, v in args.items())
        raise ModelError(f"{reference} could not be built with {given}: {type(error).__name__}: {error}") from error


def argument_error(reference: str, builder: Callable[..., Any], error: TypeError) -> ModelError:
    """The error for a `TypeError` of `builder`, which may come from a class that it hands its arguments on to.

    Python's message names that class and the argument; the class is looked up beside the builder, to list what it accepts.
    """
    found = re.search(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if not found:
        return ModelError(f"{reference} could not be built: {error}")
    owner = vars(sys.modules[builder.__module__]).get(found[1])
    accepted = accepted_arguments(owner)[0] if owner is not None else []
    return unknown_argument(reference, found[2], [name for name in accepted if name != "self"])
