"""Parameter names of foreign checkpoints: renaming, and the rename that would make them fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from ..errors import ModelError


def rename(state: Mapping[str, Tensor], prefix: Mapping[str, str], source: str) -> dict[str, Tensor]:
    """`state` with the beginnings of names replaced; for each name the longest prefix that fits counts.

    Raises:
        ModelError: where two names become one, or a prefix fits no name.
    """
    result: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, value in state.items():
        start = max((p for p in prefix if name.startswith(p)), key=len, default=None)
        used |= {start} if start is not None else set()
        new = name if start is None else prefix[start] + name[len(start) :]
        if new in result:
            raise ModelError(f"{source}: after the renaming by prefix, two parameters are called {new!r}; make the prefixes longer.")
        result[new] = value
    unused = [p for p in prefix if p not in used]
    if unused:
        known = sorted({name.partition(".")[0] + "." for name in state})[:8]
        raise ModelError(f"{source}: no parameter name starts with prefix {unused[0]!r}; the names start with {', '.join(known)}.")
    return result


def suggest_prefix(own: Sequence[str], given: Sequence[str]) -> str:
    """A line that names the `prefix` under which more names would fit, or the empty string."""
    known = set(own)
    matched = sum(name in known for name in given)
    best, best_count = None, max(matched, len(known) // 2)
    for old, new in _candidates(own, given):
        moved = (new + n[len(old) :] if n.startswith(old) else n for n in given)
        count = sum(name in known for name in moved)
        if count > best_count:
            best, best_count = (old, new), count
    if best is None:
        return ""
    old, new = best
    start = f"all names start with {old!r}" if all(n.startswith(old) for n in given) and old else f"{best_count} names would fit"
    return f"  {start}: add prefix: {{{old!r}: {new!r}}}"


def _candidates(own: Sequence[str], given: Sequence[str]) -> list[tuple[str, str]]:
    """Plausible renames: what stands before a shared ending, on either side."""
    by_ending: dict[str, list[str]] = {}
    for name in own:
        by_ending.setdefault(_ending(name), []).append(name)
    votes: Counter[tuple[str, str]] = Counter()
    for name in given:
        for other in by_ending.get(_ending(name), [])[:50]:
            votes[_difference(name, other)] += 1
    return [pair for pair, _ in votes.most_common(20)]


def _ending(name: str) -> str:
    return ".".join(name.split(".")[-2:])


def _difference(name: str, other: str) -> tuple[str, str]:
    """The beginnings that are left when the longest common run of last parts is cut off."""
    a, b = name.split("."), other.split(".")
    while a and b and a[-1] == b[-1]:
        a.pop()
        b.pop()
    return "".join(f"{part}." for part in a), "".join(f"{part}." for part in b)
