"""Confusion and similarity matrices as tables: legible at any width, selectable, and readable by a screen reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .numbers import MINUS, finite, percent

CLASSES_SHOWN = 30
"""With more classes than this a matrix cannot be read; the most confused pairs are listed instead."""
PAIRS_SHOWN = 15
PAIRS_BESIDE_MATRIX = 6


@dataclass(frozen=True)
class Cell:
    """One field: its text, the strength of its colour in [0, 1], and the kind of colour."""

    text: str
    strength: float
    tone: str
    help: str = ""


@dataclass(frozen=True)
class Grid:
    """A matrix with names."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]

    @property
    def upright(self) -> bool:
        """Whether the column names are long and must stand upright."""
        return any(len(name) > 3 for name in self.columns)


@dataclass(frozen=True)
class Pair:
    """Two classes that are taken for one another."""

    truth: str
    predicted: str
    count: int
    share: str
    """Of the examples of the true class."""
    teacher: str


@dataclass(frozen=True)
class Confusion:
    """What the page shows of the confusion of the student."""

    classes: int
    grid: Grid | None
    difference: Grid | None
    pairs: tuple[Pair, ...]


def confusion(student: Any, teacher: Any, names: Sequence[str]) -> Confusion | None:
    """The student's confusion matrix, its difference to the teacher's, and the most confused pairs.

    Args:
        student: counts, rows are true classes and columns predictions; None where there is none.
        teacher: the same of the teacher, or None.
        names: class names; numbers stand in where they are too few.
    """
    ours, theirs = _square(student), _square(teacher)
    if not ours:
        return None
    if len(theirs) != len(ours):
        theirs = []
    labels = tuple(str(names[i]) if i < len(names) else str(i) for i in range(len(ours)))
    small = len(ours) <= CLASSES_SHOWN
    grid = _counts(ours, labels) if small else None
    difference = _difference(ours, theirs, labels) if small and theirs else None
    return Confusion(len(ours), grid, difference, _pairs(ours, theirs, labels)[: PAIRS_BESIDE_MATRIX if small else PAIRS_SHOWN])


def similarity(found: Mapping[str, Any] | None) -> Grid | None:
    """The CKA of student layers (rows) with teacher layers (columns)."""
    if not found or not found.get("cka"):
        return None
    rows, columns = tuple(map(str, found.get("student") or ())), tuple(map(str, found.get("teacher") or ()))
    cells = []
    for name, values in zip(rows, found["cka"], strict=False):
        cells.append(tuple(_cka(name, column, value) for column, value in zip(columns, values, strict=False)))
    return Grid(rows, columns, tuple(cells))


def _cka(row: str, column: str, value: Any) -> Cell:
    number = finite(value)
    if number is None:
        return Cell("", 0, "plain")
    return Cell(f"{number:.2f}", round(min(max(number, 0), 1), 3), "distilled", f"student {row}, teacher {column}: {number:.3f}")


def _square(matrix: Any) -> list[list[int]]:
    if not isinstance(matrix, list) or not matrix:
        return []
    if any(not isinstance(row, list) or len(row) != len(matrix) for row in matrix):
        return []
    return [[round(finite(value) or 0) for value in row] for row in matrix]


def _counts(ours: list[list[int]], labels: tuple[str, ...]) -> Grid:
    cells = []
    for i, row in enumerate(ours):
        total = max(sum(row), 1)
        line = []
        for j, count in enumerate(row):
            tone = "plain" if not count else "good" if i == j else "bad"
            # errors are few; a root makes them visible beside the diagonal
            strength = count / total if i == j else (count / total) ** 0.5
            line.append(Cell(str(count), round(strength, 3), tone, f"{labels[i]} taken for {labels[j]}: {count} of {sum(row)}"))
        cells.append(tuple(line))
    return Grid(labels, labels, tuple(cells))


def _difference(ours: list[list[int]], theirs: list[list[int]], labels: tuple[str, ...]) -> Grid:
    top = max((abs(a - b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)), default=0) or 1
    cells = []
    for i, (row, other) in enumerate(zip(ours, theirs, strict=True)):
        line = []
        for j, (count, teacher) in enumerate(zip(row, other, strict=True)):
            change = count - teacher
            tone = "plain" if not change else "good" if (change > 0) == (i == j) else "bad"
            text = "0" if not change else f"+{change}" if change > 0 else f"{MINUS}{-change}"
            said = f"{labels[i]} taken for {labels[j]}: student {count}, teacher {teacher}"
            line.append(Cell(text, round(abs(change) / top, 3), tone, said))
        cells.append(tuple(line))
    return Grid(labels, labels, tuple(cells))


def _pairs(ours: list[list[int]], theirs: list[list[int]], labels: tuple[str, ...]) -> tuple[Pair, ...]:
    wrong = [(count, i, j) for i, row in enumerate(ours) for j, count in enumerate(row) if i != j and count > 0]
    wrong.sort(key=lambda item: (-item[0], item[1], item[2]))
    return tuple(
        Pair(labels[i], labels[j], count, percent(count / max(sum(ours[i]), 1)), str(theirs[i][j]) if theirs else "")
        for count, i, j in wrong
    )
