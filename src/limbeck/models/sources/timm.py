"""`timm:NAME`: image models of timm."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...errors import MissingDependency, ModelError, UnknownName
from ...types import DataInfo
from ..arguments import argument_error
from ..base import ModelRequest, Normalization
from ..checkpoints import fetch_error


def build(name: str, request: ModelRequest, info: DataInfo, *, load: bool) -> tuple[nn.Module, Normalization | None]:
    """The model, and the input statistics of its pretrained weights where these are asked for."""
    try:
        import timm
    except ImportError as error:
        raise MissingDependency("timm", "vision", request.model) from error
    if not timm.is_model(name):
        raise UnknownName("timm model", name, timm.list_models())
    if info.kind != "image":
        raise ModelError(f"{request.model} reads images; the data is {info.kind}.")
    pretrained = request.weights == "pretrained"
    args = {"num_classes": info.num_outputs, "in_chans": info.input_shape[0], **request.args}
    try:
        module = timm.create_model(name, pretrained=pretrained and load, **args)
    except TypeError as error:
        raise argument_error(request.model, timm.model_entrypoint(name), error) from error
    except Exception as error:
        if pretrained and load:
            raise fetch_error(f"the pretrained weights of {request.model}", error) from error
        given = ", ".join(f"{k}={v!r}" for k, v in args.items())
        raise ModelError(f"{request.model} could not be built with {given}: {type(error).__name__}: {error}") from error
    return module, _own(module) if pretrained else None


def _own(module: Any) -> Normalization | None:
    """Mean and std that timm states for the weights."""
    config = module.pretrained_cfg
    return Normalization(tuple(config["mean"]), tuple(config["std"])) if config.get("mean") else None
