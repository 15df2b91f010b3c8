"""Prompts of held-out documents, for which models write answers that are compared with what follows in the document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..base import Examples
from ..hashing import permutation
from .documents import Documents
from .rows import CausalExamples, LanguageExamples
from .seq2seq import Seq2SeqExamples

TEXT = 32
"""Tokens of a text's beginning that are given as its prompt, at most."""
_DRAWS = 91
"""Tells this use of random numbers from others."""


@dataclass(frozen=True)
class Prompt:
    """A prompt and what follows it."""

    ids: Tensor
    """What the model reads, int64."""
    reference: Tensor
    """What follows, int64."""


@dataclass(frozen=True)
class Asked:
    """Prompts, and how they are asked."""

    prompts: tuple[Prompt, ...]
    start: int | None = None
    """Encoder-decoders: the token that the decoder begins with; None of causal models."""
    views: Mapping[str, Asked] = field(default_factory=dict)
    """The same documents' prompts as further views show them, by name."""

    def shown(self, view: str | None) -> Asked:
        """What a model is asked that sees `view`."""
        return self if view is None else self.views[view]


def prompts_of(examples: Examples, count: int, *, seed: int, tokens: int, longest: int) -> Asked | None:
    """Some prompts of a split; None where nothing is written in such data.

    A prompt is what stands before the first trained token: the question of a completion or of a chat, whose reference is what is trained
    next. Where a text is trained from its beginning, it is its first tokens; where there are too few documents, also tokens further on.

    Args:
        examples: the split.
        count: how many, at most.
        seed: which documents follow from it.
        tokens: tokens that models write, of which as many are left to follow the prompt of a text.
        longest: most tokens of a prompt; longer ones are passed over.
    """
    if isinstance(examples, Seq2SeqExamples) or (isinstance(examples, CausalExamples) and examples.renderings):
        found, start = _replies(examples)
    elif isinstance(examples, CausalExamples):
        found, start = _causal(examples.store.documents, count, tokens), None
    else:
        return None
    seen = {name: _replies(own) for name, own in examples.renderings.items()}
    order = permutation(len(found), seed, _DRAWS).tolist()
    asked = (number for number in order if all(len(own[number].ids) for own, _ in seen.values()))
    fitting = (number for number in asked if 0 < len(found[number].ids) <= longest)
    chosen = [number for number, _ in zip(fitting, range(count), strict=False)]
    views = {name: Asked(tuple(own[number] for number in chosen), first) for name, (own, first) in seen.items()}
    return Asked(tuple(found[number] for number in chosen), start, views)


def all_prompts(examples: LanguageExamples) -> Asked:
    """The prompts of all documents, in their order, where a reply follows each."""
    found, start = _replies(examples)
    return Asked(tuple(found), start)


def _replies(examples: LanguageExamples) -> tuple[list[Prompt], int | None]:
    """What stands before the first trained token of every document, and what is trained next; the token that a decoder begins with."""
    if isinstance(examples, Seq2SeqExamples):
        pairs = zip(_all(examples.store.documents), _all(examples.written.documents), strict=True)
        return [Prompt(ids.long(), written.long()) for (ids, _), (written, _) in pairs], examples.start
    return [_divided(ids, trained) for ids, trained in _all(examples.store.documents)], None


def _divided(ids: Tensor, trained: Tensor) -> Prompt:
    first = int(trained.to(torch.uint8).argmax())
    after = trained[first:]
    stop = len(after) if bool(after.all()) else int((~after).to(torch.uint8).argmax())
    return Prompt(ids[:first].long(), ids[first : first + stop].long())


def _causal(documents: Documents, count: int, tokens: int) -> list[Prompt]:
    found, texts = [], []
    for ids, trained in _all(documents):
        if int(trained.to(torch.uint8).argmax()) > 1:
            found.append(_divided(ids, trained))
        else:
            texts.append(ids.long())
    found += [_beginning(ids, 0, tokens) for ids in texts]
    if len(found) < count:  # long texts have more than one place to go on from
        found += [_beginning(ids, place, tokens) for ids in texts for place in _places(len(ids), tokens, -(-count // len(texts)))]
    return [prompt for prompt in found if len(prompt.reference)]


def _beginning(ids: Tensor, place: int, tokens: int) -> Prompt:
    """The tokens of a text from `place` on: half of what is there at most as the prompt."""
    stop = place + max(1, min(TEXT, (len(ids) - place) // 2))
    return Prompt(ids[place:stop], ids[stop : stop + tokens])


def _places(length: int, tokens: int, count: int) -> range:
    """Evenly spread places, the beginning left out, with room for a prompt and what follows."""
    room = length - TEXT - tokens
    step = max(room // max(count, 1), TEXT + tokens)
    return range(step, max(room, 0), step)


def _all(documents: Documents) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens of every document, and which are trained."""
    lengths = documents.lengths.tolist()
    return zip(documents.ids.split(lengths), documents.trained.split(lengths), strict=True)
