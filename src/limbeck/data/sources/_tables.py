"""What the sources of tables have in common: which columns are inputs, targets or texts, and what their cells mean."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, did_you_mean
from ._lengths import LENGTH, by_length
from .base import Column, Pool, Source, Wanted, all_train, as_part, existing, joined

Cells = NDArray[Any] | Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class TableSource(Source):
    """A table in a file, or a folder with `train`, `valid` (`val`, `dev`) and `test` files."""

    suffixes: ClassVar[tuple[str, ...]]
    """Endings of such files."""

    target: str | tuple[str, ...] = "label"
    """Column(s) to predict. Several labels an example: several columns of 0 and 1, or one of texts such as `cat|dog`."""
    text: str | tuple[str, ...] | None = None
    """Column with the text (or the two of a pair), a text or a list of words; `text` for a text task where absent."""
    columns: tuple[str, ...] | None = None
    """Input columns of a table; all but the target and the dropped ones where absent."""
    drop: tuple[str, ...] | str = ()
    """Columns that are no inputs."""
    categorical: tuple[str, ...] | str = ()
    """Number columns that are categories; columns of texts always are."""
    encoding: Literal["onehot", "ordinal"] = "onehot"
    """Categories as one column of 0 and 1 each, or as one column of ranks."""
    missing: tuple[str, ...] = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "?")
    """Texts that stand for a missing value."""
    valid: str | None = None
    """File of the validation part, looked for beside the training file first."""
    test: str | None = None
    """File of the test part, likewise."""

    @abstractmethod
    def load(self, path: Path) -> dict[str, Cells]:
        """The columns of one file."""

    def read(self, location: str, wanted: Wanted) -> Pool:
        """All rows of all parts."""
        prefix = self.suffixes[0].lstrip(".")
        files = self._files(existing(location, prefix), prefix)
        tables = {part: self.load(path) for part, path in files.items()}
        first = next(iter(tables))
        for part, table in tables.items():
            if missing := [name for name in tables[first] if name not in table]:
                raise DataError(f"{files[part]} has no column {missing[0]!r}, which {files[first]} has.{did_you_mean(missing[0], table)}")
        counts = {part: len(next(iter(table.values()), ())) for part, table in tables.items()}
        if empty := [files[part] for part, count in counts.items() if count == 0]:
            raise DataError(f"{empty[0]} has no rows.")
        columns = {name: _concatenated([table[name] for table in tables.values()]) for name in tables[first]}
        return self.pool(columns, joined(counts) if len(files) > 1 else all_train(counts[first]), wanted, str(files[first]))

    def pool(self, columns: Mapping[str, Cells], parts: dict[str, NDArray[np.int64]], wanted: Wanted, where: str) -> Pool:
        """Columns sorted into inputs and labels."""
        if wanted.language is not None:
            return self._plain(columns, parts, wanted, where)
        targets, texts = _listed(self.target), self._text_columns(wanted)
        for key, names in (
            ("target", targets),
            ("text", texts),
            ("columns", self.columns or []),
            ("drop", _listed(self.drop)),
            ("categorical", _listed(self.categorical)),
        ):
            _check_columns(key, names, columns, where)
        labels, names = self._labels(columns, targets, wanted, where)
        if texts:
            read = _texts([columns[name] for name in texts], where)
            groups = by_length(read) if wanted.group == LENGTH and LENGTH not in columns else self._groups(columns, wanted, where)
            return Pool("text", read, labels, parts, names, groups=groups)
        groups = self._groups(columns, wanted, where)
        out = {*targets, *_listed(self.drop), wanted.group}
        chosen = self.columns or [name for name in columns if name not in out]
        if leaked := [name for name in chosen if name in targets]:
            raise DataError(f"{where}: {leaked[0]!r} is the target and cannot be an input; take it out of args.columns.")
        if wanted.kind == "image":
            raise DataError(f"{where} is a table, the task needs images. Choose another source or task.")
        forced = _listed(self.categorical)
        inputs = {name: as_column(name, columns[name], self.missing, forced=name in forced, where=where) for name in chosen}
        return Pool("tabular", inputs, labels, parts, names, frozenset(forced), self.encoding == "ordinal", groups=groups)

    def _plain(self, columns: Mapping[str, Cells], parts: dict[str, NDArray[np.int64]], wanted: Wanted, where: str) -> Pool:
        """The columns as they stand; `data.columns` says what is in them."""
        groups = self._groups(columns, wanted, where)
        return Pool("text", [], [], parts, cells={name: list(cells) for name, cells in columns.items()}, groups=groups)

    def _groups(self, columns: Mapping[str, Cells], wanted: Wanted, where: str) -> NDArray[Any] | None:
        """The group of every row, where a split keeps groups together."""
        if wanted.group is None:
            return None
        if wanted.group not in columns:
            held = ", ".join(list(columns)[:20])
            hint = did_you_mean(wanted.group, columns)
            raise DataError(f"{where}: {wanted.group_key}: no column is called {wanted.group!r}.{hint} Columns: {held}.")
        return np.array([str(cell) for cell in columns[wanted.group]])

    def _text_columns(self, wanted: Wanted) -> list[str]:
        if wanted.kind != "text" and (self.text is None or wanted.kind is not None):
            return []
        names = _listed("text" if self.text is None else self.text)
        if len(names) > 2:
            raise DataError(f"args.text takes one column or the two of a pair, got {len(names)}.")
        return names

    def _labels(
        self, columns: Mapping[str, Cells], targets: list[str], wanted: Wanted, where: str
    ) -> tuple[NDArray[Any] | list[Any], tuple[str, ...]]:
        absent = set(self.missing)
        cleaned = [[None if isinstance(cell, str) and cell.strip() in absent else cell for cell in columns[name]] for name in targets]
        if len(targets) == 1:
            return cleaned[0], tuple(targets) if wanted.labels == "real" else ()
        if wanted.labels == "class":
            raise DataError(f"{where}: a classification has one target, got {targets}. Use task: multilabel or regression?")
        return list(zip(*cleaned, strict=True)), tuple(targets)

    def _files(self, path: Path, prefix: str) -> dict[str, Path]:
        if path.is_dir():
            found = {part: f for f in sorted(path.iterdir()) if f.name.endswith(self.suffixes) and (part := as_part(f.name.split(".")[0]))}
            if "train" not in found:
                held = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
                raise DataError(f"{prefix}: {path} has no train{self.suffixes[0]}. It holds {held}. Name the file: {prefix}:{path}/...")
            return {part: found[part] for part in ("train", "valid", "test") if part in found}
        files = {"train": path}
        for part, name in (("valid", self.valid), ("test", self.test)):
            if name is not None:
                beside = path.parent / name
                files[part] = beside if beside.is_file() else existing(name, prefix)
        return files


def as_column(name: str, cells: Cells, missing: Sequence[str], *, forced: bool, where: str) -> Column:
    """Cells as numbers, or as texts where they are none.

    Args:
        name: the column.
        cells: numbers, texts, booleans, None.
        missing: texts that stand for a missing value.
        forced: whether the column is a category in any case.
        where: names the file in messages.

    Raises:
        DataError: cells that are no scalars, or a column of numbers with a few texts among them.
    """
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "iufb":
        return cells.astype(np.float64)
    absent = set(missing)
    plain = [None if cell is None or (isinstance(cell, str) and cell.strip() in absent) else cell for cell in cells]
    numbers = np.full(len(plain), np.nan)
    texts: list[int] = []
    for row, cell in enumerate(plain):
        if isinstance(cell, list | tuple | dict | np.ndarray):
            raise DataError(f"{where}: column {name!r} holds a {type(cell).__name__}; only numbers and texts are inputs. Drop it.")
        if cell is not None:
            try:
                numbers[row] = float(cell)
            except (TypeError, ValueError):
                texts.append(row)
    if not texts:
        return numbers
    known = sum(cell is not None for cell in plain)
    if not forced and len(texts) <= 0.1 * known:
        raise DataError(
            f"{where}: column {name!r} holds numbers, but {str(plain[texts[0]])!r} in row {texts[0] + 1}. "
            f"Mend it, or set args.missing to read it as missing, or args.categorical: [{name}]."
        )
    return [None if cell is None else str(cell).strip() for cell in plain]


def _check_columns(key: str, names: Sequence[str], columns: Mapping[str, Cells], where: str) -> None:
    for name in names:
        if name not in columns:
            held = ", ".join(list(columns)[:20])
            raise DataError(f"{where}: args.{key}: no column is called {name!r}.{did_you_mean(name, columns)} Columns: {held}.")


def _texts(columns: list[Cells], where: str) -> list[str] | list[tuple[str, str]]:
    columns = [[_joined(cell) for cell in cells] for cells in columns]
    for cells in columns:
        for row, cell in enumerate(cells):
            if not isinstance(cell, str) or not cell.strip():
                raise DataError(f"{where}: row {row + 1} has no text (found {cell!r}). Remove it, or check args.text.")
    first = [str(cell) for cell in columns[0]]
    return first if len(columns) == 1 else list(zip(first, map(str, columns[1]), strict=True))


def _joined(cell: Any) -> Any:
    """A list of words as one text, any other cell as it is."""
    return " ".join(cell) if isinstance(cell, list) and cell and all(isinstance(word, str) for word in cell) else cell


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _concatenated(parts: list[Cells]) -> Cells:
    if all(isinstance(part, np.ndarray) and part.dtype.kind in "iufb" for part in parts):
        return np.concatenate([np.asarray(part) for part in parts])
    return [cell for part in parts for cell in part]
