"""Labels by whoever can be asked: a model behind an interface, a program, a person. Answers are written down as they come.

Reference: Kuzman and Ljubesic, "LLM Teacher-Student Framework for Text Classification With No Manually Annotated Data", IEEE Access 2025,
arXiv:2411.19638.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

Annotator = Callable[[Sequence[str]], Sequence[str | None]]
"""Gives a label for each of some texts; None, or a text that is no class, where it knows none."""


@dataclass(frozen=True)
class Annotated:
    """What became of the texts."""

    labels: list[str | None]
    """A class for each text; None where the annotator knew none."""
    asked: int
    """Texts that were asked about now; the answers to the others lay in the file."""

    @property
    def unknown(self) -> int:
        """Texts without a label."""
        return sum(label is None for label in self.labels)


def annotate(texts: Sequence[str], annotator: Annotator, path: str | Path, *, classes: Sequence[str], batch_size: int = 32) -> Annotated:
    """Asks about every text that the file does not answer yet, and writes a line for each: `{"text": ..., "label": ...}`.

    Equal texts are asked about once. What is no class is written as null. A line that was cut off by a kill is dropped.

    Args:
        texts: what is to be labelled.
        annotator: whom to ask, so many texts at a time.
        path: the file, made where it is absent; a source for `jsonl:`.
        classes: the labels that count.
        batch_size: texts of one call.

    Raises:
        DataError: an annotator that gives another number of labels, or a file with other lines.
    """
    path = Path(path)
    known = _read(path, set(classes))
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    with path.open("a", encoding="utf-8") as file:
        for some in _batches(missing, batch_size):
            answers = annotator(some)
            if len(answers) != len(some):
                raise DataError(f"the annotator was asked about {len(some)} texts and gave {len(answers)} labels; expected one for each.")
            for text, answer in zip(some, answers, strict=True):
                known[text] = answer if answer in classes else None
                file.write(json.dumps({"text": text, "label": known[text]}, ensure_ascii=False) + "\n")
            file.flush()
    return Annotated([known[text] for text in texts], len(missing))


def _batches(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(texts), size):
        yield list(texts[start : start + size])


def _read(path: Path, classes: set[str]) -> dict[str, str | None]:
    """Text to label; the file is cut behind its last whole line."""
    if not path.exists():
        return {}
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        path.write_bytes(whole)
    found: dict[str, str | None] = {}
    for number, line in enumerate(whole.decode("utf-8").split("\n")[:-1], 1):
        try:
            row = json.loads(line)
            text, label = row["text"], row["label"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{path}:{number}: expected {{"text": ..., "label": ...}}, found {line[:60]!r}.') from error
        if label is not None and label not in classes:
            raise DataError(f"{path}:{number}: the label {label!r} is none of the classes; was the file made for others? Name another.")
        found[text] = label
    return found
