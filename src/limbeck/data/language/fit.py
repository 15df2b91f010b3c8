"""What is left of a prompt and its reply where both are too long."""

from __future__ import annotations

from collections.abc import Sequence


def fit(before: Sequence[int], prompt: Sequence[int], reply: int, max_length: int) -> tuple[list[int], int]:
    """The prompt with its beginning cut away, so that the reply behind it stays whole.

    What a tokenizer puts before every text stays. A reply that leaves no room for one token before it loses its end.

    Args:
        before: tokens before every text, such as `<s>`.
        prompt: tokens of the prompt.
        reply: number of tokens of the reply.
        max_length: most tokens of all together.

    Returns:
        Everything before the reply, and how many tokens of the reply stay.
    """
    kept = min(reply, max_length - max(len(before), 1))
    room = max(max_length - len(before) - kept, 0)
    return [*before, *prompt[max(len(prompt) - room, 0) :]], kept
