"""Composes a recipe: `extends`, overrides from the command line, and what stages take from the top.

Mappings merge, scalars and lists replace, `null` removes a key. Every value keeps the mark of the place that set it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RecipeError, did_you_mean
from .marks import MAX_DEPTH, Mark, Node, Parts, Report, Source, file_name, found, show_path
from .reader import read_file, read_text
from .shorthand import expand

_LABELLED = {"objective": "term", "teachers": "teacher", "models": "model", "peers": "peer", "stages": "stage"}
"""Sections whose keys are the user's own; removing one that does not exist is a mistake."""

_INHERITED = ("data", "teacher", "objective", "train", "peers")


def read_mapping(values: Mapping[str, Any]) -> Node:
    """The tree of a recipe given as a Python mapping.

    Raises:
        RecipeError: it holds something that a YAML file could not hold.
    """
    report = Report()
    root = from_python(values, Mark(Source("recipe", "mapping")), report, ())
    if report.problems:
        raise RecipeError(report.problems)
    return root


def from_python(value: Any, mark: Mark, report: Report, path: Parts) -> Node:
    """Plain Python values as nodes that all stand at `mark`."""
    if len(path) > MAX_DEPTH:
        report.add(mark, path[:3], f"expected at most {MAX_DEPTH} levels of nesting, found more.")
        return Node(None, mark)
    if value is None or isinstance(value, (bool, int, float, str)):
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            report.add(mark, path, "expected valid text, found half of a surrogate pair.")
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            report.add(mark, path, "expected a whole number of at most 64 bits, found a larger one.")
        return Node(value, mark)
    if isinstance(value, Path):
        return Node(str(value), mark)
    if isinstance(value, (list, tuple)):
        return Node([from_python(item, mark, report, (*path, i)) for i, item in enumerate(value)], mark)
    if isinstance(value, Mapping):
        items: dict[str, Node] = {}
        for key, item in value.items():
            if isinstance(key, str):
                items[key] = from_python(item, mark, report, (*path, key))
            else:
                report.add(mark, path, f"expected text as key, found {key!r}.")
        return Node(items, mark, dict.fromkeys(items, mark))
    report.add(mark, path, f"expected a plain value (text, number, list, mapping), found an object of type {type(value).__name__!r}.")
    return Node(None, mark)


