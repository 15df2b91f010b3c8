"""`torchvision:NAME`: image classifiers of torchvision."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...errors import MissingDependency, ModelError, UnknownName
from ...types import DataInfo
from ..arguments import call_builder
from ..base import ModelRequest, Normalization
from ..checkpoints import fetch_error, load_into


def build(name: str, request: ModelRequest, info: DataInfo, *, load: bool) -> tuple[nn.Module, Normalization | None]:
    """The model, and the input statistics of its pretrained weights where these are asked for."""
    try:
        from torchvision import models
    except ImportError as error:
        raise MissingDependency("torchvision", "vision", request.model) from error
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownName("torchvision model", name, known)
    if info.kind != "image":
        raise ModelError(f"{request.model} reads images; the data is {info.kind}.")
    if info.input_shape[0] != 3:
        raise ModelError(
            f"{request.model} reads images of 3 channels; the data has {info.input_shape[0]}. "
            "Use a timm model (timm:resnet18 takes any number of channels) or the built-in resnet or convnet."
        )
    builder = models.get_model_builder(name)
    args: dict[str, Any] = {"num_classes": info.num_outputs, **_plain(name), **request.args}
    for reserved in ("weights", "pretrained"):
        if reserved in request.args:
            raise ModelError(f"{request.model}: {reserved!r} is no argument here; write weights: pretrained beside the model.")
    module = call_builder(request.model, builder, args)
    if request.weights != "pretrained":
        return module, None
    weights = models.get_model_weights(name)["DEFAULT"]
    preset = weights.transforms()
    if load:
        try:
            state = weights.get_state_dict(progress=False, check_hash=True)
        except Exception as error:
            raise fetch_error(f"the pretrained weights of {request.model}", error) from error
        own = module.state_dict()
        load_into(module, {k: v for k, v in state.items() if k in own}, source=f"{request.model} (pretrained)", fresh_head=True)
    return module, Normalization(tuple(preset.mean), tuple(preset.std))


def _plain(name: str) -> dict[str, Any]:
    """The two models with a second head are built without it, so that they give one tensor."""
    return {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
