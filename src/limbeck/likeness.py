"""How alike two models of a run are on the data of a stage: the weight of terms that are tied to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .config.term_schema import Alike
from .errors import ModelError
from .evaluate.transfer import prompt_similarity
from .files import read_json, write_json
from .models.base import BuiltModel
from .teachers.base import Call
from .types import Batch

EXAMPLES = 1000
"""Training examples, at most, on which models are compared."""


def body_of(built: BuiltModel, name: str) -> nn.Module:
    """The part of a model of transformers that stands before its head.

    Raises:
        ModelError: for any other model.
    """
    import transformers

    module: Any = built.module
    if not isinstance(module, transformers.PreTrainedModel):
        raise ModelError(f"{name!r} is a {type(module).__name__}; `alike` compares the states of two models of transformers (hf:...).")
    return module.base_model


def check_alike(first: tuple[str, BuiltModel], second: tuple[str, BuiltModel]) -> None:
    """Whether two models can be compared.

    Raises:
        ModelError: where they cannot.
    """
    widths: list[int] = []
    for name, built in (first, second):
        body: Any = body_of(built, name)
        widths.append(body.config.hidden_size)
    if widths[0] != widths[1]:
        raise ModelError(
            f"{first[0]!r} has states of {widths[0]} values, {second[0]!r} of {widths[1]}; `alike` is for two prompts of one model."
        )


@torch.no_grad()
def first_states(built: BuiltModel, name: str, call: Call, batches: Iterable[Batch]) -> Tensor:
    """Last hidden states of the first position, `(examples, width)`; the model's mode is left as it was."""
    states: list[Tensor] = []

    def keep(body: nn.Module, given: Any, said: Any) -> None:
        states.append(said[0][:, 0].float().cpu())

    training = [part for part in built.module.modules() if part.training]
    handle = body_of(built, name).register_forward_hook(keep)
    built.module.eval()
    try:
        for batch in batches:
            call(built.module, batch)
    finally:
        handle.remove()
        for part in training:
            part.training = True
    return torch.cat(states)


def similarity_in(path: Path) -> float:
    """What a look at two models has found."""
    return float(read_json(path)["similarity"])


def write_similarity(path: Path, first: Tensor, second: Tensor, wish: Alike) -> None:
    """Compares two models and writes down what is found."""
    found = prompt_similarity(first, second)
    write_json(path, {"alike": list(wish.alike), "similarity": found, "weight": weight_at(wish, found)})


def weight_at(wish: Alike, similarity: float) -> float:
    """The weight of a term: `scale` times the similarity, 0 where that is below 0."""
    return wish.scale * max(similarity, 0.0)
