"""One tree of errors. A user's mistake is a `LimbeckError`: the command prints it without a traceback.

Every message says where, what was expected, what was found, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def did_you_mean(name: str, options: Iterable[str], *, count: int = 3) -> str:
    """`" Did you mean 'x'?"` for the nearest options, or the empty string."""
    import difflib  # only a wrong name needs it

    options = list(options)
    close = difflib.get_close_matches(name, options, n=count, cutoff=0.6)
    if not close:
        lower = {option.lower(): option for option in options}
        close = [lower[match] for match in difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5)]
    if not close:
        return ""
    return f" Did you mean {' or '.join(repr(match) for match in close)}?"


class LimbeckError(Exception):
    """Something that the user can mend; the text says how."""


@dataclass(frozen=True)
class Problem:
    """One fault of a recipe, with the place where it stands."""

    where: str
    """`file:line:column`, or the option of the command line."""
    key: str
    """Dotted path of the key, such as `objective.logits.temperature`."""
    message: str
    excerpt: str = ""
    """The faulty line with a caret under it; empty where there is no file."""

    def __str__(self) -> str:
        head = f"{self.where}: {self.key}: {self.message}" if self.key else f"{self.where}: {self.message}"
        return f"{head}\n{self.excerpt}" if self.excerpt else head


class RecipeError(LimbeckError):
    """All the problems of a recipe at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        title = f"{count} problem{'s' if count != 1 else ''} in the recipe"
        super().__init__("\n\n".join([title, *map(str, self.problems)]))


class UnknownName(LimbeckError):
    """A name that no registry, model or data set knows."""

    def __init__(self, kind: str, name: str, options: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.options = kind, name, tuple(options)
        known = ", ".join(self.options[:20]) + (" ..." if len(self.options) > 20 else "")
        suggestion = did_you_mean(name, self.options)
        text = f"no {kind} is called {name!r}.{suggestion}"
        if not suggestion and known:
            text += f" Known: {known}."
        super().__init__(f"{text} {hint}".rstrip())


class ShapeMismatch(LimbeckError):
    """Two signals whose shapes do not fit."""


class SignalMissing(LimbeckError):
    """A loss asks for a signal that a model does not give."""


class TapError(LimbeckError):
    """A layer path that names nothing, or a layer that cannot be read as asked."""


class ModelError(LimbeckError):
    """A model that cannot be built or whose weights do not fit."""


class NotFetched(ModelError):
    """A part of a model that lies on a hub, asked for where nothing may be fetched."""


class DataError(LimbeckError):
    """Data that cannot be found, read or split as asked."""


class RunError(LimbeckError):
    """A run directory that cannot be written, read or resumed."""


class CodeNotAllowed(LimbeckError):
    """A recipe names local code and the user has not allowed it to run."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"{reference!r} is code of your own; add --allow-code to run it (allow_code=True in Python).")


class MissingDependency(LimbeckError):
    """An optional package that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed. Install it: pip install 'limbeck[{extra}]'")


class NonFinite(LimbeckError):
    """A loss that became NaN or infinite during training."""


class Interrupted(LimbeckError):
    """The user pressed Ctrl-C; the run was saved and can go on."""
