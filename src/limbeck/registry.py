"""Finds parts by name: built-ins by file name, packages by entry point, local code as `module:Class`.

Listing imports nothing but the standard library, so that the command's help stays fast.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from .errors import CodeNotAllowed, LimbeckError, UnknownName


class Registry:
    """All parts of one kind, such as the losses.

    Args:
        kind: what the parts are called in messages.
        package: the package whose files are the built-ins; a file whose name starts with `_` or is `base` is none.
            It is also the entry-point group in which installed packages offer theirs.
        base: name of the class in `base.py` of that package which a part extends.
        helpers: further files of that package that are no parts.
    """

    def __init__(self, kind: str, package: str, base: str, *, helpers: tuple[str, ...] = ()) -> None:
        self.kind, self.package, self.base, self.helpers = kind, package, base, ("base", *helpers)

    def files(self) -> dict[str, Path]:
        """Name to file of every built-in, found without importing the package."""
        root = Path(__file__).parent.joinpath(*self.package.split(".")[1:])
        return dict(_files(root, root.stat().st_mtime_ns, self.helpers))

    def plugins(self) -> dict[str, EntryPoint]:
        """Name to entry point of every part that an installed package offers."""
        found: dict[str, EntryPoint] = {}
        for point in _points(entry_points, self.package, tuple(sys.path)):
            if point.name in found or point.name in self.files():
                other = found[point.name].value if point.name in found else f"{self.package}.{point.name}"
                raise LimbeckError(f"two packages provide the {self.kind} {point.name!r}: {other} and {point.value}.")
            found[point.name] = point
        return found

    def names(self) -> list[str]:
        """Every known name, sorted."""
        return sorted([*self.files(), *self.plugins()])

    def get(self, name: str, *, allow_code: bool = False) -> type[Any]:
        """The class behind `name`; `module:Class` imports local code and needs `allow_code`."""
        if ":" in name:
            return self._checked(load_code(name, allow_code=allow_code), name)
        if name in self.files():
            return self._in_module(f"{self.package}.{name}")
        plugins = self.plugins()
        if name in plugins:
            return self._checked(plugins[name].load(), name)
        raise UnknownName(self.kind, name, self.names())

    def base_class(self) -> type[Any]:
        """The class that every part of this kind extends."""
        return getattr(importlib.import_module(f"{self.package}.base"), self.base)

    def _in_module(self, module_name: str) -> type[Any]:
        return _class_of(module_name, self.base_class())

    def _checked(self, found: Any, name: str) -> type[Any]:
        if not (inspect.isclass(found) and issubclass(found, self.base_class())):
            raise LimbeckError(f"{name!r} is no {self.kind}: it must be a class that extends {self.package}.base.{self.base}.")
        return found


@cache
def _files(root: Path, changed: int, helpers: tuple[str, ...]) -> dict[str, Path]:
    """The parts of a folder, by name; a listing asks once for every part of it, so they are looked for once for what the folder holds."""
    names = sorted(file.stem for file in root.iterdir() if file.suffix == ".py")
    return {name: root / f"{name}.py" for name in names if not name.startswith("_") and name not in helpers}


@cache
def _points(ask: Callable[..., Iterable[EntryPoint]], group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """What installed packages offer in a group; looking through all of them takes long, so it is done once for a `sys.path`."""
    return tuple(ask(group=group))


@cache
def _class_of(module_name: str, base: type[Any]) -> type[Any]:
    module = importlib.import_module(module_name)
    own = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, base) and c.__module__ == module_name]
    public = [c for c in own if not c.__name__.startswith("_")]
    if len(public) != 1:
        raise LimbeckError(f"{module_name} must define exactly one {base.__name__}, found {[c.__name__ for c in public]}.")
    return public[0]


def load_code(reference: str, *, allow_code: bool) -> Any:
    """The object behind `module:name`, imported from the working directory or the environment.

    Raises:
        CodeNotAllowed: where the user has not allowed local code.
        LimbeckError: where the module or the name does not exist.
    """
    if not allow_code:
        raise CodeNotAllowed(reference)
    module_name, _, attribute = reference.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise LimbeckError(f"{reference!r}: importing {module_name!r} failed: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UnknownName(f"name in {module_name}", attribute, [n for n in vars(found) if not n.startswith("_")])
        found = getattr(found, part)
    return found


LOSSES = Registry("loss", "limbeck.losses", "Loss")
ADAPTERS = Registry("adapter", "limbeck.adapters", "Adapter", helpers=("pick",))
TARGETS = Registry("target", "limbeck.targets", "Target")
TEACHERS = Registry("teacher", "limbeck.teachers", "Teacher", helpers=("folding",))
TASKS = Registry("task", "limbeck.tasks", "Task")
STEPS = Registry("step", "limbeck.engine.steps", "Step")
ACTIONS = Registry("action", "limbeck.engine.actions", "Action")
