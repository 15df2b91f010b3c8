r"""Some of the trained tokens only: those of the answers, of the prompts, or what is private or not.

A token has the weight 1 where it is meant and else 0, and the term is the mean over those that are meant, over the whole update. So one
loss may be taken over the answers and another over the prompts, each with a weight of its own (LLaVA-KD's response and visual tokens), or
the labels be read only where a text is not private (swing distillation). Prompts are among the trained tokens with `data.train_on: all`;
what is private is said by `data.private`.

Goes with any loss that has a value for each token. The logits of all tokens of a forward pass are held.

Reference: Cai et al., "LLaVA-KD: A Framework of Distilling Multimodal Large Language Models", ICCV 2025, arXiv:2410.16236, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from ..errors import SignalMissing
from ..types import Signals
from .base import Target

Which = Literal["answers", "prompts", "public", "private"]
_SIGNAL = {"answers": "given", "prompts": "given", "public": "private", "private": "private"}


@final
@dataclass(eq=False, repr=False, kw_only=True)
class OnlyTokens(Target):
    """Leaves the other tokens out of a term."""

    weighs: ClassVar[bool] = True

    which: Which = "answers"
    """The tokens that count."""

    @property
    def extra(self) -> tuple[str, ...]:
        return (_SIGNAL[self.which],)

    def weights(self, student: Signals, teacher: Signals, labels: Tensor | None) -> Tensor:
        known = student.extra.get(_SIGNAL[self.which])
        if known is None:
            raise SignalMissing(
                f"only_tokens needs the signal {_SIGNAL[self.which]!r} of the data; set data.private, or remove it from this term."
            )
        return known if self.which in ("prompts", "private") else 1 - known

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> tuple[Signals, Signals]:
        return student, teacher
