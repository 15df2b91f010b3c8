"""How texts become trained tokens, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class CanaryRequest:
    """Sentences with random digits that are planted in the training texts, to see later who has learnt them by heart."""

    text: str
    """The sentence, with a `#` for every digit."""
    count: int = 10
    """Different ones."""
    repeats: int = 10
    """How often each is planted."""
    fills: int = 255
    """Other digits that each is compared with."""


@dataclass(frozen=True)
class RolloutRequest:
    """Replies that a model has written take the place of the training replies, and views may name `right` and `wrong`."""

    file: str | None = None
    """What was written; None before anything is."""


@dataclass(frozen=True)
class TokenRequest:
    """The part of a request that only language models read; the plain form of these keys of a recipe's `data`."""

    columns: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    """Which column holds what: `text`; `prompt` and `completion`; `messages`; guessed where empty."""
    train_on: Literal["completion", "all"] | None = None
    """Prompts and chats: the answers only, or every token; the answers where absent."""
    pack: bool = False
    """Several documents in one row, which do not see each other."""
    padding: Literal["left", "right"] | None = None
    """Where short rows are filled; the tokenizer's side where absent."""
    stride: int = 0
    """Tokens of context that a window of a long text repeats of the one before it."""
    end: bool = True
    """Documents end with the tokenizer's end token, which is trained."""
    separator: str = ""
    """Text between prompt and completion, part of the prompt."""
    cut: Literal["end", "prompt"] = "end"
    """What prompts with completions that are too long lose: the end, or the beginning of the prompt."""
    chat_template: str | None = None
    """File with a chat template; the tokenizer's own where absent."""
    mask: float = 0.15
    """Masked language models: share of the tokens that is to be predicted."""
    scrambled: float = 0.0
    """Share of the training texts whose characters are put in random order."""
    domain: str | None = None
    """The column that names the domain of each text."""
    private: str | None = None
    """Regular expression of what is private in a text."""
    canaries: CanaryRequest | None = None
    """What is planted in the training texts."""
    decoder_start: str | None = None
    """Encoder-decoders: the token that the decoder begins with."""
    rollouts: RolloutRequest | None = None
    """What a model has written for the training questions."""
