"""The fused loss is the plain loss on whole logits: value and gradients, for every teacher and option."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.ops.test_divergence_gradients import NAMES, oracle
from torch import Tensor

from limbeck.errors import LimbeckError, ShapeMismatch
from limbeck.losses.fused import Hidden, Logits, Measure, Projection, Sampled, TopK, fused_divergence, fused_divergences
from limbeck.losses.fused import chunks as chunks_module
from limbeck.losses.fused import function as function_module
from limbeck.ops.divergence_gradients import Divergence
from limbeck.tokens import part_of, rows_of

TOKENS, VOCABULARY, WIDTH, THEIRS = 23, 61, 12, 17


@dataclass
class World:
    """Hidden states and heads, and the loss written out."""

    student: Tensor
    weight: Tensor
    bias: Tensor
    hidden: Tensor
    theirs: Tensor
    labels: Tensor
    weights: Tensor

    @classmethod
    def make(cls, dtype: torch.dtype = torch.float64) -> World:
        g = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

        labels = torch.randint(0, VOCABULARY, (TOKENS,), generator=g)
        labels[4] = -100
        weights = torch.rand(TOKENS, generator=g, dtype=torch.float64)
        weights[::3] = 0
        return cls(
            draw(TOKENS, WIDTH),
            draw(VOCABULARY, WIDTH),
            draw(VOCABULARY),
            draw(TOKENS, THEIRS),
            0.5 * draw(VOCABULARY, THEIRS),
            labels,
            weights,
        )

    def leaves(self) -> list[Tensor]:
        return [x.clone().requires_grad_() for x in (self.student, self.weight, self.bias)]


def logits(hidden: Tensor, weight: Tensor, bias: Tensor | None = None, scale: float = 1.0, cap: float | None = None) -> Tensor:
    z = scale * (hidden @ weight.T + (0 if bias is None else bias))
    return z if cap is None else cap * torch.tanh(z / cap)


def relative(found: Tensor | None, expected: Tensor | None) -> float:
    assert found is not None
    assert expected is not None
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


CASES = [
    *itertools.product(NAMES, (1.0, 2.5), (1.0,), (None,), (0.0,)),
    *itertools.product(("forward", "js", "tv"), (1.0, 2.0), (0.7,), (None, 3.0), (0.0, 0.4)),
    ("forward", 1.0, 2.0, None, 0.0),
]


@pytest.mark.parametrize(("name", "temperature", "scale", "cap", "label_weight"), CASES)
@pytest.mark.parametrize("scale_by_temperature", [True, False])
def test_as_from_whole_logits(name, temperature, scale, cap, label_weight, scale_by_temperature):
    world = World.make()
    student, weight, bias = leaves = world.leaves()
    z = logits(student, weight, bias, scale, cap)
    t = logits(world.hidden, world.theirs, None, scale, cap)
    factor = (temperature if name == "tv" else temperature**2) if scale_by_temperature else 1.0
    each = factor * oracle(name, z / temperature, t / temperature, 0.3, 0.2)
    each = each + label_weight * F.cross_entropy(z, world.labels, reduction="none")
    (each * world.weights).sum().mul(1.5).backward()

    measure = Measure(
        divergence=name,
        temperature=temperature,
        mixture=0.3,
        skew=0.2,
        label_weight=label_weight,
        scale_by_temperature=scale_by_temperature,
    )
    options: dict[str, Any] = {"measure": measure, "labels": world.labels, "chunk": 5}
    teacher = Hidden(world.hidden, Projection(world.theirs, None, scale, cap))
    first, second = world.leaves(), world.leaves()
    value = fused_divergence(first[0], Projection(first[1], first[2], scale, cap), teacher, weights=world.weights, **options)
    (1.5 * value).backward()
    values = fused_divergences(second[0], Projection(second[1], second[2], scale, cap), teacher, **options)
    (1.5 * values * world.weights).sum().backward()

    torch.testing.assert_close(value, (each * world.weights).sum().detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(values, each.detach(), rtol=1e-10, atol=1e-13)
    for mine, again, expected in zip(first, second, leaves, strict=True):
        assert relative(mine.grad, expected.grad) < 1e-10
        assert relative(again.grad, expected.grad) < 1e-10


def test_defaults():
    world = World.make()
    teacher, head = Hidden(world.hidden, Projection(world.theirs)), Projection(world.weight)
    plain = oracle("forward", logits(world.student, world.weight), logits(world.hidden, world.theirs), 0.5, 0.1)
    torch.testing.assert_close(fused_divergence(world.student, head, teacher), plain.sum())
    names: tuple[Divergence, ...] = ("js", "skew_forward", "skew_reverse")
    for name in names:
        expected = oracle(name, logits(world.student, world.weight), logits(world.hidden, world.theirs), 0.5, 0.1)
        torch.testing.assert_close(fused_divergences(world.student, head, teacher, Measure(divergence=name)), expected)
    four = oracle("forward", logits(world.student, world.weight) / 2, logits(world.hidden, world.theirs) / 2, 0.5, 0.1)
    torch.testing.assert_close(fused_divergences(world.student, head, teacher, Measure(temperature=2.0)), 4 * four)


@pytest.mark.parametrize("chunk", [1, 7, 1000, None])
def test_chunks_change_nothing(chunk, monkeypatch):
    world = World.make()
    teacher = Hidden(world.hidden, Projection(world.theirs))
    head = Projection(world.weight, world.bias)
    whole = fused_divergence(world.student, head, teacher, weights=world.weights, chunk=TOKENS)
    monkeypatch.setattr(chunks_module, "CACHED", 3 * VOCABULARY)
    torch.testing.assert_close(fused_divergence(world.student, head, teacher, weights=world.weights, chunk=chunk), whole)


def test_tokens_of_weight_zero_are_not_computed():
    world = World.make()
    broken = world.student.clone()
    broken[world.weights == 0] = torch.nan
    student = broken.requires_grad_()
    value = fused_divergence(student, Projection(world.weight), Hidden(world.hidden, Projection(world.theirs)), weights=world.weights)
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert (student.grad[world.weights == 0] == 0).all()
    assert student.grad.isfinite().all()


def test_no_token_at_all():
    world = World.make()
    student, weight, _ = world.leaves()
    for tokens in (0, TOKENS):
        part = student[:tokens]
        teacher = Hidden(world.hidden[:tokens], Projection(world.theirs))
        value = fused_divergence(part, Projection(weight), teacher, weights=torch.zeros(tokens))
        value.backward()
        assert value.item() == 0
    assert weight.grad is not None
    assert (weight.grad == 0).all()


def test_a_head_that_does_not_learn_gets_no_gradient():
    world = World.make()
    student = world.student.clone().requires_grad_()
    weight = world.weight.clone()
    fused_divergence(student, Projection(weight), Hidden(world.hidden, Projection(world.theirs))).backward()
    assert student.grad is not None
    assert weight.grad is None
    teacher = world.theirs.clone().requires_grad_()
    fused_divergence(student, Projection(weight), Hidden(world.hidden, Projection(teacher))).backward()
    assert teacher.grad is None


def test_whole_logits_of_the_teacher():
    world = World.make()
    t = logits(world.hidden, world.theirs)
    kept = t.clone()
    head = Projection(world.weight)
    expected = fused_divergences(world.student, head, Hidden(world.hidden, Projection(world.theirs)), Measure(temperature=2.0))
    torch.testing.assert_close(fused_divergences(world.student, head, Logits(t), Measure(temperature=2.0)), expected)
    assert torch.equal(t, kept)


def test_tokens_outside_of_the_vocabulary():
    world = World.make()
    student, weight, bias = world.leaves()
    with torch.no_grad():
        bias[-3:] = -torch.inf
    t = logits(world.hidden, world.theirs)
    t[:, -3:] = -torch.inf
    value = fused_divergence(student, Projection(weight, bias), Logits(t))
    value.backward()
    small = fused_divergence(world.student, Projection(world.weight[:-3], world.bias[:-3]), Logits(t[:, :-3]))
    torch.testing.assert_close(value, small)
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (student, weight, bias))
    assert weight.grad is not None
    assert (weight.grad[-3:] == 0).all()


# teachers of which not all is known


def coarse(z: Tensor, ids: Tensor) -> Tensor:
    """Logits of the kept tokens, and of all others as one."""
    rest = z.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([z.gather(1, ids), rest], 1)


@pytest.mark.parametrize("name", NAMES)
def test_top_k_is_the_divergence_with_the_rest_as_one(name):
    world = World.make()
    student, weight, _ = leaves = world.leaves()
    z, t = logits(student, weight), logits(world.hidden, world.theirs)
    log_p, ids = t.log_softmax(-1).topk(6)
    expected = oracle(name, coarse(z, ids), coarse(t, ids), 0.3, 0.2)
    (expected * world.weights).sum().backward()
    mine = world.leaves()
    measure = Measure(divergence=name, mixture=0.3, skew=0.2)
    value = fused_divergence(mine[0], Projection(mine[1]), TopK(ids, log_p), measure, weights=world.weights, chunk=4)
    value.backward()
    torch.testing.assert_close(value, (expected * world.weights).sum().detach())
    for found, right in zip(mine[:2], leaves[:2], strict=True):
        assert relative(found.grad, right.grad) < 1e-9


def test_top_k_of_nearly_all_the_mass():
    z = torch.zeros(1, 4)
    teacher = TopK(torch.tensor([[2]]), torch.tensor([[0.0]]))  # wholly sure: nothing is left for the rest
    value = fused_divergence(z, Projection(torch.eye(4)), teacher)
    assert value.item() == pytest.approx(1.3862944, rel=1e-6)
    x = torch.tensor([-1e-20, -1e-9, -0.5, -0.7, -30.0, 0.0], dtype=torch.float64)
    exact = [-46.0517018, -20.7232658, -0.93275213, -0.68634100, -9.3576e-14, chunks_module.LEAST]
    torch.testing.assert_close(chunks_module.log_one_minus_exp(x), torch.tensor(exact, dtype=torch.float64), rtol=1e-4, atol=0)


def test_chunks_change_nothing_for_teachers_of_which_not_all_is_known(monkeypatch):
    world = World.make()
    log_p, ids = logits(world.hidden, world.theirs).log_softmax(-1).topk(6)
    teachers = [TopK(ids, log_p), Sampled(ids, log_p.softmax(-1)), Logits(logits(world.hidden, world.theirs))]
    whole = [fused_divergences(world.student, Projection(world.weight), teacher) for teacher in teachers]
    monkeypatch.setattr(chunks_module, "CACHED", 3 * VOCABULARY)
    for teacher, expected in zip(teachers, whole, strict=True):
        torch.testing.assert_close(fused_divergences(world.student, Projection(world.weight), teacher, chunk=7), expected)


def test_stored_numbers_in_half_precision():
    world = World.make(torch.float32)
    log_p, ids = logits(world.hidden, world.theirs).log_softmax(-1).topk(6)
    few = log_p.half()
    for narrow, wide in (
        (TopK(ids, few), TopK(ids, few.float())),
        (Sampled(ids, few.softmax(-1)), Sampled(ids, few.softmax(-1).float())),
    ):
        found, expected = world.student.clone().requires_grad_(), world.student.clone().requires_grad_()
        values = [fused_divergence(x, Projection(world.weight), t) for x, t in ((found, narrow), (expected, wide))]
        torch.testing.assert_close(*values)
        for value in values:
            value.backward()
        torch.testing.assert_close(found.grad, expected.grad)


def test_weights_of_samples_count_as_they_are():
    """They sum to 1 up to rounding; the gradient is that of the value also where they do not."""
    world = World.make()
    ids = torch.randint(0, VOCABULARY, (TOKENS, 5), generator=torch.Generator().manual_seed(1))
    weights = torch.rand(TOKENS, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mine, plain = world.student.clone().requires_grad_(), world.student.clone().requires_grad_()
    value = fused_divergence(mine, Projection(world.weight), Sampled(ids, weights))
    value.backward()
    expected = -(weights * logits(plain, world.weight).log_softmax(-1).gather(1, ids)).sum()
    expected.backward()
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(mine.grad, plain.grad)


def test_samples_estimate_the_cross_entropy_without_bias():
    world = World.make()
    student, weight, _ = leaves = world.leaves()
    p = logits(world.hidden, world.theirs).softmax(-1)
    (-(p * logits(student, weight).log_softmax(-1)).sum()).backward()
    ids = torch.multinomial(p, 4000, replacement=True, generator=torch.Generator().manual_seed(3))
    mine = world.leaves()
    value = fused_divergence(mine[0], Projection(mine[1]), Sampled(ids, torch.full(ids.shape, 1 / 4000)))
    value.backward()
    assert relative(mine[1].grad, leaves[1].grad) < 0.05
    exact = -(logits(world.student, world.weight).log_softmax(-1).gather(1, ids)).mean(1).sum()
    torch.testing.assert_close(value, exact)


# precision


def test_half_precision_close_to_the_teacher():
    g = torch.Generator().manual_seed(5)
    hidden, weight = torch.randn(64, 128, generator=g).bfloat16(), (0.3 * torch.randn(4096, 128, generator=g)).bfloat16()
    theirs = (weight.float() + 0.01 * torch.randn(4096, 128, generator=g)).bfloat16()
    exact_h, exact_w = hidden.double().requires_grad_(), weight.double().requires_grad_()
    exact = oracle("forward", exact_h @ exact_w.T, hidden.double() @ theirs.double().T, 0.5, 0.1).sum()
    exact.backward()
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    value = fused_divergence(h, Projection(w), Hidden(hidden, Projection(theirs)))
    value.backward()
    assert exact / 64 < 0.02
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-3)
    assert w.grad is not None
    assert w.grad.dtype == torch.bfloat16
    assert relative(w.grad, exact_w.grad) < 0.005
    assert relative(h.grad, exact_h.grad) < 0.005


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_under_autocast_products_stay_exact(dtype):
    world = World.make(torch.float32)
    args = (world.student, Projection(world.weight), Hidden(world.hidden, Projection(world.theirs)))
    expected = fused_divergence(*args)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(fused_divergence(*args), expected)
    found, plain = world.leaves()[0], world.leaves()[0]
    fused_divergences(plain, *args[1:]).sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = fused_divergences(found, *args[1:])
        torch.testing.assert_close(values.sum(), expected)
        values.sum().backward()
    torch.testing.assert_close(found.grad, plain.grad)
    low = (world.student.to(dtype), Projection(world.weight.to(dtype)), Hidden(world.hidden.to(dtype), Projection(world.theirs.to(dtype))))
    assert fused_divergence(*low).item() == pytest.approx(expected.item(), rel=0.05)


def test_large_logits_are_finite():
    world = World.make(torch.float32)
    student = (1e4 * world.student).requires_grad_()
    for name in NAMES:
        value = fused_divergence(
            student, Projection(world.weight), Hidden(1e4 * world.hidden, Projection(world.theirs)), Measure(divergence=name)
        )
        value.backward()
        assert value.isfinite()
        assert student.grad is not None
        assert student.grad.isfinite().all()


def test_the_logits_are_never_held(monkeypatch):
    made: list[int] = []
    plain = chunks_module.Buffers.__init__

    def noted(self: Any, rows: int, vocabulary: int, *args: Any, **kwargs: Any) -> None:
        made.append(rows)
        plain(self, rows, vocabulary, *args, **kwargs)

    monkeypatch.setattr(chunks_module.Buffers, "__init__", noted)
    hidden = torch.randn(1024, 4)
    fused_divergence(hidden, Projection(torch.randn(2000, 4)), Hidden(hidden, Projection(torch.randn(2000, 4))))
    assert made == [64]


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "dtype", "expected"),
    [
        (480, 10, torch.float32, 30),  # a sixteenth of them
        (490, 10, torch.float32, 29),  # as even as they can be cut
        (160, 10, torch.float32, 20),  # the fewest
        (1600, 50, torch.float32, 40),  # the largest buffer
        (1600, 50, torch.bfloat16, 40),  # computed in float32
        (1600, 50, torch.float64, 20),
        (0, 10, torch.float32, 0),
    ],
)
def test_how_many_tokens_a_chunk_has(tokens, vocabulary, dtype, expected, monkeypatch):
    assert (function_module.BYTES, function_module.SHARE, function_module.FEWEST) == (64 * 2**20, 16, 32)
    monkeypatch.setattr(function_module, "BYTES", 8000)
    monkeypatch.setattr(function_module, "FEWEST", 20)
    made = []
    plain = chunks_module.Buffers
    monkeypatch.setattr(
        function_module, "Buffers", lambda rows, *args, **words: made.append((rows, words["rooms"])) or plain(rows, *args, **words)
    )
    head, hidden = Projection(torch.randn(vocabulary, 2).to(dtype)), torch.randn(tokens, 2).to(dtype)
    fused_divergence(hidden, head, Hidden(hidden, head))
    assert made == [(expected, 1)]
    made.clear()
    capped, labels = Projection(head.weight, None, 1.0, 5.0), torch.zeros(tokens, dtype=torch.long)
    fused_divergence(hidden, capped, Hidden(hidden, head), Measure(label_weight=1.0), labels=labels)
    fused_divergence(hidden, capped, Hidden(hidden, head))
    fused_divergence(hidden, head, Hidden(hidden, head), Measure(label_weight=1.0), labels=labels)
    assert [rooms for _, rooms in made] == [3, 2, 2]


def test_buffers(monkeypatch):
    monkeypatch.setattr(chunks_module, "CACHED", 100)
    make = chunks_module.Buffers
    cpu = torch.empty(0)
    assert [make(5, n, cpu, torch.float64, teacher=True, rooms=1).step for n in (10, 20, 40, 100, 101)] == [5, 5, 2, 1, 1]
    some = make(5, 40, cpu, torch.float64, teacher=True, rooms=2)
    assert [x.shape for x in (some.student, some.teacher, *some.rooms)] == [(5, 40), (5, 40), (2, 40), (2, 40)]
    assert some.teacher is not some.student
    assert some.student.dtype == torch.float64
    other = make(5, 40, torch.empty(0, device="meta"), torch.float32, teacher=False, rooms=1)
    assert (other.step, other.student.device.type) == (5, "meta")
    assert other.teacher is other.student


def test_blocks_of_a_head_in_half_precision_change_nothing(monkeypatch):
    world = World.make(torch.bfloat16)
    args = (world.student, Projection(world.weight), Hidden(world.hidden, Projection(world.theirs)))
    whole = fused_divergence(*args)
    monkeypatch.setattr(chunks_module, "BLOCK", 7)
    torch.testing.assert_close(fused_divergence(*args), whole)


def test_only_gradients_that_are_asked_for_are_computed():
    world = World.make()
    work: Any = SimpleNamespace(student=world.student, head=Projection(world.weight, world.bias))
    for asked in itertools.product((True, False), (True, False), (True, False)):
        assert [x is not None for x in function_module._Gradients(work, asked).all()] == list(asked)
    work.head = Projection(world.weight)
    assert function_module._Gradients(work, (True, True, True)).all()[2] is None


def test_weights_of_another_precision():
    world = World.make(torch.float32)
    args = (world.student, Projection(world.weight), Hidden(world.hidden, Projection(world.theirs)))
    weights = world.weights.float()
    torch.testing.assert_close(fused_divergence(*args, weights=weights.double()), fused_divergence(*args, weights=weights))


# wrong input


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 0.0}, {"mixture": 0.0}, {"mixture": 1.0}, {"skew": -0.1}, {"skew": 1.0}, {"label_weight": -0.5}, {"skew": math.nan}],
)
def test_what_a_measure_can_be(wrong):
    found = {"temperature": 1.0, "mixture": 0.5, "skew": 0.1, "label_weight": 0.0} | wrong
    numbers = "{temperature}, {mixture}, {skew} and {label_weight}".format(**found)
    message = f"a fused divergence needs temperature > 0, mixture in (0, 1), skew in [0, 1) and label_weight >= 0, got {numbers}."
    with pytest.raises(LimbeckError, match=f"^{re.escape(message)}$"):
        Measure(**wrong)
    assert Measure(skew=0.0, label_weight=0.0).skew == 0


@pytest.mark.parametrize("function", [fused_divergence, fused_divergences])
def test_there_is_no_gradient_of_a_gradient(function):
    world = World.make()
    leaves = world.leaves()
    value = function(leaves[0], Projection(leaves[1], leaves[2]), Hidden(world.hidden, Projection(world.theirs))).sum()
    found = torch.autograd.grad(value, leaves, create_graph=True)
    expected = torch.autograd.grad(
        function(leaves[0], Projection(leaves[1], leaves[2]), Hidden(world.hidden, Projection(world.theirs))).sum(), leaves
    )
    torch.testing.assert_close(found, expected)
    assert not any(x.requires_grad for x in found)


def test_part_of_a_teacher():
    ids, numbers, some = torch.arange(6).view(3, 2), torch.rand(3, 2), torch.tensor([2, 0])
    for kind in (TopK, Sampled):
        assert all(torch.equal(x, y[some]) for x, y in zip(rows_of(part_of(kind(ids, numbers), some)), (ids, numbers), strict=True))
    assert torch.equal(rows_of(part_of(Logits(numbers), slice(1, 3)))[0], numbers[1:])
    head = Projection(numbers)
    assert part_of(Hidden(numbers, head), some).head is head  # pyright: ignore[reportAttributeAccessIssue]


def test_messages():
    world = World.make()
    head, teacher = Projection(world.weight), Hidden(world.hidden, Projection(world.theirs))
    other = "the teacher has 60 tokens in its vocabulary and the student 61. Cut the rows that only pad the larger head (weight[:n]); "
    other += "other vocabularies need a loss across tokenizers."
    with pytest.raises(
        ShapeMismatch, match=r"^the student's hidden states \[23, 11\] do not fit its head \[61, 12\]; give \(tokens, width\)\.$"
    ):
        fused_divergence(world.student[:, 1:], head, teacher)
    with pytest.raises(ShapeMismatch, match=r"the teacher's \[22, 17\] do not fit the student's 23 tokens"):
        fused_divergence(world.student, head, Hidden(world.hidden[1:], teacher.head))
    with pytest.raises(ShapeMismatch, match=re.escape(other)):
        fused_divergence(world.student, head, Hidden(world.hidden, Projection(world.theirs[1:])))
    with pytest.raises(ShapeMismatch, match=r"hidden states \[23, 16\] do not fit its head \[61, 17\]"):
        fused_divergence(world.student, head, Hidden(world.hidden[:, 1:], teacher.head))
    with pytest.raises(ShapeMismatch, match=r"label_weight 0.5 needs labels \[23\], found none"):
        fused_divergence(world.student, head, teacher, Measure(label_weight=0.5))
    with pytest.raises(LimbeckError, match=r"estimate divergence 'forward' only, got 'js'; store its likeliest tokens instead\.$"):
        fused_divergence(world.student, head, Sampled(torch.zeros(23, 1, dtype=torch.long), torch.ones(23, 1)), Measure(divergence="js"))
    with pytest.raises(ShapeMismatch, match=r"the teacher's \[22, 17\] do not fit the student's 23 tokens"):
        fused_divergences(world.student, head, Hidden(world.hidden[1:], teacher.head))
    student = world.student.clone().requires_grad_()
    value = fused_divergence(student, head, teacher)
    value.backward(retain_graph=True)
    with pytest.raises(LimbeckError, match="used up by its first backward pass"):
        value.backward()
