"""Tags that mark entities: `O`, `B-city`, `I-city` and their kin."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TAG = re.compile(r"([BIESLU])-(.+)")
"""A tag that says where in an entity a word stands, and of what type the entity is."""


def marks_spans(names: Sequence[str]) -> bool:
    """Whether tags mark spans: all are `O` or such as `B-city`, `I-city` (also of the schemes IOE, BIOES and BILOU)."""
    return any(name != "O" for name in names) and all(name == "O" or _TAG.fullmatch(name) for name in names)


def spans(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Type, first and last word of every entity in one sentence.

    As CoNLL counts: an entity begins at `B`, and also at `I` or `E` where none of the same type goes on; it ends before `B`, `O` or another
    type, and behind `E`. `S` and `U` are entities of one word, `L` is another name of `E`.
    """
    found: set[tuple[str, int, int]] = set()
    kind, start = "", -1
    for place, tag in enumerate([*tags, "O"]):
        match = _TAG.fullmatch(tag)
        mark, own = (match[1], match[2]) if match else ("O", "")
        if start >= 0 and (mark in "OBSU" or own != kind):
            found.add((kind, start, place - 1))
            start = -1
        if mark != "O" and start < 0:
            kind, start = own, place
        if mark in "ESLU" and start >= 0:
            found.add((kind, start, place))
            start = -1
    return found
