"""GSSF: closed forms of the metric, patterns, the contrast, what is learned."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import ShapeMismatch
from limbeck.losses.gssf import GSSF, block_product
from limbeck.types import Signals


def ready(channels, **fields):
    loss = GSSF(**fields)
    x = torch.zeros(2, channels, dtype=torch.float64)
    loss.setup(Signals.of(x), Signals.of(x))
    return loss


@pytest.mark.parametrize("pattern", ["blocks", "diagonal"])
def test_begins_as_the_cosine(draw, pattern):
    s, t = draw(5, 6)
    scores = F.normalize(s, dim=1) @ F.normalize(t, dim=1).T / 0.1
    expected = F.cross_entropy(scores, torch.arange(5))
    torch.testing.assert_close(ready(6, pattern=pattern)(Signals.of(s), Signals.of(t)), expected)


def test_blocks_are_a_sparse_matrix(draw):
    (x,), (weight,) = draw(3, 6, count=1), draw(2, 3, 3, count=1)
    torch.testing.assert_close(block_product(x, weight), x @ torch.block_diag(*weight))


@pytest.mark.parametrize(("fields", "shape"), [
    ({"pattern": "diagonal"}, (12, 1, 1)),
    ({"pattern": "diagonal", "groups": 4}, (12, 1, 1)),
    ({}, (12, 1, 1)),
    ({"groups": 4}, (4, 3, 3)),
    ({"groups": 5}, (4, 3, 3)),
    ({"groups": 1}, (1, 12, 12)),
])  # fmt: skip
def test_patterns(fields, shape):
    loss = ready(12, **fields)
    assert loss.metric.shape == shape
    assert [name for name, _ in loss.named_parameters()] == ["metric"]
    assert torch.equal(torch.block_diag(*loss.metric), torch.eye(12, dtype=torch.float64))


def test_a_learned_metric_counts(draw):
    (s,), (t,), (weight,) = draw(5, 6, count=1), draw(5, 6)[1:], draw(2, 3, 3, count=1)
    loss = ready(6, groups=2, temperature=0.7, chunk=2)
    loss.metric.data.copy_(weight)
    scores = F.normalize(s, dim=1) @ torch.block_diag(*weight) @ F.normalize(t, dim=1).T / 0.7
    value = loss(Signals.of(s), Signals.of(t))
    torch.testing.assert_close(value, F.cross_entropy(scores, torch.arange(5)))
    value.backward()
    assert loss.metric.grad.abs().min() > 0  # pyright: ignore[reportOptionalMemberAccess]


def test_maps_and_tokens_are_averaged(draw):
    s, t = draw(3, 4, 2, 2)
    expected = ready(4)(Signals.of(s.mean((2, 3))), Signals.of(t.mean((2, 3))))
    torch.testing.assert_close(ready(4)(Signals.of(s), Signals.of(t)), expected)
    torch.testing.assert_close(ready(4)(*(Signals.of(x.flatten(2).mT) for x in (s, t))), expected)


def test_dead_features_and_single_examples_are_finite():
    for batch in (1, 3):
        student = torch.zeros(batch, 4, dtype=torch.float64, requires_grad=True)
        value = ready(4)(Signals.of(student), Signals.of(torch.ones(batch, 4, dtype=torch.float64)))
        value.backward()
        assert value.isfinite()
        assert student.grad.isfinite().all()  # pyright: ignore[reportOptionalMemberAccess]


def test_autocast_does_not_touch_it():
    s, t = torch.randn(2, 4, 8).unbind()
    loss = ready(8).float()
    expected = loss(Signals.of(s), Signals.of(t))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), expected)


def test_defaults_and_mistakes():
    loss = GSSF()
    assert (loss.pattern, loss.groups, loss.temperature, loss.chunk) == ("blocks", 16, 0.1, 512)
    with pytest.raises(ValueError, match=r"^GSSF\.groups must be > 0, got 0$"):
        GSSF(groups=0)
    with pytest.raises(ShapeMismatch, match=r"student \[2, 3, 1\] and teacher \[2, 4, 1\]"):
        ready(3)(Signals.of(torch.zeros(2, 3)), Signals.of(torch.zeros(2, 4)))


def test_needs():
    needs = GSSF().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "full",
        True,
    )