class Composer:
    """Reads a recipe and all that it extends.

    Attributes:
        report: the problems found so far.
        incomplete: whether a base is missing, so that nothing can be said about the whole.
    """

    def __init__(self) -> None:
        self.report = Report()
        self.incomplete = False
        self._done: dict[Path, Node] = {}

    def file(self, path: Path, name: str | None = None) -> Node:
        """The recipe in a file, merged over its bases."""
        return self._with_bases(read_file(path, name), [path.resolve()])

    def mapping(self, values: Mapping[str, Any]) -> Node:
        """The recipe in a Python mapping; its bases are relative to the working directory."""
        return self._with_bases(read_mapping(values), [])

    def _with_bases(self, root: Node, chain: list[Path]) -> Node:
        own = expand(root.without("extends"))
        extends = root.get("extends")
        merged: Node | None = None
        for reference in self._references(extends) if extends else []:
            base = self._base(reference, root.mark.source, chain)
            if base is None:
                self.incomplete = True
            else:
                merged = base if merged is None else self.merge(merged, base)
        return own if merged is None else self.merge(merged, own)

    def _references(self, extends: Node) -> list[Node]:
        entries = extends.value if isinstance(extends.value, list) else [extends]
        good = [entry for entry in entries if entry.text]
        if len(good) < len(entries) and extends.value is not None:
            bad = next(entry for entry in entries if not entry.text)
            self.incomplete = True
            self.report.add(bad.mark, ("extends",), f"expected the path of a recipe or a list of them, found {found(bad.value)}.")
        return good

    def _base(self, reference: Node, source: Source, chain: list[Path]) -> Node | None:
        text = str(reference.value)
        folder = source.path.parent if source.path else Path.cwd()
        shown = Path(source.name).parent if source.path else Path()
        path = folder / text
        problem = self._missing(path, text) if "\0" not in text else "expected the path of a recipe, found a null character."
        resolved = path if problem else path.resolve()
        if resolved in chain:
            circle = " -> ".join(p.name for p in [*chain[chain.index(resolved) :], resolved])
            problem = f"expected recipes that do not extend each other, found a circle: {circle}."
        if problem:
            self.report.add(reference.mark, ("extends",), problem)
            return None
        if resolved not in self._done:
            try:
                self._done[resolved] = self._with_bases(read_file(path, file_name(shown / text)), [*chain, resolved])
            except RecipeError as error:
                self.report.include(error.problems)
                return None
        return self._done[resolved]

    def _missing(self, path: Path, text: str) -> str:
        try:
            if path.is_file():
                return ""
            names = [f.name for f in path.parent.iterdir() if f.suffix in (".yaml", ".yml")] if path.parent.is_dir() else []
        except OSError as error:
            return f"expected the path of a recipe, found {found(text)}: {error.strerror}."
        close = did_you_mean(path.name, names)
        if not close and not path.parent.is_dir():
            return f"expected the path of a recipe, found {found(text)}: there is no folder {str(path.parent)!r}."
        return f"expected the path of a recipe, found {found(text)}, which does not exist.{close}"

    def override(self, root: Node, key: str, value: Node) -> Node:
        """A recipe with one value replaced, or removed by null; under the key `extends`, with a whole recipe laid over it.

        Args:
            root: the recipe.
            key: dotted path, such as `train.epochs`. The path of a recipe in `extends` is relative to the working directory.
            value: the new value; its mark says where it comes from.
        """
        parts = key.split(".")
        if not all(part.strip() for part in parts):
            self.report.add(value.mark, (), f"expected KEY=VALUE with a dotted key such as `train.epochs=3`, found the key {key!r}.")
            return root
        for end in range(1, len(parts)):
            above = root.get(*parts[:end])
            if above is not None and isinstance(above.value, list):
                message = f"expected a key of a mapping; {show_path(parts[:end])} is a list, which can only be set as a whole."
                self.report.add(value.mark, parts, message)
                return root
        for part in reversed(parts):
            value = Node({part: value}, value.mark, {part: value.mark})
        return self.merge(root, self._with_bases(value, []))

    def merge(self, base: Node, over: Node, path: Parts = ()) -> Node:
        """`over` laid over `base`."""
        if not isinstance(over.value, dict) or over.replaces or not isinstance(base.value, dict):
            return over
        items, keys = dict(base.value), dict(base.keys)
        for key, node in over.value.items():
            if node.value is None and key in items:
                del items[key]
                continue
            if node.value is None and self._cannot_remove(key, [*base.value], over, (*path, key)):
                continue
            old = items.get(key)
            items[key] = node if old is None else self.merge(old, node, (*path, key))
            if key not in keys or not isinstance(node.value, dict):
                keys[key] = over.keys.get(key, node.mark)
        return Node(items, over.mark if not base.value else base.mark, keys, base.replaces)

    def _cannot_remove(self, key: str, names: Sequence[str], over: Node, path: Parts) -> bool:
        if len(path) < 2 or (section := str(path[-2])) not in _LABELLED or len(path) not in (2, 4):
            return False
        message = f"there is no {_LABELLED[section]} {key!r} to remove.{did_you_mean(key, names)}"
        self.report.add(over.keys.get(key, over.mark), path, message)
        return True

    def stages(self, root: Node) -> Node:
        """The recipe with every stage completed by what it takes from the top."""
        stages = root.mapping.get("stages")
        if stages is None or not stages.mapping:
            return root
        full = {name: self._stage(root, name, stage) for name, stage in stages.mapping.items()}
        return root.replaced({"stages": Node(full, stages.mark, stages.keys)})

    def _stage(self, root: Node, name: str, stage: Node) -> Node:
        if stage.value is None:
            stage = Node({}, stages_mark(root, name))
        if not isinstance(stage.value, dict):
            return stage
        learner = stage.mapping.get("learner")
        student = learner is None or learner.value in ("student", None)
        items, keys = dict(stage.mapping), dict(stage.keys)
        for key in _INHERITED:
            top, own = root.mapping.get(key), items.get(key)
            if top is None or (key in ("objective", "peers") and not student):
                continue
            if own is not None and own.value is None:
                del items[key]
                continue
            items[key] = top if own is None else self.merge(top, own, ("stages", name, key))
            keys.setdefault(key, root.keys.get(key, top.mark))
        return Node(items, stage.mark, keys)


def stages_mark(root: Node, name: str) -> Mark:
    """Where the name of a stage stands."""
    stages = root.mapping["stages"]
    return stages.keys.get(name, stages.mark)


def parse_override(text: str) -> tuple[str, Node]:
    """`a.b=c` as key and value, the value read as YAML.

    Raises:
        RecipeError: the text has no `=`, or its value is no valid YAML.
    """
    mark = Mark(Source(f"--set {text}", "set"))
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        report = Report()
        report.add(
            mark, (), "expected KEY=VALUE such as `--set train.epochs=3`, found no '='." if not equals else "expected a key before the '='."
        )
        raise RecipeError(report.problems)
    return key.strip(), read_text(value, mark.source)
