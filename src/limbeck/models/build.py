"""Builds a model from its reference."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError, UnknownName, did_you_mean
from ..registry import Registry, load_code
from ..types import DataInfo
from .arguments import accepted_arguments, call_builder
from .backward import checkpoint_layers
from .base import BuiltModel, ModelRequest, Normalization
from .checkpoints import find_weights, load_into, read_state_dict, saved_normalization
from .documents import read_documents
from .lazy import check_start, load_start, make_lazy, without_start
from .lora import add_adapters
from .prompt import add_prompt, load_prompt, of_prompt, without_prompt
from .scaling import add_scales
from .shrink import Batches, shrink
from .sources.hf import LANGUAGE_MODELS

SOURCES = ("timm", "torchvision", "hf", "llama2c")
BUILTINS = Registry("model", "limbeck.models.builtin", "Builtin")


def is_local_code(reference: str) -> bool:
    """Whether `reference` is `module:callable`, which runs code of the user's own."""
    return ":" in reference and reference.partition(":")[0] not in SOURCES


def build_model(
    request: ModelRequest, info: DataInfo, *, allow_code: bool = False, load: bool = True, batches: Batches | None = None
) -> BuiltModel:
    """Builds the model that `request` names, for data that `info` describes.

    Args:
        request: reference, weights, arguments, normalisation.
        info: gives the number of outputs and the shape of an input (of the view that it sees), unless `request.args` does.
        allow_code: whether `module:callable` may run.
        load: False reads no weights and fetches nothing; works under `with torch.device("meta")`.
        batches: inputs on which the influence of layers is measured, where `request.shrink` asks for it.

    Returns:
        The model; of one that was shrunk, the request is that of a model of its own size.

    Raises:
        UnknownName: no model of that name, or no such view of the data.
        ModelError: wrong arguments, or weights that cannot be had or do not fit.
        CodeNotAllowed: local code without permission.
    """
    info = info.shown(request.view)
    prefix, _, name = request.model.partition(":")
    own: Normalization | None = None
    state: dict[str, Tensor] = {}
    if ":" not in request.model:
        module = _builtin(request, info)
    elif prefix in SOURCES:
        source = importlib.import_module(f".sources.{prefix}", __package__)
        module, own = source.build(name, request, info, load=load)
    else:
        module = _local(request, info, allow_code=allow_code)
    if request.weights not in (None, "pretrained"):
        own = saved_normalization(request.weights)
        if load:
            path = find_weights(request.weights)
            state = read_state_dict(path)
            _check_prompt(state, request, str(path))
            check_start(state, request.lazy, request.model, str(path))
            load_into(module, without_start(without_prompt(state)), prefix=request.prefix, source=str(path))
    _prepare(module, request, info)
    if request.shrink is not None:
        module, changes = shrink(module, request.shrink, request.model, batches)
        request = replace(request, args={**request.args, **changes}, shrink=None)
        _prepare(module, request, info)
    frozen = _added(module, request, info, state, load=load)
    return BuiltModel(module, _normalization(request, info, own), request, frozen)


def _prepare(module: nn.Module, request: ModelRequest, info: DataInfo) -> None:
    """How the model reads documents, the type of its weights, and what the backward pass keeps."""
    if info.language is not None and request.model.startswith(("hf:", "llama2c:")):
        read_documents(module, causal=info.language == "causal_lm")
    if request.dtype in ("bf16", "fp16"):
        if info.kind != "text":
            raise ModelError(f"{request.model}: dtype {request.dtype} is for models of texts; use precision for those of {info.kind} data.")
        module.to(torch.bfloat16 if request.dtype == "bf16" else torch.float16)
    if request.gradient_checkpointing:
        checkpoint_layers(module, request.model)


def _check_prompt(state: Mapping[str, Tensor], request: ModelRequest, source: str) -> None:
    """Refuses to leave out a prompt without a word."""
    length = next((len(value) for name, value in state.items() if of_prompt(name)), None)
    if length is not None and request.prompt is None:
        raise ModelError(f"{source}: these weights go with a prompt of {length} tokens; give {request.model} one: prompt: {length}.")


