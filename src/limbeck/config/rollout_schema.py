"""The grammar of `data.rollouts`: replies that a model of the recipe writes for the training questions, verified against the data's own."""

from __future__ import annotations

from typing import Literal

from ..types import NonNegative, PositiveInt
from .spec import Spec


class AgainSpec(Spec):
    """A second writing, by the same model; a mapping, or just the view."""

    view: str
    """The view of the data that the model reads; its prompt may name the columns `{right}` and `{wrong}`."""
    temperature: NonNegative = 0.4
    """Of what is written; 0 takes the likeliest token."""


class RolloutSpec(Spec):
    """Replies that a model writes for the training questions when the stage begins; a mapping, or just the file of an earlier run."""

    file: str | None = None
    """What an earlier run has left in its folder `rollouts`, instead of writing anew."""
    by: str = "teacher"
    """Which model of the recipe writes, as it is when the stage begins."""
    view: str | None = None
    """The view of the data that it reads; the prompts of the examples themselves where absent."""
    samples: PositiveInt = 4
    """Replies to every question."""
    temperature: NonNegative = 0.8
    """At which they are drawn."""
    top_k: PositiveInt | None = 50
    """So many of the likeliest tokens are drawn from, in the second writing too."""
    tokens: PositiveInt | None = None
    """Tokens of a reply at most; `evaluate.tokens` where absent. A reply that is cut off there is not right."""
    answer: str | None = None
    """Regular expression that finds the answer in a reply, as `evaluate.answer`, which counts where absent. A reply is right where its
    answer is that of the data's own reply."""
    keep: Literal["mixed", "right", "all"] = "mixed"
    """Questions that are kept: with right and wrong replies, with a right one, or all, unverified."""
    again: AgainSpec | None = None
    """A second writing, which must be right and is then the reply; a mapping, or just the view. The first is where absent."""
