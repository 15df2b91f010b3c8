"""Texts made of the columns of a row: `{question} The answer is {answer}.`"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import DataError, UnknownName
from .columns import Records


class Template:
    """A text in which `{NAME}` stands for what a column (or a role of `data.columns`, such as `prompt`) holds; `{{` is a brace.

    Args:
        text: the template.
        cells: columns of the source by name.
        records: roles of the same rows.
        where: the key that it is given by, for messages.

    Raises:
        DataError: where braces do not match, or hold more than a name.
        UnknownName: no such column.
    """

    def __init__(self, text: str, cells: Mapping[str, Sequence[Any]], records: Records, where: str) -> None:
        self.where, self._known = where, {**records.cells, **cells}
        try:
            self._parts = [(before, name, bool(how or what)) for before, name, how, what in string.Formatter().parse(text)]
        except ValueError as error:
            raise DataError(f"{where}: {error}. A column is written {{NAME}}, a brace {{{{ or }}}}.") from None
        for _, name, more in self._parts:
            if more:
                raise DataError(f"{where}: expected {{{name}}} alone, without ! or a format; a column is written as it stands.")
            if name is not None and name not in self._known:
                raise UnknownName(f"column in {where}", name, self._known)

    def __call__(self, row: int, **own: str) -> str:
        """The text of a row; `own` are values that count instead of columns of these names.

        Raises:
            DataError: where a column holds nothing there, or no text and no number.
        """
        found: list[str] = []
        for before, name, _ in self._parts:
            found.append(before)
            if name is not None:
                found.append(own[name] if name in own else self._value(name, row))
        return "".join(found)

    def _value(self, name: str, row: int) -> str:
        cell = self._known[name][row]
        if isinstance(cell, list | tuple) and cell and all(isinstance(word, str) for word in cell):
            return " ".join(cell)
        if isinstance(cell, str | int | float) and cell != "":
            return str(cell)
        what = "nothing" if cell is None or cell == "" else f"{type(cell).__name__} {str(cell)[:40]!r}"
        raise DataError(f"{self.where}: row {row + 1}: expected a text or a number in the column {name!r}, found {what}. Mend the row.")
