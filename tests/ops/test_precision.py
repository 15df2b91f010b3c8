"""Precision: what is widened, and what autocast leaves alone."""

from __future__ import annotations

import pytest
import torch

from limbeck.ops.precision import softened, widen, without_autocast


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_values_become_float32(dtype: torch.dtype):
    x = torch.tensor([1.5, -2.0], dtype=dtype)
    assert widen(x).dtype == torch.float32
    assert widen(x).tolist() == [1.5, -2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_values_stay_as_they_are(dtype: torch.dtype):
    x = torch.ones(2, dtype=dtype)
    assert widen(x) is x


def test_matrix_products_keep_their_precision_inside_autocast():
    x = torch.tensor([[1.0, 2**-12]])
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x.T).dtype == torch.bfloat16
        with without_autocast(x):
            product = x @ x.T
    assert product.dtype == torch.float32


def test_the_context_is_that_of_the_tensors_device(monkeypatch):
    asked: list[str] = []

    class Elsewhere:
        device = torch.device("xpu")

    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: asked.append(kind) or True)
    for x, kind in ((torch.empty(1), "cpu"), (Elsewhere(), "xpu"), (torch.empty(1, device="meta"), "cpu")):
        context = without_autocast(x)  # type: ignore[arg-type]
        assert isinstance(context, torch.autocast)
        assert context.device == asked[-1] == kind


def test_shapes_alone_have_a_context_too():
    x = torch.empty(2, 3, device="meta")
    with without_autocast(x):
        assert (x @ x.T).shape == (2, 2)


def test_softened():
    logits = torch.linspace(-2, 3, 6).view(2, 3)
    assert softened(logits, 1.0) is logits
    torch.testing.assert_close(softened(logits, 4.0), logits / 4)
    assert softened(logits.half(), 1).dtype == torch.float32
    assert softened(logits.half(), 2).dtype == torch.float32
