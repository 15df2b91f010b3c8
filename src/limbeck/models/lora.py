r"""Low-rank adapters: the weights of a model of transformers stay as they are, and beside its linear layers something small learns.

.. math:: y = W x + \frac{\alpha}{r} B A x

with A of shape `(rank, inputs)`, random at first, and B of shape `(outputs, rank)`, zero at first, so that training begins at the model
itself. Class, head and the paths of layers stay; merged, B A is added to W and an ordinary model is left.

Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv:2106.09685, section 4.1. The layers are those
of peft, which is imported here alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import MissingDependency, ModelError, UnknownName
from .around import around_body
from .prompt import has_prompt, prompt_names, switch

_ADAPTER = "default"


@dataclass(frozen=True)
class Lora:
    """What learns beside a frozen model."""

    rank: int = 8
    """r."""
    alpha: float = 16.0
    """The adapters' product is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Of what the adapters read."""
    targets: Sequence[str] = ()
    """Linear layers by name, such as `q_proj`, or by the end of their path; all but those of the head where empty."""
    head: bool | None = None
    """Whether the head learns as a whole; where absent, that of classifiers does and that of language models does not."""


def add_adapters(module: nn.Module, how: Lora, reference: str, *, classifier: bool) -> frozenset[str]:
    """Puts adapters beside linear layers of a model, in place. They are in fp32, whatever the type of its weights.

    Args:
        module: a model of transformers; on the meta device, too.
        how: which layers, and their size.
        reference: what messages call the model.
        classifier: whether its head is made for the data, and so learns unless `how` says otherwise.

    Returns:
        Names of the parameters that never learn.

    Raises:
        MissingDependency: without peft.
        ModelError: for other models, and for layers of the head.
        UnknownName: for a layer that is not there.
    """
    import transformers

    if not isinstance(module, transformers.PreTrainedModel):
        raise ModelError(f"{reference}: lora is for models of transformers (hf:...); this one is a {type(module).__name__}.")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingDependency("peft", "lora", "lora") from error
    head = around_body(module)
    paths = _paths(module, how, head, reference)
    config: Any = LoraConfig(
        r=how.rank,
        lora_alpha=how.alpha,  # pyright: ignore[reportArgumentType] - it is only divided by the rank
        lora_dropout=how.dropout,
        target_modules="|".join(re.escape(path) for path in paths),
        fan_in_fan_out=any(not isinstance(module.get_submodule(path), nn.Linear) for path in paths),
    )
    inject_adapter_in_model(config, module, _ADAPTER)
    learn = {id(parameter) for _, parameter in adapters(module)}
    if how.head if how.head is not None else classifier:
        learn |= {id(parameter) for part in head for parameter in part.parameters()}
    for _, parameter in adapters(module):
        parameter.data = parameter.data.float()
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in learn)
    return frozenset(name for name, parameter in module.named_parameters() if id(parameter) not in learn)


def _paths(module: nn.Module, how: Lora, head: set[nn.Module], reference: str) -> list[str]:
    """The layers that get adapters."""
    from transformers.pytorch_utils import Conv1D

    linear = {path: layer for path, layer in module.named_modules() if isinstance(layer, (nn.Linear, Conv1D))}
    inner = [path for path, layer in linear.items() if layer not in head]
    found: dict[str, None] = {}
    for target in how.targets:
        named = [path for path in linear if path == target or path.endswith(f".{target}")]
        if not named:
            names = dict.fromkeys([*(path.rpartition(".")[2] for path in inner), *inner])
            raise UnknownName("linear layer", target, names, f"`lora.targets` of {reference} takes the names of such layers.")
        own = [path for path in named if linear[path] not in head]
        if not own:
            raise ModelError(
                f"{reference}: {target!r} in lora.targets belongs to the head, which takes no adapters, because losses read the weights of "
                "the head themselves. Leave it out; lora: {head: true} lets the head learn as a whole."
            )
        found |= dict.fromkeys(own)
    if not inner:
        raise ModelError(f"{reference}: {type(module).__name__} has no linear layers beside its head, so lora has nothing to adapt.")
    return list(found) if how.targets else inner


def adapters(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters of a model's adapters, by name."""
    found: list[tuple[str, nn.Parameter]] = []
    for path, layer in _layers(module):
        found += [(f"{path}.{name}", value) for name, value in layer.named_parameters() if not name.startswith("base_layer.")]
    return found


def _layers(module: nn.Module) -> list[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return [(path, layer) for path, layer in module.named_modules() if isinstance(layer, LoraLayer)]


@contextmanager
def without_adapters(module: nn.Module, frozen: Collection[str]) -> Iterator[None]:
    """While it lasts, a model is what it was before its adapters (or its prompt) learnt; which parameters ask for a gradient stays.

    Args:
        module: a model with adapters or a prompt.
        frozen: what `add_adapters` or `add_prompt` said never learns; empty for a model without either.

    Raises:
        ModelError: for a model without adapters, and where more than these learn.
    """
    if not frozen:
        raise ModelError("the student has no adapters to switch off: give it some with `lora`, such as student: {lora: {rank: 8}}.")
    prompted = has_prompt(module)
    own = [] if prompted else adapters(module)
    known = {*prompt_names(module), *(name for name, _ in own)}
    moved = [name for name, _ in module.named_parameters() if name not in frozen and name not in known]
    if moved:
        raise ModelError(
            f"the student's head learns, too ({moved[0]}), so that without its adapters it is not what it was; "
            f"{'prompt' if prompted else 'lora'}: {{head: false}} leaves the head as it is."
        )
    layers = [] if prompted else [layer for _, layer in _layers(module)]
    asking = [(parameter, parameter.requires_grad) for _, parameter in own]
    try:
        switch(module, on=False)
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        switch(module, on=True)
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, asks in asking:
            parameter.requires_grad_(asks)


@torch.no_grad()
def merge_adapters(module: nn.Module) -> None:
    """Adds what the adapters have learnt to the weights beside them and takes them away, in place; the model answers as before."""
    for path, layer in _layers(module):
        inner = layer.get_base_layer()
        inner.weight.copy_(inner.weight + layer.get_delta_weight(_ADAPTER))  # rounded once, where it is in half precision
        module.set_submodule(path, inner)
    vars(module).pop("peft_config", None)


def holds_adapters(names: Collection[str]) -> bool:
    """Whether these are names of the parameters of a model with adapters."""
    return any(f".lora_A.{_ADAPTER}." in name for name in names)
