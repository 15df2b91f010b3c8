"""Answers of language models: the likeliest token, again and again, or drawn from what the model says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..ops.soft_prompt import prompt_length

AT_ONCE = 16
"""Prompts that are answered side by side."""


@dataclass(frozen=True)
class Manner:
    """How answers are written."""

    tokens: int
    """Most tokens that are written; fewer where the longest prompt leaves less room in the model's positions."""
    temperature: float = 1.0
    """Of the probabilities that tokens are drawn from; 0 takes the likeliest."""
    top_k: int | None = None
    """Only so many of the likeliest tokens are drawn from, and those that are as likely as the last of them; all where absent."""
    seed: int = 0
    """Of the draws."""
    ends: Sequence[int] = ()
    """Tokens that end an answer."""
    fill: int = 0
    """The token that short prompts are filled with, which is hidden."""
    start: int | None = None
    """Of encoder-decoders, the token that the decoder begins with."""
    outputs: int | None = None
    """How many tokens the tokenizer has; further rows of the model's head are never chosen."""
    at_once: int = AT_ONCE
    """Prompts that are answered side by side."""


@dataclass(frozen=True)
class Draft:
    """What was written after a prompt."""

    ids: list[int]
    """The tokens up to the end token, which is left out."""
    ended: bool
    """Whether an end token came; else no more tokens were allowed."""


def greedy(
    module: nn.Module,
    prompts: Sequence[Tensor],
    *,
    tokens: int,
    ends: Sequence[int] = (),
    fill: int = 0,
    start: int | None = None,
    outputs: int | None = None,
) -> list[list[int]]:
    """What a model writes after each prompt, up to an end token, which is left out; always the likeliest token.

    Models of transformers answer several prompts at once, filled on the left (those of encoders on the right), and keep keys and values;
    other models are called anew for every token, with `input_ids` and `attention_mask` (and `decoder_input_ids`), a prompt at a time.

    Args:
        module: the model; its mode and its generation settings are left as they were.
        prompts: token numbers, one dimension each, none empty.
        tokens: most tokens that are written; fewer where the longest prompt leaves less room in the model's positions.
        ends: tokens that end an answer.
        fill: the token that short prompts are filled with, which is hidden.
        start: of encoder-decoders, the token that the decoder begins with.
        outputs: how many tokens the tokenizer has; further rows of the model's head are never chosen.

    Raises:
        ModelError: where the model cannot be called in this way.
    """
    manner = Manner(tokens, temperature=0.0, ends=ends, fill=fill, start=start, outputs=outputs)
    return [draft.ids for draft in drafts(module, prompts, manner)]


