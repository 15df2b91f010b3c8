"""Where the values of a recipe come from: a tree of plain values that remembers file, line and column."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import Problem

Parts = tuple[str | int, ...]
"""Path of a value in the tree: keys of mappings and positions in lists."""

MAX_DEPTH = 50
"""Deepest nesting of a recipe; nothing sensible comes near it."""

_SHOWN = 100


@dataclass(frozen=True, eq=False)
class Source:
    """A text that values of a recipe were read from."""

    name: str
    """How messages call it: a path as the user gave it, or the option of the command line."""
    kind: Literal["file", "mapping", "set", "inferred"] = "file"
    path: Path | None = None
    """Absolute path of a file."""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a source; `line` and `column` count from 1 and are 0 where the source is no file."""

    source: Source
    line: int = 0
    column: int = 0

    @property
    def where(self) -> str:
        """`file:line:column`, or the name of a source that is no file."""
        return f"{self.source.name}:{self.line}:{self.column}" if self.line else self.source.name

    def excerpt(self) -> str:
        """The line with a caret under the column; empty where there is no file."""
        if not 0 < self.line <= len(self.source.lines):
            return ""
        line = "".join(c if c.isprintable() else " " for c in self.source.lines[self.line - 1])
        if not line.strip():
            return ""
        column = min(self.column - 1, len(line))
        start = max(0, column - _SHOWN * 3 // 4) if len(line) > _SHOWN else 0
        shown = line[start : start + _SHOWN]
        width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line[start:column])
        return f"    {shown.rstrip()}\n    {' ' * width}^"


@dataclass(slots=True, eq=False)
class Node:
    """A value and where it stands. Nodes are shared between trees and never changed in place."""

    value: bool | int | float | str | list[Node] | dict[str, Node] | None
    mark: Mark
    keys: dict[str, Mark] = field(default_factory=dict)
    """Of a mapping: where each key stands."""
    replaces: bool = False
    """A mapping that the user wrote as a scalar shorthand: it replaces what it is merged over."""

    @property
    def mapping(self) -> dict[str, Node]:
        """The entries of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def text(self) -> str | None:
        """The value of a text scalar; None for anything else."""
        return self.value if isinstance(self.value, str) else None

    def get(self, *parts: str | int) -> Node | None:
        """The node at a path below this one, or None."""
        node: Node = self
        for part in parts:
            if isinstance(node.value, dict) and part in node.value:
                node = node.value[str(part)]
            elif isinstance(node.value, list) and isinstance(part, int) and 0 <= part < len(node.value):
                node = node.value[part]
            else:
                return None
        return node

    def replaced(self, changes: dict[str, Node]) -> Node:
        """A mapping with some entries exchanged or added, in place of the old ones."""
        return Node({**self.mapping, **changes}, self.mark, {**{k: n.mark for k, n in changes.items()}, **self.keys}, self.replaces)

    def without(self, *names: str) -> Node:
        """A mapping without some entries."""
        return Node({k: n for k, n in self.mapping.items() if k not in names}, self.mark, self.keys, self.replaces)

    def plain(self) -> Any:
        """The value without marks."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def split_lines(text: str) -> tuple[str, ...]:
    """Lines as YAML counts them."""
    return tuple(re.split("\r\n|[\r\n\x85\u2028\u2029]", text))


def show_path(parts: Sequence[str | int]) -> str:
    """`data.transforms[0].crop`."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parse_path(text: str) -> Parts:
    """The reverse of `show_path`; a key that holds a dot cannot be written this way."""
    parts: list[str | int] = []
    for piece in text.split("."):
        name, *positions = re.split(r"\[(\d+)\]", piece)
        parts += [name] if name else []
        parts += [int(p) for p in positions if p]
    return tuple(parts)


def locate(tree: Node, path: Sequence[str | int], *, at_key: bool = False) -> Mark:
    """Where a value (or its key) stands; for what is not written, the key of the nearest parent that is."""
    node, mark = tree, tree.mark
    for position, part in enumerate(path):
        below = node.get(part)
        key_mark = node.keys.get(part) if isinstance(part, str) else None
        if below is None:
            return key_mark or mark
        last = position == len(path) - 1
        mark = below.mark if (last and not at_key) or key_mark is None else key_mark
        node = below
    return mark


class Report:
    """Collects the problems of one recipe."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._marks: list[Mark] = []

    def add(self, mark: Mark, path: Sequence[str | int], message: str) -> None:
        """A problem at a mark; the same complaint about the same place is kept once."""
        key = show_path(path)
        last = key.rpartition(".")[2]
        for position, (old, other) in enumerate(zip(self.problems, self._marks, strict=True)):
            if other == mark and old.message == message and old.key.rpartition(".")[2] == last:
                if len(key) < len(old.key):
                    self.problems[position] = Problem(old.where, key, message, old.excerpt)
                return
        self.problems.append(Problem(mark.where, key, message, mark.excerpt()))
        self._marks.append(mark)

    def at_value(self, tree: Node, path: Sequence[str | int], message: str) -> None:
        """A problem of a value (or, where it is missing, of its parent)."""
        self.add(locate(tree, path), path, message)

    def at_key(self, tree: Node, path: Sequence[str | int], message: str) -> None:
        """A problem of a key."""
        self.add(locate(tree, path, at_key=True), path, message)

    def include(self, problems: Sequence[Problem]) -> None:
        """Problems that were found elsewhere, in their order."""
        source = Source("")
        self.problems += problems
        self._marks += [Mark(source, position + 1) for position in range(len(problems))]

    def sorted(self) -> list[Problem]:
        """The problems in the order of their places, source by source in order of appearance."""
        order: dict[int, int] = {}
        for mark in self._marks:
            order.setdefault(id(mark.source), len(order))
        pairs = sorted(zip(self._marks, self.problems, strict=True), key=lambda p: (order[id(p[0].source)], p[0].line, p[0].column))
        return [problem for _, problem in pairs]


def found(value: Any) -> str:
    """A value as messages show it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str() if len(value) > 60:
            return repr(value[:57] + "...")
    return repr(value)


def file_name(given: Path) -> str:
    """A path as messages show it: as given, without detours."""
    return os.path.normpath(given)
