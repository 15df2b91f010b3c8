"""KDSVD: an oracle by loops and numpy, signs that do not matter, matching of directions, messages."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.kdsvd import KDSVD, relation, weighted_directions
from limbeck.types import Signals


def oracle(student, teacher, *, count, beta, flip=False):
    """Lists of layers `(positions, channels)` of one example; `flip` gives every singular vector the other sign at first."""
    ours, theirs = [], []
    for s, t in zip(student, teacher, strict=True):
        _, values, right = np.linalg.svd(t, full_matrices=False)
        sign = -1 if flip else 1
        k = min(count, len(values))
        weights = values[:k] / np.linalg.norm(values[:k])
        own = sign * np.linalg.svd(s, full_matrices=False)[2][: count + 1]
        t_vectors, s_vectors = [], []
        for i in range(k):
            v = sign * right[i]
            v = v if (t @ v).sum() >= 0 else -v
            best = max(own, key=lambda u, v=v: abs(u @ v))
            t_vectors.append(weights[i] * v)
            s_vectors.append(weights[i] * (best if best @ v >= 0 else -best))
        ours.append(s_vectors)
        theirs.append(t_vectors)
    total = 0.0
    for layer in range(len(ours) - 1):
        k = min(len(ours[layer]), len(ours[layer + 1]))
        for i in range(k):
            for a, (x, p) in enumerate(zip(ours[layer][i], theirs[layer][i], strict=True)):
                for b, (y, q) in enumerate(zip(ours[layer + 1][i], theirs[layer + 1][i], strict=True)):
                    assert (a, b) is not None
                    total += (math.exp(-((x - y) ** 2) / beta) - math.exp(-((p - q) ** 2) / beta)) ** 2
    return total


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("count", "beta"), [(1, 8.0), (2, 0.5), (7, 1.0)])
def test_oracle(draw, count, beta, flip):
    layers = [(3, 2, 2), (5, 1, 2), (3, 2, 2)]
    student = [draw(2, *shape, count=1, seed=i)[0] for i, shape in enumerate(layers)]
    teacher = [draw(2, *shape, count=1, seed=10 + i)[0] for i, shape in enumerate(layers)]
    got = KDSVD(count=count, beta=beta)(Signals.of(*student), Signals.of(*teacher))
    assert got.shape == (2,)
    for i in range(2):
        s, t = ([x[i].flatten(1).T.numpy() for x in side] for side in (student, teacher))
        assert got[i].item() == pytest.approx(oracle(s, t, count=count, beta=beta, flip=flip), rel=1e-8)


def test_relation_by_hand():
    first, second = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[0.0], [3.0], [2.0]]])
    got = relation(first, second, beta=4.0)
    assert got.shape == (1, 2, 3, 1)
    expected = [[math.exp(-((a - b) ** 2) / 4) for b in (0, 3, 2)] for a in (1, 2)]
    torch.testing.assert_close(got[0, :, :, 0], torch.tensor(expected))


def test_a_direction_finds_its_nearest_whatever_its_rank_and_sign():
    """The student's second direction is the teacher's first, the other way round."""
    student = torch.tensor([[[5.0, 0.0], [0.0, -3.0]]])
    teacher = torch.tensor([[[0.1, 0.0], [0.0, 4.0]]])
    ours, theirs = weighted_directions(student, teacher, count=1)
    torch.testing.assert_close(theirs, torch.tensor([[[0.0], [1.0]]]))
    torch.testing.assert_close(ours, theirs)


def test_only_one_more_direction_is_looked_at():
    """The student's third direction is the teacher's first; with one vector the first two are looked at."""
    student = torch.diag_embed(torch.tensor([[5.0, 4.0, 3.0]]))
    teacher = torch.tensor([[[0.2, 0.0, 0.0], [0.0, 0.1, 0.0], [0.6, 0.3, 4.0]]])
    ours, _ = weighted_directions(student, teacher, count=1)
    assert ours[0, :, 0].abs().argmax() == 0
    ours, _ = weighted_directions(student, teacher, count=2)
    assert ours[0, :, 0].abs().argmax() == 2


def test_sign_of_the_student_does_not_matter(draw):
    """A student that is the teacher with the other sign has the same directions."""
    a, b = draw(2, 3, 2, 2)
    assert KDSVD()(Signals.of(-a, b), Signals.of(a, b)).abs().max() < 1e-20
    assert KDSVD()(Signals.of(-a, -b), Signals.of(a, b)).abs().max() < 1e-20


def test_scale_of_a_layer_does_not_matter_with_one_vector(draw):
    (a, b), (c, d) = draw(2, 3, 2, 2), draw(2, 3, 2, 2, seed=8)
    expected = KDSVD()(Signals.of(a, b), Signals.of(c, d))
    torch.testing.assert_close(KDSVD()(Signals.of(4 * a, b), Signals.of(c, 0.1 * d)), expected)


def test_dead_layers_are_finite():
    student = torch.zeros(1, 3, 2, 2, requires_grad=True)
    alive = torch.arange(12.0).reshape(1, 3, 2, 2)
    for teacher in (alive, torch.zeros_like(alive)):
        value = KDSVD()(Signals.of(student, student), Signals.of(teacher, alive))
        value.sum().backward()
        assert value.isfinite().all()
        assert student.grad.isfinite().all()


def test_autocast_does_not_touch_the_directions():
    s, t = torch.randn(2, 2, 2, 6, 3, 3, generator=torch.Generator().manual_seed(0)).unbind()
    expected = KDSVD(count=3)(Signals.of(*s), Signals.of(*t))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(KDSVD(count=3)(Signals.of(*s), Signals.of(*t)), expected)


def test_defaults_and_mistakes():
    assert (KDSVD().count, KDSVD().beta) == (1, 8.0)
    with pytest.raises(ValueError, match=r"^KDSVD\.count must be > 0, got 0$"):
        KDSVD(count=0)
    x = torch.ones(2, 3, 2, 2)
    with pytest.raises(SignalMissing, match=r"^kdsvd relates each layer to the next, found 1 layer; name two or more\.$"):
        KDSVD()(Signals.of(x), Signals.of(x))
    with pytest.raises(ShapeMismatch, match=r"student \[2, 3, 4\] and teacher \[2, 5, 4\]"):
        KDSVD()(Signals.of(x, x), Signals.of(x, torch.ones(2, 5, 2, 2)))


def test_needs():
    needs = KDSVD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "full",
        False,
    )