def _added(module: nn.Module, request: ModelRequest, info: DataInfo, state: Mapping[str, Tensor], *, load: bool) -> frozenset[str]:
    """Puts beside the model what learns in its place, or its own beginning; the names of what then never learns."""
    asked = {"lora": request.lora, "prompt": request.prompt, "sources": request.sources}
    several = [name for name, how in asked.items() if how is not None]
    if len(several) > 1:
        raise ModelError(f"{request.model}: {' and '.join(several)} both leave the weights as they are; choose one of them.")
    if request.lazy is not None:
        _lazy(module, request, info, state, several)
    classifier = info.language not in LANGUAGE_MODELS
    if request.lora is not None:
        return add_adapters(module, request.lora, request.model, classifier=classifier)
    if request.sources is not None:
        return add_scales(module, request.sources, request.model)
    if request.prompt is None:
        return frozenset()
    if info.kind != "text":
        raise ModelError(f"{request.model}: prompt is for models of texts; the data is {info.kind}.")
    if request.gradient_checkpointing:
        raise ModelError(f"{request.model}: with gradient_checkpointing layers would not see the prompt; choose one of the two.")
    frozen = add_prompt(module, request.prompt, request.model, tokens=info.input_shape[0], classifier=classifier)
    if any(of_prompt(name) for name in state):
        load_prompt(module, state, str(request.weights))
    if request.prompt.weights is not None and load:
        load_prompt(module, read_state_dict(request.prompt.weights), request.prompt.weights)
    return frozen


def _lazy(module: nn.Module, request: ModelRequest, info: DataInfo, state: Mapping[str, Tensor], several: list[str]) -> None:
    """Lets the model be the enlarged change of itself."""
    if request.model.startswith(("hf:", "llama2c:")) or info.kind == "text":
        raise ModelError(f"{request.model}: lazy is for models of images and tables that give one tensor, not for those of transformers.")
    if several:
        raise ModelError(f"{request.model}: lazy is for models whose own weights learn; leave out {several[0]}, or lazy.")
    make_lazy(module, request.lazy or 1.0, request.model)
    load_start(module, state, str(request.weights))


def _normalization(request: ModelRequest, info: DataInfo, own: Normalization | None) -> Normalization | None:
    """The normalisation that `request.normalize` asks for."""
    if isinstance(request.normalize, Normalization):
        return request.normalize
    if info.kind == "text" or request.normalize == "none":
        return None
    if request.normalize == "auto" and own is not None:
        channels = info.input_shape[0]
        if len(own.mean) not in (1, channels):  # colour statistics for grey images: their average
            return Normalization((sum(own.mean) / len(own.mean),), (sum(own.std) / len(own.std),))
        return own
    if info.mean is None or info.std is None:
        return None
    return Normalization(tuple(info.mean), tuple(info.std))


def _builtin(request: ModelRequest, info: DataInfo) -> nn.Module:
    names = BUILTINS.names()
    if request.model not in names:
        hint = _nearest_elsewhere(request.model)
        raise UnknownName("built-in model", request.model, names, hint)
    if request.weights == "pretrained":
        raise ModelError(f"{request.model} has no pretrained weights; give a file or a run directory, or leave weights out.")
    if info.kind == "text":
        raise ModelError(f"{request.model} does not read text; use hf:ID_OR_FOLDER, such as hf:distilbert-base-uncased.")
    args = {"num_outputs": info.num_outputs, "input_shape": info.input_shape, **request.args}
    return call_builder(request.model, BUILTINS.get(request.model), args)


def _nearest_elsewhere(name: str) -> str:
    """Where a name without a prefix can be written: other sources, a file."""
    if Path(name).suffix in (".safetensors", ".pt", ".pth", ".py"):
        return "A file goes under weights; the model is a reference such as convnet or timm:resnet18."
    return "Models of libraries are written with a prefix: timm:NAME, torchvision:NAME, hf:ID_OR_FOLDER."


def _local(request: ModelRequest, info: DataInfo, *, allow_code: bool) -> nn.Module:
    prefix = request.model.partition(":")[0]
    if did_you_mean(prefix, SOURCES) and importlib.util.find_spec(prefix.partition(".")[0] or " ") is None:
        raise UnknownName("source of models", prefix, SOURCES)
    builder = load_code(request.model, allow_code=allow_code)
    if not callable(builder):
        raise ModelError(f"{request.model} must be a function or class that gives an nn.Module, found {type(builder).__name__}.")
    if request.weights == "pretrained":
        raise ModelError(f"{request.model} is code of your own; weights: pretrained is for library models. Give a file, or load inside it.")
    module = call_builder(request.model, builder, {**_offered(accepted_arguments(builder)[0], info), **request.args})
    if not isinstance(module, nn.Module):
        raise ModelError(f"{request.model} must give an nn.Module, it gave {type(module).__name__}.")
    return module


def _offered(names: list[str], info: DataInfo) -> Mapping[str, Any]:
    """What the data says, under those names that the builder's signature has."""
    facts: dict[str, Any] = {"num_outputs": info.num_outputs, "num_classes": info.num_outputs, "input_shape": info.input_shape}
    if info.kind != "text":
        facts |= {"in_channels": info.input_shape[0], "in_chans": info.input_shape[0]}
    return {name: value for name, value in facts.items() if name in names}
