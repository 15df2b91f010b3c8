"""Answers that are found in texts by a pattern, such as `#### 42`, and compared."""

from __future__ import annotations

import re
from collections.abc import Sequence


def answer_in(text: str, pattern: str) -> str | None:
    """The answer that a text ends with: the last place where the pattern is found, its first group if it has one.

    White space around it is left out, as are commas between digits. None where the pattern is not found.
    """
    found = list(re.finditer(pattern, text))
    if not found:
        return None
    own = found[-1].group(1) if found[-1].re.groups else found[-1].group()
    return re.sub(r"(?<=\d),(?=\d)", "", (own or "").strip())


def exact_match(said: Sequence[str], wanted: Sequence[str], pattern: str) -> float | None:
    """Share of the texts whose answer is that of the reference; references without an answer are left out.

    Returns:
        None where no reference has an answer.
    """
    pairs = [(answer_in(own, pattern), answer_in(reference, pattern)) for own, reference in zip(said, wanted, strict=True)]
    known = [own == reference for own, reference in pairs if reference is not None]
    return sum(known) / len(known) if known else None
