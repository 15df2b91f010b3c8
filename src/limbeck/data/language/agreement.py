"""Whether two tokenizers mean the same tokens by the same ids, which models that are compared token by token must."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SHOWN = 3


@dataclass(frozen=True)
class Agreement:
    """How the ids of one tokenizer (`own`, that of the data) are those of another (`other`, that of a model)."""

    size: int
    """Number of ids that both know."""
    other: tuple[tuple[int, str, str], ...]
    """Ids that mean something else: id, token of the data, token of the model."""
    renamed: tuple[tuple[int, str, str], ...]
    """The same of ids that are special to both, such as reserved ones that were given a name."""
    absent: tuple[tuple[int, str], ...]
    """Ids that the model's tokenizer does not have."""
    reordered: bool
    """Whether both hold the same tokens, under other ids."""

    @property
    def fits(self) -> bool:
        """Whether every id that both know means the same token."""
        return not self.other

    def told(self) -> str:
        """What differs, for a message."""
        number, mine, theirs = self.other[0]
        order = "the same tokens in another order" if self.reordered else "another vocabulary"
        return (
            f"{order}: {len(self.other):,} of {self.size:,} ids mean another token (the first: id {number} is {theirs!r} there and "
            f"{mine!r} in data.tokenizer)"
        )

    def notes(self) -> list[str]:
        """What a reader should know though it fits."""
        found = []
        if self.absent:
            names = ", ".join(repr(token) for _, token in self.absent[:_SHOWN])
            found.append(f"its tokenizer lacks {len(self.absent):,} tokens of data.tokenizer ({names}), which it may never have learnt.")
        if self.renamed:
            names = ", ".join(f"{theirs!r} is {mine!r}" for _, mine, theirs in self.renamed[:_SHOWN])
            found.append(f"{len(self.renamed):,} special tokens have other names in data.tokenizer ({names}).")
        return found


def agreement(own: Any, other: Any) -> Agreement:
    """Compares two transformers tokenizers, id by id.

    Args:
        own: that of the data.
        other: that of a model.
    """
    mine, theirs = _tokens(own), _tokens(other)
    special = set(own.added_tokens_decoder) & set(other.added_tokens_decoder)
    both = sorted(mine.keys() & theirs.keys())
    differing = [(number, mine[number], theirs[number]) for number in both if mine[number] != theirs[number]]
    return Agreement(
        size=len(both),
        other=tuple(item for item in differing if item[0] not in special),
        renamed=tuple(item for item in differing if item[0] in special),
        absent=tuple((number, mine[number]) for number in sorted(mine.keys() - theirs.keys())),
        reordered=set(mine.values()) == set(theirs.values()),
    )


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {number: token for token, number in tokenizer.get_vocab().items()}
