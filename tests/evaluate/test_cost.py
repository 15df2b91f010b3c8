"""Cost of models."""

import copy

import pytest
import torch
from torch import nn

from limbeck.evaluate.cost import count_flops, count_parameters, model_cost, size_bytes


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(8 * 16, 5))


def test_by_hand():
    cost = model_cost(network(), torch.rand(1, 3, 4, 4), repeats=3, warmup=1)
    assert cost["parameters"] == 3 * 8 * 9 + 8 + 16 + 128 * 5 + 5
    assert cost["flops"] == 2 * 16 * 8 * 27 + 2 * 128 * 5
    assert cost["bytes"] == 4 * (cost["parameters"] + 16) + 8  # running statistics, and the int64 counter
    assert cost["latency_ms"]
    assert cost["latency_ms"] > 0


def test_nothing_is_changed():
    model = network()
    model.train()
    model[1].eval()
    weight = model.get_parameter("0.weight")
    weight.grad = torch.ones_like(weight)
    before, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    state = torch.get_rng_state()
    fast = torch.backends.mha.get_fastpath_enabled()
    model_cost(model, torch.rand(1, 3, 4, 4, generator=torch.Generator()), repeats=2, warmup=1)
    assert torch.equal(state, torch.get_rng_state())
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(weight.grad, torch.ones_like(weight))
    assert all(p.requires_grad for p in model.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_modes_are_restored_after_an_error():
    model = network().train()
    with pytest.raises(RuntimeError):
        model_cost(model, torch.rand(1, 4, 4, 4))
    assert all(part.training for part in model.modules())


def test_meta_models_have_no_latency():
    with torch.device("meta"):
        model = network()
    cost = model_cost(model, torch.empty(1, 3, 4, 4, device="meta"))
    assert cost["latency_ms"] is None
    assert cost["flops"] == 2 * 16 * 8 * 27 + 2 * 128 * 5


def test_shared_parameters_count_once():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, layer)
    assert count_parameters(model) == 20
    assert size_bytes(model) == 80
    assert count_flops(model, torch.rand(1, 4)) == 2 * 2 * 16


def test_half_precision_is_sized_as_float32():
    assert size_bytes(nn.Linear(4, 4).bfloat16()) == 80


def test_attention_is_counted_on_every_path():
    width, tokens = 16, 5
    model = nn.TransformerEncoderLayer(width, 2, dim_feedforward=32, batch_first=True).eval()
    got = count_flops(model, torch.rand(1, tokens, width))
    projections = 2 * tokens * width * (3 * width + width) + 2 * tokens * width * 32 * 2
    assert got == projections + 2 * 2 * tokens * tokens * width


def test_named_inputs():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, *, x):
            return self.layer(x)

    assert model_cost(Named(), {"x": torch.rand(1, 3)}, latency=False) == {
        "parameters": 8,
        "flops": 12,
        "bytes": 32,
        "latency_ms": None,
    }
