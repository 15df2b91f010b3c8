"""Prompts and replies in one batch, beside what a teacher said of the replies alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import LimbeckError
from ..types import IGNORE


@dataclass(frozen=True)
class Replies:
    """A batch of sequences. The labels are shifted already: position i holds the token that follows it."""

    input_ids: Tensor
    """`(batch, tokens)`, padded on the right."""
    attention_mask: Tensor
    """1 where there is a token."""
    labels: Tensor
    """The next token where it belongs to the reply, else `IGNORE`."""
    teacher_logits: Tensor
    """What the teacher says of the next token, `(batch, tokens, classes)`; 0 outside of the reply."""


def align_replies(prompts: Sequence[Tensor], replies: Sequence[Tensor], logits: Sequence[Tensor], *, max_length: int, pad: int) -> Replies:
    """A batch in which the teacher's row for each token of a reply stands where the student predicts that token.

    The teacher may have seen another, longer prompt: only its rows of the reply are given. Too long a sequence loses the end of its reply
    beyond `max_length` - 1 tokens, then the beginning of its prompt; of that at least one token stays.

    Args:
        prompts: token ids of each prompt, at least one each.
        replies: token ids of each reply.
        logits: of each reply, `(tokens, classes)`.
        max_length: most tokens of a sequence, at least 2.
        pad: token id of the padding.

    Raises:
        LimbeckError: where a prompt is empty, the rows of a reply are not as many as its tokens, or `max_length` is below 2.
    """
    if max_length < 2:
        raise LimbeckError(f"max_length must leave room for a token of the prompt and one of the reply, 2 or more; found {max_length}.")
    for i, (prompt, reply, rows) in enumerate(zip(prompts, replies, logits, strict=True)):
        if not len(prompt) or len(reply) != len(rows):
            text = f"example {i}: expected a prompt and one row of the teacher for each of {len(reply)} tokens of the reply"
            raise LimbeckError(f"{text}, found a prompt of {len(prompt)} and {len(rows)} rows; label the data again.")
    kept = [min(len(reply), max_length - 1) for reply in replies]
    heads = [min(len(prompt), max_length - count) for prompt, count in zip(prompts, kept, strict=True)]
    size = max(head + count for head, count in zip(heads, kept, strict=True))
    ids = torch.full((len(kept), size), pad)
    labels, mask = torch.full_like(ids, IGNORE), torch.zeros_like(ids)
    rows = logits[0].new_zeros(len(kept), size, logits[0].shape[-1])
    for i, (head, count) in enumerate(zip(heads, kept, strict=True)):
        ids[i, :head], ids[i, head : head + count] = prompts[i][len(prompts[i]) - head :], replies[i][:count]
        mask[i, : head + count] = 1
        labels[i, head - 1 : head - 1 + count] = replies[i][:count]
        rows[i, head - 1 : head - 1 + count] = logits[i][:count]
    return Replies(ids, mask, labels, rows)
