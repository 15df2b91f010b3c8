"""Exact sums in figures, for language models that learn to add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from ...errors import DataError, UnknownName
from ...types import Fraction, NonNegativeInt, PositiveInt
from ..hashing import mix, permutation
from .base import Pool, Source, Wanted, all_train
from .text import check_language

SUMS = "sums"
_PURPOSE = 23  # tells these random numbers from others
_NEAR = 10  # how far a wrong sum is from the right one, at most, where there is room on both sides


@final
@dataclass(frozen=True, kw_only=True)
class Arithmetic(Source):
    """`arithmetic:sums`: the columns `question` (`37+5=`), `answer` (`42`) and `hint`, the answer or nothing, of all pairs of numbers in
    random order."""

    largest: PositiveInt = 99
    """The largest number that is added."""
    count: PositiveInt | None = None
    """How many sums; all where absent."""
    hints: Fraction = 0.0
    """Share of the sums whose `hint` is the answer; that of the others is empty."""
    hint: Literal["right", "both"] = "right"
    """What a hint is: the answer, or the answer and a wrong one in the line below it."""
    seed: NonNegativeInt = 0
    """Of the order, and of which sums have a hint."""

    def read(self, location: str, wanted: Wanted) -> Pool:
        """The sums in their order."""
        check_language(wanted, f"arithmetic:{location}")
        if location != SUMS:
            raise UnknownName("text of arithmetic", location, [SUMS])
        numbers = self.largest + 1
        count = self.count or numbers**2
        if count > numbers**2:
            raise DataError(f"arithmetic:sums: args.count is {count:,}, and there are {numbers**2:,} sums up to {self.largest}.")
        chosen = permutation(numbers**2, self.seed, _PURPOSE)[:count].tolist()
        pairs = [divmod(number, numbers) for number in chosen]
        answers = [str(one + other) for one, other in pairs]
        hinted = set(permutation(count, self.seed, _PURPOSE, 1)[: round(self.hints * count)].tolist())
        texts = answers if self.hint == "right" else [f"{answer}\n{self._wrong(int(answer), row)}" for row, answer in enumerate(answers)]
        cells = {
            "question": [f"{one}+{other}=" for one, other in pairs],
            "answer": answers,
            "hint": [text if row in hinted else "" for row, text in enumerate(texts)],
        }
        return Pool("text", [], [], all_train(count), cells=cells)

    def _wrong(self, answer: int, row: int) -> int:
        """A number near the answer."""
        least = max(answer - _NEAR, 0)
        others = [number for number in range(least, least + 2 * _NEAR + 1) if number != answer]
        return others[int(mix(self.seed, _PURPOSE, 2, row)[0] % len(others))]
