"""Soft prompts: a model of transformers stays as it is, and beside its head only a prompt of keys and values learns.

Class and paths of layers stay, and layers give what they give for the tokens of a text alone. Positions are counted behind the prompt, as
by peft, which reads what `write_prompt` leaves.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import ModelError
from ..files import write_json, writing
from ..ops.soft_prompt import SoftPrompt, prompt_length
from .around import around_body

_NAME = "soft_prompt"
_ENDING = f"{_NAME}.weight"
_HEADS = ("classifier", "score", "qa_outputs")
"""Names of heads that peft keeps beside a prompt."""


@dataclass(frozen=True)
class Prompt:
    """What learns before the tokens of a text, in every layer."""

    length: int = 20
    """Number of prompt tokens."""
    kind: Literal["prefix"] = "prefix"
    """Keys and values of every layer."""
    dropout: float = 0.0
    """Of the keys and values."""
    spread: float = 1.0
    """Standard deviation of the keys and values at first."""
    head: bool | None = None
    """Whether the head learns as a whole; where absent, that of classifiers does and that of language models does not."""
    weights: str | None = None
    """A run, or a file of weights, whose prompt it begins as."""


@dataclass(frozen=True)
class _Prefix:
    """A forward pre-hook of the body of a model of transformers: puts the prompt before what the layers attend to."""

    def __call__(self, body: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the forward with the prompt."""
        from transformers import DynamicCache

        prompt: Any = body.get_submodule(_NAME)
        if not prompt.on:
            return args, inputs
        inputs = {**dict(zip(_names(body), args, strict=False)), **inputs}
        mask, cache, places = inputs.get("attention_mask"), inputs.get("past_key_values"), inputs.get("position_ids")
        if mask is None and places is not None and cache is None:
            raise ModelError(
                f"{type(body).__name__} with a prompt cannot read several documents in one row, or positions without a mask: "
                "leave data.pack out."
            )
        if isinstance(mask, Tensor):  # of a mask for every pair of tokens 0 means seen, of one for every token 1
            inputs["attention_mask"] = F.pad(mask, (prompt.length, 0), value=1 if mask.ndim == 2 else 0)
        if places is not None:
            inputs["position_ids"] = places + prompt.length
        if cache is None or cache.get_seq_length() == 0:  # a generation hands in the cache that it has begun with
            cache = DynamicCache() if cache is None else cache
            like = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs["inputs_embeds"]
            kind = _precision(body, like.device.type)
            for layer, (keys, values) in enumerate(prompt.pairs(like.shape[0])):
                cache.update(keys.to(kind), values.to(kind), layer)
        inputs["past_key_values"] = cache
        return (), inputs


def _names(body: nn.Module) -> list[str]:
    return [name for name in inspect.signature(type(body).forward).parameters if name != "self"]


def _precision(body: nn.Module, device: str) -> torch.dtype:
    """The type in which the layers compute their keys."""
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return next(value.dtype for name, value in body.named_parameters() if not name.startswith(_NAME))


def add_prompt(module: nn.Module, how: Prompt, reference: str, *, tokens: int, classifier: bool) -> frozenset[str]:
    """Gives a model a prompt, in place. It is in fp32, whatever the type of the weights.

    Args:
        module: a model of transformers; on the meta device, too.
        how: the prompt's size.
        reference: what messages call the model.
        tokens: length of the longest text.
        classifier: whether the head is made for the data, and so learns unless `how` says otherwise.

    Returns:
        Names of the parameters that never learn.

    Raises:
        ModelError: for models that take no keys and values from elsewhere, or have too few positions.
    """
    import transformers

    if not isinstance(module, transformers.PreTrainedModel):
        raise ModelError(f"{reference}: prompt is for models of transformers (hf:...); this one is a {type(module).__name__}.")
    body: Any = module.base_model
    settings: Any = module.config
    if settings.is_encoder_decoder or "past_key_values" not in _names(body):
        raise ModelError(
            f"{reference}: {type(body).__name__} takes no keys and values beside its own, so it can have no prompt. BERT, RoBERTa, "
            "ELECTRA, GPT-2, Llama and the like do; `lora` is for every model."
        )
    known = settings.to_dict()
    if set(known.get("layer_types") or ()) - {"full_attention"}:
        raise ModelError(f"{reference}: not all of its layers attend to the whole text, so a prompt would be out of sight for some.")
    room = known.get(settings.attribute_map.get("max_position_embeddings", "max_position_embeddings"))
    if isinstance(room, int) and room < tokens + how.length:
        raise ModelError(
            f"{reference} has {room} positions: too few for texts of {tokens} tokens behind a prompt of {how.length}. Shorten the texts "
            f"(data.max_length: {max(room - how.length, 0)}) or the prompt."
        )
    queries = settings.num_attention_heads
    heads, width = known.get("num_key_value_heads") or queries, known.get("head_dim") or settings.hidden_size // queries
    device = next(module.parameters()).device
    with device:
        made = SoftPrompt(how.length, settings.num_hidden_layers, heads, width, spread=how.spread, dropout=how.dropout)
    body.add_module(_NAME, made)
    body.register_forward_pre_hook(_Prefix(), with_kwargs=True)
    learn = {id(made.weight)}
    if how.head if how.head is not None else classifier:
        learn |= {id(parameter) for part in around_body(module) for parameter in part.parameters()}
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in learn)
    return frozenset(name for name, parameter in module.named_parameters() if id(parameter) not in learn)


