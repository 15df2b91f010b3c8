"""How long one waits for what a language model writes: for the first token after a prompt, and for each further one."""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import nn

from ..errors import ModelError
from .generation import greedy, positions

FURTHER = 16
"""Tokens after the first one over which the time of one is taken."""
LEAST, MOST, SECONDS = 5, 30, 2.0
"""Rounds that are timed: at least, at most, and after so many seconds no more than the least."""


def waiting(module: nn.Module, length: int, *, outputs: int, start: int | None = None, rounds: int | None = None) -> dict[str, float]:
    """Times of one prompt by itself, as a user waits for it: the prompt is read, tokens are written one by one, keys and values are kept.

    Args:
        module: a model that writes, where it runs.
        length: tokens of the prompt, which is made up.
        outputs: how many tokens the tokenizer has.
        start: of encoder-decoders, the token that the decoder begins with; the encoder reads the prompt.
        rounds: how often it is timed; 5 to 30 times, within two seconds if it can be, where absent.

    Returns:
        `first_token_ms`, from the prompt to its first token, and `next_token_ms`, of each of the 16 tokens after it; medians.

    Raises:
        ModelError: where the model has no room for so many tokens.
    """
    check_room(module, length, reads=start is not None)
    prompt = torch.arange(length, device=next(module.parameters()).device) % outputs

    def once() -> tuple[float, float]:
        return _written(module, prompt, 1, outputs, start), _written(module, prompt, 1 + FURTHER, outputs, start)

    once()
    times, began = list[tuple[float, float]](), time.perf_counter()
    while len(times) < (rounds or LEAST) or (rounds is None and len(times) < MOST and time.perf_counter() - began < SECONDS):
        times.append(once())
    first, whole = (median(own) for own in zip(*times, strict=True))
    return {"first_token_ms": first, "next_token_ms": (whole - first) / FURTHER}


def check_room(module: nn.Module, length: int, *, reads: bool) -> None:
    """Whether a model has positions for a prompt and what it writes; an encoder reads the prompt by itself.

    Raises:
        ModelError: where it has not.
    """
    limit, needed = positions(module), max(length, 1 + FURTHER) if reads else length + 1 + FURTHER
    if limit is not None and limit < needed:
        raise ModelError(
            f"a prompt of {length} tokens{'' if reads else f' and {1 + FURTHER} that are written'} need {needed} positions, and the model "
            f"has {limit}. Give fewer tokens, or a model with more positions."
        )


def _written(module: nn.Module, prompt: torch.Tensor, tokens: int, outputs: int, start: int | None) -> float:
    began = time.perf_counter()
    greedy(module, [prompt], tokens=tokens, start=start, outputs=outputs)
    if prompt.is_cuda:
        torch.cuda.synchronize(prompt.device)
    return 1000 * (time.perf_counter() - began)
