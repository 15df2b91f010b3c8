"""Exact sums in figures, for language models that learn to add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from ...errors import DataError, UnknownName
from ...types import Fraction, NonNegativeInt, PositiveInt
from ..hashing import permutation
from .base import Pool, Source, Wanted, all_train
from .text import check_language

SUMS = "sums"
_PURPOSE = 23  # tells these random numbers from others


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
        cells = {
            "question": [f"{one}+{other}=" for one, other in pairs],
            "answer": answers,
            "hint": [answer if row in hinted else "" for row, answer in enumerate(answers)],
        }
        return Pool("text", [], [], all_train(count), cells=cells)