def has_prompt(module: nn.Module) -> bool:
    """Whether a model has a prompt."""
    return prompt_length(module) > 0


def prompt_names(module: nn.Module) -> list[str]:
    """Names of the parameters of a model's prompt."""
    return [name for name, _ in module.named_parameters() if of_prompt(name)]


def of_prompt(name: str) -> bool:
    """Whether this is the name of a prompt's parameter."""
    return name.endswith(_ENDING)


def without_prompt(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model but those of its prompt."""
    return {name: value for name, value in state.items() if not of_prompt(name)}


def switch(module: nn.Module, *, on: bool) -> None:
    """Lets a model read its prompt, or be what it is without."""
    for part in module.modules():
        if isinstance(part, SoftPrompt):
            part.on = on


@torch.no_grad()
def load_prompt(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Gives a model's prompt the values of another one; nothing else of `state` is read.

    Raises:
        ModelError: where there is none among these weights, or one of another size.
    """
    given = next((value for name, value in state.items() if of_prompt(name)), None)
    own = next(value for name, value in module.named_parameters() if of_prompt(name))
    if given is None:
        raise ModelError(f"{source} holds no prompt; expected the weights of a model that was trained with `prompt`.")
    if given.shape != own.shape:
        raise ModelError(
            f"the prompt in {source} has {given.shape[0]} tokens of {given.shape[1]} values, that of this model {own.shape[0]} of "
            f"{own.shape[1]}; both need the same model and length."
        )
    own.copy_(given)


@torch.no_grad()
def begin_behind(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Lets a model with a prompt begin as another one, but for its head, which is that of another task.

    Args:
        module: has a prompt; its own head stays.
        state: of a model of the same layers, with or without a prompt; without, that of `module` stays as it is.
        source: what messages call the other model.

    Raises:
        ModelError: where the layers or the prompts differ.
    """
    head = {id(value) for part in around_body(module) for value in part.state_dict(keep_vars=True).values()}
    if any(of_prompt(name) for name in state):
        load_prompt(module, state, source)
    for name, value in module.state_dict(keep_vars=True).items():
        if id(value) in head or of_prompt(name):
            continue
        if name not in state or state[name].shape != value.shape:
            raise ModelError(f"{source} has no {name} of shape {tuple(value.shape)}, as the model with the prompt has.")
        value.copy_(state[name])


def write_prompt(module: nn.Module, folder: Path, task: str) -> None:
    """Writes the prompt of a model as peft reads it: `PeftModel.from_pretrained(model, folder)`. It wants the head of a classifier, too.

    Args:
        module: has a prompt.
        folder: where the two files go.
        task: peft's word for what the model does, such as `SEQ_CLS`.
    """
    made = next(part for part in module.modules() if isinstance(part, SoftPrompt))
    wide = made.heads * made.width
    settings = {
        "peft_type": "PREFIX_TUNING",
        "task_type": task,
        "num_virtual_tokens": made.length,
        "num_layers": made.layers,
        "num_attention_heads": made.heads,
        "token_dim": wide,
        "num_transformer_submodules": 1,
        "encoder_hidden_size": wide,
        "prefix_projection": False,
        "inference_mode": True,
    }
    write_json(folder / "adapter_config.json", settings)
    with writing(folder / "adapter_model.safetensors") as temporary:
        heads = {f"base_model.{name}": value for name, value in module.named_parameters() if name.partition(".")[0] in _HEADS}
        state = {"prompt_embeddings": made.weight, **heads}
        save_file({name: value.detach().float().cpu().contiguous() for name, value in state.items()}, temporary, metadata={"format": "pt"})
