"""Tagged sentences as questions: where is the city? The answer is a span of the sentence.

Reference: Li et al., "A Unified MRC Framework for Named Entity Recognition", ACL 2020, arXiv:1910.11476.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import Any

from ...entities import marks_spans, spans
from ...errors import DataError
from .columns import Records
from .tags import tags_in, words_in


def inquiries(records: Records) -> Records:
    """A question for every sentence with tags: its type of entity in words, and the first of that type for an answer.

    Sentences ask for their entities in turn: the first sentence for its first one, the second for its second, and so on, beginning anew
    behind the last. A sentence without an entity has no question and is left out.

    Args:
        records: `words` and `tags`.

    Returns:
        `question`, `context` (the words, joined by spaces) and `answers`.

    Raises:
        DataError: no tag marks an entity.
    """
    names = {tag for row in range(len(records.cells["words"])) for tag in tags_in(records, row) if tag is not None}
    if not marks_spans(sorted(names)):
        found = f"{records.where}: {records.names['tags']!r}"
        raise DataError(f"{found} must mark entities (O, B-city, I-city) to be asked for, found {', '.join(sorted(names)[:5])}.")
    rows = [_asked(records, row) for row in range(len(records.cells["words"]))]
    cells = {role: [row[number] for row in rows] for number, role in enumerate(("question", "context", "answers"))}
    return replace(records, kind="spans", cells=cells, names=dict.fromkeys(cells, records.names["words"]))


def _asked(records: Records, row: int) -> tuple[str, str, Any]:
    """Question, context and answer of a sentence."""
    words = words_in(records, row)
    context = " ".join(words)
    first: dict[str, tuple[int, int]] = {}
    for kind, start, end in sorted(spans([tag or "O" for tag in tags_in(records, row)]), key=lambda found: found[1]):
        first.setdefault(kind, (start, end))
    if not first:
        return "", context, None
    kind = list(first)[row % len(first)]
    start, end = first[kind]
    place = [0, *accumulate(len(word) + 1 for word in words)]
    answer = {"text": [" ".join(words[start : end + 1])], "answer_start": [place[start]]}
    return kind.replace("_", " "), context, answer
