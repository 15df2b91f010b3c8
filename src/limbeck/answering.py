"""What a language model writes after held-out prompts, and how often its answer is that of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from .config.evaluate_schema import EvaluateSpec
from .curating import Reply
from .data.base import Examples, Splits
from .data.language.prompts import Asked, Prompt, prompts_of
from .data.language.vocabulary import padding_token
from .evaluate.answers import exact_match
from .evaluate.generation import Manner, drafts, greedy, positions

PURPOSE = "generations"
"""By which the seed of the choice of prompts is derived from the recipe's."""
_SIDE_BY_SIDE = 64
"""Replies that are drawn at once."""
_SHORTEST = 8
"""Tokens that are left for an answer at least, where a model has no more positions."""


def questions(splits: Splits, examples: Examples, modules: Sequence[nn.Module], count: int, *, seed: int, tokens: int) -> Asked | None:
    """Prompts of a split that all models have room for; None where there is none.

    Args:
        splits: whose tokenizer it is.
        examples: the split.
        modules: who will answer.
        count: how many.
        seed: of the choice.
        tokens: most tokens of an answer.
    """
    limits = [limit for module in modules if (limit := positions(module)) is not None]
    longest = max(min([splits.info.input_shape[0], *(limit - min(tokens, _SHORTEST) for limit in limits)]), 1)
    asked = prompts_of(examples, count, seed=seed, tokens=tokens, longest=longest)
    return asked if asked is not None and asked.prompts else None


def answers(module: nn.Module, splits: Splits, asked: Asked, tokens: int) -> list[str]:
    """The likeliest answer of a model to each prompt.

    Raises:
        ModelError: where it cannot be called token by token.
    """
    said = greedy(
        module,
        [prompt.ids for prompt in asked.prompts],
        tokens=tokens,
        ends=_ends(splits.tokenizer, asked.prompts),
        fill=padding_token(splits.tokenizer),
        start=asked.start,
        outputs=splits.info.num_outputs,
    )
    return [_text(splits.tokenizer, asked, prompt, ids) for prompt, ids in zip(asked.prompts, said, strict=True)]


def replies_to(
    module: nn.Module, splits: Splits, asked: Asked, tokens: int, *, temperature: float, top_k: int | None = None, seed: int = 0
) -> list[Reply]:
    """What a model writes after each prompt at a temperature; the same seed gives the same texts.

    Where a tokenizer knows no end, every reply has come to it.

    Args:
        module: the model.
        splits: whose tokenizer it is.
        asked: the prompts.
        tokens: most tokens of a reply.
        temperature: of the probabilities; 0 takes the likeliest token.
        top_k: so many of the likeliest tokens are drawn from; all where absent.
        seed: of the draws.

    Raises:
        ModelError: where it cannot be called token by token.
    """
    ends = _ends(splits.tokenizer, asked.prompts)
    fill, outputs = padding_token(splits.tokenizer), splits.info.num_outputs
    manner = Manner(tokens, temperature, top_k, seed, ends, fill, asked.start, outputs, _SIDE_BY_SIDE)
    said = drafts(module, [prompt.ids for prompt in asked.prompts], manner)
    pairs = zip(asked.prompts, said, strict=True)
    return [Reply(_text(splits.tokenizer, asked, prompt, draft.ids), draft.ended or not ends) for prompt, draft in pairs]


def misread(tokenizer: Any, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Texts that a tokenizer reads otherwise once it has written them itself, each with what it writes.

    What a model says is kept as text and read again: without a decoder in its file, pieces of words are left apart (`play ##music`), and
    characters that are not in its vocabulary are left out.
    """
    found: list[tuple[str, str]] = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        written = tokenizer.decode(ids, skip_special_tokens=True)
        if tokenizer(written, add_special_tokens=False)["input_ids"] != ids:
            found.append((text, written))
    return found


def references_of(splits: Splits, asked: Asked) -> list[str]:
    """What the data answer."""
    return [_text(splits.tokenizer, asked, prompt, prompt.reference.tolist()) for prompt in asked.prompts]


def share_right(module: nn.Module, splits: Splits, examples: Examples, wish: EvaluateSpec, *, seed: int) -> float | None:
    """Share of right answers to `wish.prompts` prompts of a split; None where no pattern is asked for, or no reference has an answer.

    Raises:
        ModelError: where the model cannot be called token by token.
    """
    if wish.answer is None:
        return None
    asked = questions(splits, examples, [module], wish.prompts, seed=seed, tokens=wish.tokens)
    if asked is None:
        return None
    return exact_match(answers(module, splits, asked, wish.tokens), references_of(splits, asked), wish.answer)


def _ends(tokenizer: Any, prompts: Sequence[Prompt]) -> list[int]:
    """The end token, and the special tokens with which references end, such as that of a turn in a chat."""
    special = set(tokenizer.all_special_ids)
    final = {int(prompt.reference[-1]) for prompt in prompts if len(prompt.reference)}
    return sorted({token for token in (tokenizer.eos_token_id,) if token is not None} | (final & special - {tokenizer.unk_token_id}))


def _text(tokenizer: Any, asked: Asked, prompt: Prompt, ids: list[int]) -> str:
    """The text of tokens that follow a prompt; tokenizers leave out the first space of a text, so they are given the prompt, too."""
    before = prompt.ids.tolist() if asked.start is None else []
    first = tokenizer.decode(before, skip_special_tokens=True)
    whole = tokenizer.decode([*before, *ids], skip_special_tokens=True)
    return whole[len(first) :] if whole.startswith(first) else tokenizer.decode(ids, skip_special_tokens=True)
