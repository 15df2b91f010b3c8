"""The tiny models have the traits that they promise."""

from __future__ import annotations

import pytest
import torch

from limbeck.testing.models import Outputs, SharedLayer, StructuredOutput, TinyCNN, TinyMLP


def seen(model, layer, x):
    """Outputs of a layer, as captured by a plain hook, with their version at capture."""
    found = []
    handle = layer.register_forward_hook(lambda module, args, out: found.append((out, out._version, out.detach().clone())))
    model(x)
    handle.remove()
    return found


def test_in_place_operations_corrupt_a_plain_hook():
    model, x = TinyCNN().eval(), torch.randn(2, 3, 8, 8)
    for layer in (model.bn, model.block):
        ((out, version, value),) = seen(model, layer, x)
        assert out._version > version
        assert not torch.equal(out, value)
    mlp = TinyMLP()
    ((out, version, _),) = seen(mlp, mlp.hidden, torch.randn(5, 4))
    assert out._version > version


def test_shared_layer_runs_several_times_under_two_paths():
    model = SharedLayer(times=4)
    assert model.alias is model.layer
    assert len(seen(model, model.layer, torch.randn(2, 4))) == 4


@pytest.mark.parametrize("kind", ["tuple", "named", "mapping"])
def test_structured_output(kind):
    out = StructuredOutput(kind=kind)(torch.randn(2, 4))
    hidden, logits = (out["hidden"], out["logits"]) if kind == "mapping" else out
    assert isinstance(out, {"tuple": tuple, "named": Outputs, "mapping": dict}[kind])
    assert (hidden.shape, logits.shape) == ((2, 6), (2, 3))


def test_gradients_flow():
    for model, x in ((TinyCNN(), torch.randn(2, 3, 8, 8)), (TinyMLP(), torch.randn(2, 4)), (SharedLayer(), torch.randn(2, 4))):
        model(x).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
