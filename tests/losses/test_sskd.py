"""Self-supervision distillation: each term by loops, what learns from what, labels, views, golden numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import SignalMissing
from limbeck.losses.sskd import SSKD, rotation_term, similarity_terms
from limbeck.types import IGNORE, Signals


def softmax(values):
    top = max(values)
    values = [math.exp(x - top) for x in values]
    return [x / sum(values) for x in values]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def selected(values, errors, share):
    """Mean over the right ones and the least wrong; errors are pairs of rank and missing probability."""
    order = sorted(range(len(values)), key=lambda i: errors[i])
    wrong = sum(rank > 0 for rank, _ in errors)
    kept = order[: len(values) - wrong + int(wrong * share)]
    return sum(values[i] for i in kept) / len(kept)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_rotation_term_by_loops(draw, share):
    student, teacher = draw(5, 4, 6)
    labels = torch.tensor([0, 3, 5, 2, IGNORE])
    values, errors = [], []
    for i, y in enumerate(labels.tolist()):
        for view in (1, 2, 3):
            p, q = (softmax([z / 2 for z in x[i, view].tolist()]) for x in (teacher, student))
            values.append(4 * divergence(p, q))
            errors.append((0, 0) if y == IGNORE else (sum(x > p[y] for x in p), 1 - p[y]))
    got = rotation_term(student, teacher, labels, temperature=2.0, share=share)
    assert got.item() == pytest.approx(selected(values, errors, share), rel=1e-9)
    if share == 1.0:
        torch.testing.assert_close(rotation_term(student, teacher, None, temperature=2.0, share=0.0), got)


def test_half_precision_is_widened_first(draw):
    student, teacher = (x.bfloat16() for x in draw(4, 4, 6))
    expected = rotation_term(student.float(), teacher.float(), LABELS, temperature=3.0, share=0.5)
    assert torch.equal(rotation_term(student, teacher, LABELS, temperature=3.0, share=0.5), expected)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("chunk", [2, 7, 99])
@pytest.mark.parametrize(("seed", "spread"), [(8, 0.1), (19, 0.4)])  # with the second, the temperature decides which errors are least
def test_similarity_terms_by_loops(draw, share, chunk, seed, spread):
    (student,), (teacher,) = draw(5, 4, 3, count=1), draw(5, 4, 2, count=1, seed=seed)
    student[2] = student[2].mean(0) + 0.1 * student[2]
    teacher[:3] = 3 * teacher[:3, :1] + spread * teacher[:3]

    def cosines(x, i, view):
        row = x[i, view].tolist()
        others = x[:, 0].tolist()
        return [sum(a * b for a, b in zip(row, other, strict=True)) / math.hypot(*row) / math.hypot(*other) for other in others]

    values, errors, pretext = [], [], []
    for i in range(5):
        for view in (1, 2, 3):
            ours, theirs = cosines(student, i, view), cosines(teacher, i, view)
            p, q = softmax([x / 0.5 for x in theirs]), softmax([x / 0.5 for x in ours])
            values.append(0.25 * divergence(p, q))
            errors.append((sum(x > theirs[i] for x in theirs), 1 - p[i]))
            pretext.append(-math.log(softmax(theirs)[i]))
    assert 0 < sum(rank > 0 for rank, _ in errors) < 15
    got, own = similarity_terms(student, teacher, temperature=0.5, share=share, chunk=chunk)
    assert got.item() == pytest.approx(selected(values, errors, share), rel=1e-9)
    assert own.tolist() == pytest.approx(pretext, rel=1e-9)


def made(draw, batch: Any = 4, **fields: Any):
    torch.manual_seed(2)
    logits = draw(batch, 6, count=8, seed=1)
    features = [*draw(batch, 3, 2, 2, count=4, seed=2), *draw(batch, 5, count=4, seed=3)]
    views = [Signals(x.clone(), {"a": y.clone()}) for x, y in zip(logits, features, strict=True)]
    student, teacher = (replace(four[0], views=tuple(four[1:])) for four in (views[:4], views[4:]))
    loss = SSKD(**fields)
    loss.setup(student, teacher)
    return loss.double(), student, teacher


LABELS = torch.tensor([0, 3, 5, 2])


def test_the_terms_add_up(draw):
    fields = {"temperature": 3.0, "temperature_similarity": 0.7, "temperature_rotated": 2.5, "similarity_share": 0.5, "rotated_share": 0.25}
    weights = {"kd_weight": 0.3, "similarity_weight": 0.6, "rotated_weight": 0.5, "pretext_weight": 0.2}
    loss, student, teacher = made(draw, **fields, **weights)
    s, t = (torch.stack([x.logits, *(view.logits for view in x.views)], 1) for x in (student, teacher))
    kd = sum(9 * divergence(softmax((t[i, 0] / 3).tolist()), softmax((s[i, 0] / 3).tolist())) for i in range(4)) / 4
    rotated = rotation_term(s, t, LABELS, temperature=2.5, share=0.25)
    projected = [
        torch.stack([net(x.feature), *(net(view.feature) for view in x.views)], 1)
        for net, x in ((loss.student_projection, student), (loss.teacher_projection, teacher))
    ]
    similar, pretext = similarity_terms(*projected, temperature=0.7, share=0.5, chunk=99)
    expected = 0.3 * kd + 0.6 * similar + 0.5 * rotated + 0.2 * pretext.mean()
    torch.testing.assert_close(loss(student, teacher, LABELS), expected)


def test_the_teachers_projection_learns_from_its_own_task_alone(draw):
    for weights, learns in (({"pretext_weight": 0.0}, False), ({"similarity_weight": 0.0}, True)):
        loss, student, teacher = made(draw, **weights)
        loss(student, teacher, LABELS).backward()
        assert any(p.grad.any() for p in loss.teacher_projection.parameters()) == learns  # pyright: ignore[reportOptionalMemberAccess]
        assert any(p.grad.any() for p in loss.student_projection.parameters()) != learns  # pyright: ignore[reportOptionalMemberAccess]


def test_shares_count(draw):
    values = set()
    for fields in ({}, {"similarity_share": 0.0}, {"rotated_share": 0.0}):
        loss, student, teacher = made(draw, **fields)
        values.add(loss(student, teacher, LABELS).item())
    assert len(values) == 3


@pytest.mark.parametrize("chunk", [1, 5, 12])
def test_chunk_changes_neither_value_nor_gradient(draw, chunk):
    values = []
    for fields in ({}, {"chunk": chunk}):
        loss, student, teacher = made(draw, **fields)
        value = loss(student, teacher, LABELS)
        value.backward()
        values.append((value.detach(), *[p.grad for p in loss.parameters()]))
    torch.testing.assert_close(values[0], values[1])


def test_batch_of_one(draw):
    loss, student, teacher = made(draw, batch=1)
    value = loss(student, teacher, torch.tensor([2]))
    value.backward()
    assert value.isfinite()
    loss, student, teacher = made(draw, batch=1, rotated_share=0.0, kd_weight=0.0)
    assert loss(student, teacher, torch.tensor([5])).isfinite()


def test_unlabelled_batch_is_a_batch_without_labels(draw):
    loss, student, teacher = made(draw, rotated_share=0.5)
    assert torch.equal(loss(student, teacher, torch.full((4,), IGNORE)), loss(student, teacher))
    assert not torch.equal(loss(student, teacher, LABELS), loss(student, teacher))


def test_autocast_does_not_touch_the_similarities(draw):
    student, teacher = (x.float() for x in draw(5, 4, 3))
    expected = similarity_terms(student, teacher, temperature=0.5, share=1.0, chunk=99)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(similarity_terms(student, teacher, temperature=0.5, share=1.0, chunk=99), expected)


def test_setup(draw):
    loss, *_ = made(draw)
    assert [tuple(p.shape) for p in loss.student_projection.parameters()] == [(3, 3), (3,), (3, 3), (3,)]
    assert [tuple(p.shape) for p in loss.teacher_projection.parameters()] == [(5, 5), (5,), (5, 5), (5,)]


def test_parameters_are_on_the_device_of_the_signals():
    loss = SSKD()
    loss.setup(Signals.of(torch.empty(2, 5, device="meta")), Signals.of(torch.empty(2, 3, device="meta")))
    assert {parameter.device.type for parameter in loss.parameters()} == {"meta"}


def test_needs_defaults_and_mistakes(draw):
    needs = SSKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (True, False, True, "one", "any")
    assert needs.global_batch
    assert needs.rotations
    assert needs.label_kinds == ("class",)
    loss = SSKD()
    assert (loss.temperature, loss.temperature_similarity, loss.temperature_rotated) == (4.0, 0.5, 4.0)
    assert (loss.kd_weight, loss.similarity_weight, loss.rotated_weight, loss.pretext_weight) == (0.9, 10.0, 2.7, 1.0)
    assert (loss.similarity_share, loss.rotated_share, loss.chunk) == (0.75, 1.0, 1024)
    for name in ("temperature", "temperature_similarity", "temperature_rotated"):
        with pytest.raises(ValueError, match=rf"^SSKD\.{name} must be > 0, got 0$"):
            SSKD(**{name: 0})
    for name in ("kd_weight", "similarity_weight", "rotated_weight", "pretext_weight"):
        with pytest.raises(ValueError, match=rf"^SSKD\.{name} must be >= 0, got -1$"):
            SSKD(**{name: -1})
    for name in ("similarity_share", "rotated_share"):
        with pytest.raises(ValueError, match=rf"^SSKD\.{name} must be <= 1, got 2$"):
            SSKD(**{name: 2})
    loss, student, teacher = made(draw)
    with pytest.raises(SignalMissing, match="three rotations of the images, found 0"):
        loss(replace(student, views=()), teacher)


def test_golden():
    check_parity("sskd", "sskd_aux")
