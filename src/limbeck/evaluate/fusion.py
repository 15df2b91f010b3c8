"""Language models that write together: a large one, moved at every token as training has moved smaller ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..ops.projection import logits_of
from ..tokens import Fused, Logits
from .generation import positions


class FusedWriter(nn.Module):
    """Several models as one that predicts the next token; `greedy` lets it write.

    Args:
        large: the model that is moved.
        moves: of each smaller one what it is after and before it was trained.
        weight: factor of the moves; None finds one for every token.
        outputs: how many tokens the tokenizer has; further rows of the models' heads only pad them.
    """

    def __init__(self, large: nn.Module, moves: Sequence[tuple[nn.Module, nn.Module]], weight: float | None, outputs: int) -> None:
        super().__init__()
        self.members = nn.ModuleList([large, *(model for move in moves for model in move)])
        self.weight, self.outputs = weight, outputs
        limits = [limit for member in self.members if (limit := positions(member)) is not None]
        self.longest = min(limits) if limits else None

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor | None = None) -> dict[str, Tensor]:
        """Logits of the token that comes next, `(batch, 1, outputs)`; a text with more tokens than the models have positions is read from
        behind."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if decoder_input_ids is not None:
            inputs["decoder_input_ids"] = decoder_input_ids
        elif self.longest is not None:
            inputs = {name: value[:, -self.longest :] for name, value in inputs.items()}
        said = [Logits(_last(member(**inputs))[:, : self.outputs]) for member in self.members]
        pairs = tuple(zip(said[1::2], said[2::2], strict=True))
        return {"logits": logits_of(Fused(said[0], pairs, self.weight), self.outputs)[:, None]}


def _last(output: Any) -> Tensor:
    """The logits at the last place."""
    logits = output if isinstance(output, Tensor) else output["logits"] if isinstance(output, Mapping) else output[0]
    return logits[:, -1].float()


def shared_vocabulary(first: Any, second: Any) -> bool:
    """Whether two tokenizers have the same tokens under the same numbers."""
    return first.get_vocab() == second.get_vocab()
