"""The domains that texts are from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...errors import DataError, did_you_mean
from ..base import Domains
from .rows import TokenRows


def domain_column(cells: Mapping[str, Sequence[Any]], asked: str | None, where: str) -> list[str]:
    """The domain of every row of a source; empty where none is asked for.

    Raises:
        DataError: there is no such column, fewer than two domains, or a row without one.
    """
    if asked is None:
        return []
    if asked not in cells:
        held = ", ".join(list(cells)[:20])
        raise DataError(f"{where}: data.domain: no column is called {asked!r}.{did_you_mean(asked, cells)} Columns: {held}.")
    found = [str(value) if value is not None and str(value).strip() else "" for value in cells[asked]]
    if "" in found:
        raise DataError(f"{where}: row {found.index('') + 1}: {asked!r} is empty, and data.domain needs a name for every text.")
    if len(set(found)) < 2:
        raise DataError(f"{where}: data.domain: {asked!r} names only {found[0]!r}; two domains or more can be mixed.")
    return found


def domains_of(column: Sequence[str], store: TokenRows) -> Domains:
    """The domain of every example.

    Raises:
        DataError: texts of several domains lie in one row.
    """
    if store.packed:
        raise DataError("data.domain and data.pack: a packed row holds texts of several domains. Remove one of the two.")
    names = sorted(set(column))
    numbers = {name: number for number, name in enumerate(names)}
    rows: list[int] = store.documents.rows[store.layout.document].tolist()
    return Domains(tuple(names), torch.tensor([numbers[column[row]] for row in rows], dtype=torch.int64))
