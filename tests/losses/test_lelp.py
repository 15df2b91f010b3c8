"""Pseudo-subclasses: value by hand, an oracle by loops, the identities of the paper, what moves the directions."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.lelp import LELP, subclass_cross_entropy
from limbeck.ops.subspace import unseen
from limbeck.types import Head, Signals


def signals(draw, batch=6, classes=2, channels=5):
    (ours,), (theirs,), (weight,) = (
        draw(batch, 3, count=1),
        draw(batch, channels, count=1, seed=4),
        draw(classes, channels, count=1, seed=5),
    )
    (logits,) = draw(batch, classes, count=1, seed=6)
    teacher = Signals(theirs @ weight.T, {"embedding": theirs}, head=Head(weight))
    return Signals(logits, {"pool": ours}), teacher


def ready(student, teacher, **fields):
    torch.manual_seed(0)
    loss = LELP(**fields)
    loss.setup(student, teacher)
    return loss.double()


def test_by_hand():
    """Teacher: class 0 with 3/4, split in (3/4, 1/4) and (1/2, 1/2). Student: 1/2, split evenly and in (1/4, 3/4)."""
    log3 = math.log(3)
    teacher, coordinates = torch.tensor([[2 * log3, 0.0]]), torch.tensor([[[log3, 0.0], [0.0, 0.0]]])
    student, splits = torch.zeros(1, 2), torch.tensor([[[0.0, 0.0], [0.0, log3]]])
    got = subclass_cross_entropy(student, splits, teacher, coordinates, temperature=2.0)
    half, quarter = math.log(2), math.log(4)
    split = 3 / 4 * half + 1 / 4 * (quarter / 2 + math.log(4 / 3) / 2)
    assert got.tolist() == pytest.approx([half + split])


def test_the_student_marginalises_to_its_own_logits(draw):
    """The joint distribution, summed over the subclasses of each class, is the softmax of the student's logits."""
    (student,), (splits,) = draw(4, 3, count=1), draw(4, 3, 5, count=1)
    joint = (student / 2).softmax(-1).unsqueeze(-1) * splits.softmax(-1)
    z = student.unsqueeze(-1) / 2 + splits.log_softmax(-1)
    torch.testing.assert_close(z.flatten(1).softmax(-1), joint.flatten(1))
    (teacher,), (coordinates,) = draw(4, 3, count=1, seed=7), draw(4, 3, 5, count=1, seed=8)
    q = (teacher / 2).softmax(-1).unsqueeze(-1) * coordinates.softmax(-1)
    torch.testing.assert_close(q.sum(-1), (teacher / 2).softmax(-1))
    got = subclass_cross_entropy(student, splits, teacher, coordinates, temperature=2.0)
    torch.testing.assert_close(got, -(q.flatten(1) * z.flatten(1).log_softmax(-1)).sum(-1))


def test_oracle(draw):
    student, teacher = signals(draw)
    loss = ready(student, teacher, subclasses=3, sharpness=2.0, temperature=3.0)
    (loss.means[:],), (loss.spread[:],) = draw(2, 5, count=1, seed=9), (x.abs() for x in draw(2, 3, count=1, seed=10))
    got, rows, values = loss(student, teacher), unseen(teacher.feature, teacher.head.weight), []  # pyright: ignore[reportOptionalMemberAccess]
    for i in range(6):
        p, total = (teacher.logits[i] / 3).softmax(-1), 0
        splits = (loss.head.weight @ student.feature[i] + loss.head.bias).view(2, 3)
        for c in range(2):
            u = 2 * loss.rotation @ (loss.basis[c].T @ (rows[i] - loss.means[c])) / loss.spread[c].mean().sqrt()
            own = (student.logits[i] / 3).log_softmax(-1)[c] + splits[c].log_softmax(-1)
            total -= (p[c] * u.softmax(-1) * own).sum()
        values.append(total)
    torch.testing.assert_close(got, torch.stack(values).mean())


