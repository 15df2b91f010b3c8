"""Which group (a sex, a region, a writer) an example belongs to, read beside the data that models see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..types import LabelKind
from .base import DataRequest
from .opening import build_source
from .sources.base import Kind, Wanted

MOST = 50
"""Groups that are told apart at most; more are no groups but a measurement."""


def group_names(
    request: DataRequest, name: str, *, kind: Kind | None, labels: LabelKind, where: str = "evaluate.groups", allow_code: bool = False
) -> NDArray[np.str_]:
    """The name of the group of every row of the source.

    Args:
        request: of the data.
        name: of the column, or of another kind of groups that the source knows.
        kind: as for `load_data`.
        labels: as for `load_data`.
        where: the key that asks, for messages.
        allow_code: run a source that is local code.

    Raises:
        DataError: where the source knows no such groups, or there are too many of them, or a single one.
    """
    if request.datasets:
        raise DataError(f"{where}: groups are for one data set, and these are several (data.datasets). Remove it.")
    reader, location = build_source(request.source, request.args, allow_code=allow_code)
    pool = reader.read(location, Wanted(kind, labels, preview=True, group=name, group_key=where))
    if pool.groups is None:
        raise DataError(f"{where}: {request.source} has no groups called {name!r}; name a column of a table, or leave the key out.")
    found = np.asarray(pool.groups).astype(str)
    count = len(np.unique(found))
    if not 1 < count <= MOST:
        raise DataError(f"{where}: {name!r} has {count} different values; groups are from 2 to {MOST}. Choose another column.")
    return found
