"""Cross-attention projector: written out with explicit matrices, heads, shapes, precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from limbeck.losses._attention_projector import AttentionProjector, tokens_as_map


def make(*, heads=2, softmax_scale=5.0, dtype=torch.float64):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 2, 3, dtype=dtype), torch.randn(2, 6, 3, 3, dtype=dtype)
    return AttentionProjector(student, teacher, heads=heads, softmax_scale=softmax_scale), student


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("heads", [1, 3])
def test_written_out(heads, external):
    projector, student = make(heads=heads)
    torch.nn.init.normal_(projector.norm_out.weight)
    query = torch.randn(2, 9, 6, dtype=torch.float64) if external else None
    seen = F.conv2d(student, projector.enter.weight, projector.enter.bias, padding=1)
    seen = (seen - seen.mean((0, 2, 3), keepdim=True)) / (seen.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    seen = (seen.relu() + projector.place).flatten(2).mT
    asked = projector.ask(projector.query.expand(2, 9, 6) if query is None else query).relu()
    q, k, v = projector.to_query(asked), projector.to_key(seen), projector.to_value(seen)
    width = 6 // heads
    parts = []
    for h in range(heads):
        at = slice(h * width, (h + 1) * width)
        scores = q[:, :, at] @ k[:, :, at].mT / width**0.5 * 5.0
        parts.append(scores.softmax(-1) @ v[:, :, at])
    x = projector.norm_out(projector.leave(torch.cat(parts, -1)))
    expected = x + projector.narrow(projector.widen(x).relu())
    torch.testing.assert_close(projector(student, query), expected)


def test_heads_divide_the_channels():
    assert [make(heads=heads)[0].heads for heads in (1, 2, 3, 4, 5, 6, 8)] == [1, 2, 3, 3, 3, 6, 6]


def test_parameters_and_their_sizes():
    projector, _ = make()
    assert projector.place.shape == (3, 2, 3)
    assert projector.query.shape == (9, 6)
    assert 0 < projector.place.std() < 0.04
    assert 0.5 < projector.query.std() < 1.5
    assert projector.widen.weight.shape == (24, 6)
    assert projector.enter.kernel_size == (3, 3)
    assert projector.enter.padding == (1, 1)


def test_works_in_float32_under_autocast():
    projector, student = make(dtype=torch.float32)
    expected = projector(student)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(projector(student), expected)
    assert {p.dtype for p in projector.parameters()} == {torch.float32}


def test_tokens_as_map():
    tokens = torch.arange(12.0).reshape(1, 6, 2)
    got = tokens_as_map(tokens, torch.empty(1, 2, 2, 3))
    assert got.shape == (1, 2, 2, 3)
    assert got[0, 1].tolist() == [[1, 3, 5], [7, 9, 11]]