def test_a_batch_with_a_gradient_moves_the_directions(draw):
    student, teacher = signals(draw)
    loss = ready(student, teacher, subclasses=2, memory=4)
    start = {name: value.clone() for name, value in loss.named_buffers()}
    loss(student, teacher)
    student.logits.requires_grad_()
    loss.eval()(student, teacher)
    assert all(torch.equal(value, start[name]) for name, value in loss.named_buffers())
    loss.train()
    rows, p = unseen(teacher.feature, teacher.head.weight), teacher.logits.softmax(-1)  # pyright: ignore[reportOptionalMemberAccess]
    first, means = loss(student, teacher), loss.means.clone()
    torch.testing.assert_close(means, (p / p.sum(0)).T @ rows)
    torch.testing.assert_close(loss.seen, p.sum(0).clamp_max(4))
    torch.testing.assert_close(loss.basis.mT @ loss.basis, torch.eye(2).double().expand(2, -1, -1))
    assert (teacher.head.weight @ loss.basis).abs().max() < 1e-10  # nothing that the logits say  # pyright: ignore[reportOptionalMemberAccess]
    assert torch.equal(loss.rotation, start["rotation"])
    assert first.item() != loss(student, teacher).item()  # a second step of the iteration


def test_later_batches_weigh_less_until_the_memory_is_full(draw):
    student, teacher = signals(draw)
    student.logits.requires_grad_()
    loss = ready(student, teacher, memory=7)
    loss.seen.fill_(4.0)
    rows, p = unseen(teacher.feature, teacher.head.weight), teacher.logits.softmax(-1)  # pyright: ignore[reportOptionalMemberAccess]
    loss(student, teacher)
    rate = p.sum(0) / (4 + p.sum(0))
    torch.testing.assert_close(loss.means, rate[:, None] * ((p / p.sum(0)).T @ rows))
    torch.testing.assert_close(loss.seen, (4 + p.sum(0)).clamp_max(7))


def test_the_scale_of_the_embedding_does_not_matter(draw):
    student, teacher = signals(draw, batch=40)
    student.logits.requires_grad_()
    values = []
    for scale in (1.0, 100.0):
        loss = ready(student, teacher, subclasses=3)
        scaled = Signals(teacher.logits, {"embedding": scale * teacher.feature}, head=teacher.head)
        values.append([loss(student, scaled).item() for _ in range(3)])
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_the_rotation_is_one():
    loss = LELP(subclasses=4)
    loss.setup(Signals(torch.zeros(2, 3), {"pool": torch.zeros(2, 6)}), Signals(torch.zeros(2, 3), {"e": torch.zeros(2, 8)}, head=HEAD))
    torch.testing.assert_close(loss.rotation @ loss.rotation.T, torch.eye(4))
    torch.testing.assert_close(loss.basis.mT @ loss.basis, torch.eye(4).expand(3, -1, -1))
    assert sum(p.numel() for p in loss.parameters()) == 3 * 4 * (6 + 1)
    assert {name: (tuple(x.shape), x.any().item()) for name, x in loss.named_buffers() if name in ("means", "spread", "seen")} == {
        "means": ((3, 8), False),
        "spread": ((3, 4), False),
        "seen": ((3,), False),
    }


HEAD = Head(torch.ones(3, 8))


def test_meta_device_and_low_precision(draw):
    loss = LELP()
    meta = {"device": "meta"}
    loss.setup(
        Signals(torch.zeros(2, 3, **meta), {"pool": torch.zeros(2, 6, 4, 4, **meta)}),  # pyright: ignore[reportArgumentType]
        Signals(torch.zeros(2, 3, **meta), {"e": torch.zeros(2, 8, **meta)}, head=Head(torch.zeros(3, 8, **meta))),  # pyright: ignore[reportArgumentType]
    )
    assert {x.device.type for x in (*loss.parameters(), *loss.buffers())} == {"meta"}
    student, teacher = signals(draw)
    loss = ready(student, teacher).float()
    half = [Signals(x.logits.bfloat16(), {k: v.bfloat16() for k, v in x.features.items()}) for x in (student, teacher)]
    half[1].head = Head(teacher.head.weight.bfloat16())  # pyright: ignore[reportOptionalMemberAccess]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss(*half)
    torch.testing.assert_close(got, loss(*half))