def drafts(module: nn.Module, prompts: Sequence[Tensor], manner: Manner) -> list[Draft]:
    """What a model writes after each prompt, in a manner; else as `greedy`.

    The same prompts and seed give the same answers; the generator of the caller is left as it was.

    Raises:
        ModelError: where the model cannot be called in this way.
    """
    device = next(module.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(manner.seed)
        return _answers(module, prompts, manner)


def _answers(module: nn.Module, prompts: Sequence[Tensor], manner: Manner) -> list[Draft]:
    device = next(module.parameters()).device
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    answers: dict[int, Draft] = {}
    with _evaluating(module), torch.no_grad():
        for begin in range(0, len(order), manner.at_once):
            numbers = order[begin : begin + manner.at_once]
            asked = [prompts[number].to(device) for number in numbers]
            said = _said(module, asked, manner)
            answers |= {number: _until(ids, manner.ends) for number, ids in zip(numbers, said, strict=True)}
    return [answers[number] for number in range(len(prompts))]


def positions(module: nn.Module) -> int | None:
    """The longest text that a model of transformers is made for, in tokens; None where nothing is said of it."""
    if not _generates(module):
        return None
    model: Any = module
    settings = model.config.get_text_config(decoder=True)
    name = settings.attribute_map.get("max_position_embeddings", "max_position_embeddings")
    found = settings.to_dict().get(name)
    return found - prompt_length(module) if isinstance(found, int) and found > 0 else None


def _generates(module: nn.Module) -> bool:
    try:
        import transformers
    except ImportError:
        return False
    return isinstance(module, transformers.GenerationMixin)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _said(module: nn.Module, prompts: list[Tensor], manner: Manner) -> list[list[int]]:
    """By the model's own generation; where it has none, or that fails (as with a cache that does not fit the model), token by token."""
    if _generates(module):
        with suppress(Exception):
            return _generated(module, prompts, manner)
    try:
        return [_one(module, prompt[None], manner) for prompt in prompts]
    except Exception as error:  # whatever a model raises that takes other inputs
        raise ModelError(f"{type(module).__name__} cannot write answers: {type(error).__name__}: {error}") from error


def _generated(module: nn.Module, prompts: list[Tensor], manner: Manner) -> list[list[int]]:
    """By the generation of transformers, with its cache."""
    import transformers

    model: Any = module
    start, outputs = manner.start, manner.outputs
    limit = positions(module)
    longest = max(map(len, prompts)) if start is None else 1
    room = manner.tokens if limit is None else max(min(manner.tokens, limit - longest), 1)
    inputs = _side_by_side(prompts, manner.fill, left=start is None)
    drawn: dict[str, Any] = {}
    if manner.temperature:
        drawn = {"do_sample": True, "temperature": manner.temperature, "top_k": manner.top_k or 0, "top_p": 1.0}
    settings = transformers.GenerationConfig(
        max_new_tokens=room,
        num_beams=1,
        use_cache=True,
        pad_token_id=manner.fill,
        eos_token_id=list(manner.ends) or None,
        **{"do_sample": False, **drawn},
    )
    beyond = range(outputs, model.get_output_embeddings().weight.shape[0]) if outputs is not None else range(0)
    settings.suppress_tokens = list(beyond) or None
    if start is not None:
        settings.decoder_start_token_id = start
        inputs["decoder_input_ids"] = torch.full((len(prompts), 1), start, device=inputs["input_ids"].device)
    own = model.generation_config
    model.generation_config = settings  # what a model's file says of sampling and penalties is not greedy
    try:
        said = model.generate(**inputs, generation_config=settings)
    finally:
        model.generation_config = own
    skipped = 1 if start is not None else inputs["input_ids"].shape[1]
    return said[:, skipped:].tolist()


def _side_by_side(prompts: list[Tensor], fill: int, *, left: bool) -> dict[str, Tensor]:
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), fill, dtype=torch.int64, device=prompts[0].device)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        place = slice(width - len(prompt), width) if left else slice(0, len(prompt))
        ids[row, place], mask[row, place] = prompt, 1
    return {"input_ids": ids, "attention_mask": mask}


def _one(module: nn.Module, prompt: Tensor, manner: Manner) -> list[int]:
    """Token by token, without a cache."""
    tokens, start = manner.tokens, manner.start
    limit = positions(module)
    if limit is not None and start is None:
        tokens = max(min(tokens, limit - prompt.shape[1]), 1)
    written = prompt if start is None else torch.full((1, 1), start, dtype=prompt.dtype, device=prompt.device)
    begun = written.shape[1]
    for _ in range(tokens):
        if start is None:
            inputs = {"input_ids": written, "attention_mask": torch.ones_like(written)}
        else:
            inputs = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt), "decoder_input_ids": written}
        token = _next(_logits(module(**inputs))[:, -1, : manner.outputs], manner)
        written = torch.cat([written, token], 1)
        if int(token) in manner.ends:
            break
    return written[0, begun:].tolist()


def _next(logits: Tensor, manner: Manner) -> Tensor:
    if not manner.temperature:
        return logits.argmax(1, keepdim=True)
    if manner.top_k is not None:
        least = logits.topk(min(manner.top_k, logits.shape[1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return (logits / manner.temperature).softmax(1).multinomial(1)


def _logits(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    return output["logits"] if isinstance(output, Mapping) else output[0]


def _until(ids: list[int], ends: Sequence[int]) -> Draft:
    stop = next((place for place, token in enumerate(ids) if token in ends), None)
    return Draft(ids[:stop], stop is not None)
