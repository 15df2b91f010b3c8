"""Layers that are read inside parts of a model that run again in the backward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.models.base import ModelRequest
from limbeck.models.build import build_model
from limbeck.models.lora import Lora
from limbeck.taps.tapped import Tapped
from limbeck.types import DataInfo

IDS = torch.arange(3, 21).view(2, 9)
LLAMA = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
BERT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_dropout_prob": 0.3}
LAYERS = {
    "llama": (
        "causal_lm",
        {**LLAMA, "attention_dropout": 0.3},
        [
            "model.layers.0",
            "model.layers.0.self_attn.q_proj",
            "model.layers.0.mlp.act_fn",
            "model.layers.1.mlp.down_proj:input",
            "model.layers.1.self_attn:output.0",
        ],
    ),
    "bert": (
        "masked_lm",
        BERT,
        ["bert.encoder.layer.0.attention.self:output.0", "bert.encoder.layer.0.output.dense", "bert.encoder.layer.1.intermediate"],
    ),
}


def gradients(kind: str, *, checkpointing: bool, lora: Lora | None, early: bool) -> list[list[Tensor]]:
    """Of three forwards, the first of which finds out what the model overwrites."""
    language: Any
    language, args, taps = LAYERS[kind]
    info = DataInfo("text", "token", 61, (16,), language=language)
    torch.manual_seed(0)
    request = ModelRequest(f"hf:{kind}", args=args, lora=lora, gradient_checkpointing=checkpointing)
    module = build_model(request, info).module.train()
    assert getattr(module, "is_gradient_checkpointing") is checkpointing  # noqa: B009 - not of every module
    tapped, found = Tapped(module, taps, stop_early=early), []
    torch.manual_seed(1)
    for _ in range(3):
        module.zero_grad()
        output, values = tapped(IDS)
        assert (output is None) is early
        loss = sum((value.square().mean() for value in values.values()), start=torch.zeros(()))
        loss = loss if early else loss + output.logits.square().mean()
        loss.backward()
        found.append([p.grad.clone() for p in module.parameters() if p.grad is not None])
    return found


@pytest.mark.parametrize("early", [False, True], ids=["whole", "early"])
@pytest.mark.parametrize("lora", [None, Lora(rank=2, dropout=0.2)], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_gradient_is_that_without_checkpointing(kind: str, lora: Lora | None, early: bool):
    plain = gradients(kind, checkpointing=False, lora=lora, early=early)
    again = gradients(kind, checkpointing=True, lora=lora, early=early)
    assert len(plain[0]) > 10
    for a, b in zip(plain, again, strict=True):
        assert len(a) == len(b)
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