def test_an_embedding_without_spread_splits_evenly(draw):
    student, teacher = signals(draw)
    constant = Signals(teacher.logits, {"embedding": torch.ones(6, 5).double()}, head=teacher.head)
    student.logits.requires_grad_()
    loss = ready(student, constant)
    assert loss(student, constant).isfinite()
    assert loss.coordinates(unseen(torch.ones(6, 5).double(), teacher.head.weight)).abs().max() < 1e-3  # pyright: ignore[reportOptionalMemberAccess]


def test_mistakes():
    student = Signals(torch.zeros(2, 3), {"pool": torch.zeros(2, 6)})
    with pytest.raises(ShapeMismatch, match=r"^the teacher's classifier reads 8 channels, its tapped layer has 9; tap its 'head:input'\.$"):
        LELP().setup(student, Signals(torch.zeros(2, 3), {"e": torch.zeros(2, 9)}, head=HEAD))
    text = r"^LELP\.subclasses: expected at most 8, the channels of the teacher's embedding, found 9\.$"
    with pytest.raises(ShapeMismatch, match=text):
        LELP(subclasses=9).setup(student, Signals(torch.zeros(2, 3), {"e": torch.zeros(2, 8)}, head=HEAD))
    LELP(subclasses=8).setup(student, Signals(torch.zeros(2, 3), {"e": torch.zeros(2, 8)}, head=HEAD))
    with pytest.raises(SignalMissing, match="classifier of the teacher"):
        LELP().setup(student, Signals(torch.zeros(2, 3), {"e": torch.zeros(2, 8)}))
    for name in ("subclasses", "sharpness", "temperature", "memory"):
        with pytest.raises(ValueError, match=rf"^LELP\.{name} must be > 0, got 0$"):
            LELP(**{name: 0})


def test_defaults_and_needs():
    loss = LELP()
    assert (loss.subclasses, loss.sharpness, loss.temperature, loss.memory) == (5, 1.0, 1.0, 10_000)
    needs = loss.needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (True, False, True, "one", "any")
    assert (needs.label_kinds, needs.global_batch, needs.head) == (("class",), True, "teacher")


def test_half_precision_is_divided_in_float32(draw):
    (student,), (splits,), (teacher,), (coordinates,) = (
        draw(*shape, count=1, seed=seed) for seed, shape in enumerate(((2, 3), (2, 3, 4)) * 2)
    )
    half = [x.half() for x in (student, splits, teacher, coordinates)]
    got = subclass_cross_entropy(half[0], splits, half[2], coordinates, temperature=3.0)
    expected = subclass_cross_entropy(half[0].float(), splits, half[2].float(), coordinates, temperature=3.0)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


def test_the_least_spread_is_what_rounding_leaves_of_the_mean(draw):
    student, teacher = signals(draw)
    loss = ready(student, teacher, subclasses=2)
    (loss.means[:],) = draw(2, 5, count=1, seed=9)
    rows = unseen(teacher.feature, teacher.head.weight)  # pyright: ignore[reportOptionalMemberAccess]
    scores = torch.stack([(rows - loss.means[c]) @ loss.basis[c] @ loss.rotation.T for c in range(2)], 1)
    lengths = loss.means.norm(dim=1, keepdim=True) * torch.finfo(torch.float64).eps ** 0.5
    torch.testing.assert_close(loss.coordinates(rows), scores / lengths)


def test_signals_may_be_wider_than_the_state_and_carry_gradients(draw):
    student, teacher = signals(draw)
    loss = ready(student, teacher).float()
    taught = (student.logits, student.feature, teacher.logits, teacher.feature)
    for x in taught:
        x.requires_grad_()
    for _ in range(2):
        loss(student, teacher).backward()
    assert not any(buffer.requires_grad for buffer in loss.buffers())
    assert teacher.feature.grad is None
    assert student.logits.grad is not None
