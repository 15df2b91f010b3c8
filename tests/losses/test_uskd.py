"""Self-distillation with customised labels: value by hand, an oracle by loops, mixed labels, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import SignalMissing
from limbeck.losses.uskd import USKD, self_distillation
from limbeck.types import IGNORE, Signals

LABELS = torch.tensor([0, 3, 5, 2])


def softmax(row):
    total = sum(math.exp(x) for x in row)
    return [math.exp(x) / total for x in row]


def naive(logits, weak, shares, *, log_rank):
    """The three terms by loops; `shares` are rows of one or two labels with their values."""
    s, w = ([softmax(row) for row in x.tolist()] for x in (logits, weak))
    b, c = logits.shape
    depth = max(len(labels) for labels in shares)
    ordered = [sorted(labels.items(), key=lambda item: -item[1]) for labels in shares]
    means = [sum(s[i][ordered[i][k][0]] ** 2 for i in range(b)) / b for k in range(depth)]
    terms = [0.0, 0.0, 0.0]
    for i in range(b):
        for k, (y, v) in enumerate(ordered[i]):
            terms[0] -= (s[i][y] ** 2 + v - means[k]) * math.log(s[i][y]) / b
        strong = [math.log(x) for x in s[i]] if log_rank else s[i]
        rest_w, rest_s = 1 - sum(w[i][y] for y in shares[i]) + 1e-6, 1 - sum(strong[y] for y in shares[i]) + 1e-6
        order = sorted(range(c), key=lambda k: -(w[i][k] / rest_w + strong[k] / rest_s))
        zipf = {k: 1 / (rank + 1) for rank, k in enumerate(order) if k not in shares[i]}
        others = sum(s[i][k] for k in zipf)
        terms[1] -= sum(z / sum(zipf.values()) * math.log(s[i][k] / others) for k, z in zipf.items()) / b
        terms[2] -= sum((0.9 * shares[i].get(k, 0.0) + 0.1 / c) * math.log(w[i][k]) for k in range(c)) / b
    return terms


def test_by_hand():
    """Three classes, alone in the batch: s = (1/2, 1/4, 1/4), w = (1/6, 1/6, 4/6), label 0; class 2 ranks before 1, label or not."""
    logits, weak = torch.tensor([[math.log(2), 0.0, 0.0]]).double(), torch.tensor([[0.0, 0.0, math.log(4)]]).double()
    label, others, weakly = self_distillation(logits, weak, torch.tensor([0]), log_rank=False)
    assert label.item() == pytest.approx(math.log(2))  # s_y^2 is its own mean
    assert others.item() == pytest.approx(math.log(2))  # both of the other classes have 1/2
    assert weakly.item() == pytest.approx(-(0.9 + 0.1 / 3) * math.log(1 / 6) - 0.1 / 3 * (math.log(1 / 6) + math.log(4 / 6)))


@pytest.mark.parametrize("log_rank", [False, True])
def test_oracle(draw, log_rank):
    logits, weak = draw(4, 6)
    got = self_distillation(logits, weak, LABELS, log_rank=log_rank)
    expected = naive(logits, weak, [{y: 1.0} for y in LABELS.tolist()], log_rank=log_rank)
    assert [x.item() for x in got] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("log_rank", [False, True])
def test_mixed_labels_oracle(draw, log_rank):
    logits, weak = draw(3, 6)
    shares = [{0: 0.7, 4: 0.3}, {2: 0.1, 1: 0.9}, {5: 0.6, 3: 0.4}]
    matrix = torch.zeros(3, 6)
    for i, row in enumerate(shares):
        for y, v in row.items():
            matrix[i, y] = v
    got = self_distillation(logits, weak, matrix, log_rank=log_rank)
    assert [x.item() for x in got] == pytest.approx(naive(logits, weak, shares, log_rank=log_rank), rel=1e-6)


def test_a_third_label_is_not_one(draw):
    """It takes part in the smoothed labels of the weak classifier only."""
    logits, weak = draw(2, 6)
    two, three = torch.zeros(2, 2, 6).double()
    two[0, [1, 4]] = three[0, [1, 4]] = torch.tensor([0.5, 0.3]).double()
    two[1, [2, 0]] = three[1, [2, 0]] = torch.tensor([0.6, 0.25]).double()
    three[:, 5] = torch.tensor([0.2, 0.15]).double()
    expected, got = (self_distillation(logits, weak, labels, log_rank=False) for labels in (two, three))
    torch.testing.assert_close(got[:2], expected[:2])
    assert got[2] > expected[2]


def test_shares_in_half_precision_are_widened_first(draw):
    logits, weak = (x.float() for x in draw(2, 4))
    shares = torch.tensor([[0.75, 0.0, 0.25, 0.0], [0.0, 0.0, 0.0, 1.0]])
    got = self_distillation(logits, weak, shares.bfloat16(), log_rank=False)
    assert torch.equal(torch.stack(got), torch.stack(self_distillation(logits, weak, shares, log_rank=False)))


def test_ties_are_ranked_in_the_order_of_the_classes():
    """Logits of 0, the last class as label: class k of the others has the rank k + 1, whatever the sorting."""
    classes = 3000
    weak = torch.zeros(1, classes).double()
    label = torch.tensor([classes - 1])
    targets = 1 / torch.arange(1, classes).double()
    probe = torch.zeros(1, classes).double().requires_grad_()
    self_distillation(probe, weak, label, log_rank=False)[1].backward()
    assert probe.grad is not None
    torch.testing.assert_close(probe.grad[0, :-1], 1 / (classes - 1) - targets / targets.sum())


def test_what_is_sure_in_float32_still_ranks():
    """Label 0 has all of float32's probability, in both: the classes that are left rank by theirs, over a millionth."""
    logits = torch.tensor([[20.0, 0.0, 1.0]])
    others = self_distillation(logits, logits, torch.tensor([0]), log_rank=False)[1]
    p = 1 / (1 + math.exp(-1))
    assert others.item() == pytest.approx(-0.6 * math.log(p) - 0.4 * math.log(1 - p), rel=1e-5)


def test_a_matrix_of_single_labels_is_the_labels(draw):
    logits, weak = draw(4, 6)
    for log_rank in (False, True):
        single = self_distillation(logits, weak, torch.nn.functional.one_hot(LABELS, 6).float(), log_rank=log_rank)
        torch.testing.assert_close(single, self_distillation(logits, weak, LABELS, log_rank=log_rank))


def test_the_two_rankings_differ(draw):
    logits, weak = draw(8, 6)
    labels = LABELS.repeat(2)
    assert self_distillation(logits, weak, labels, log_rank=True)[1] != self_distillation(logits, weak, labels, log_rank=False)[1]


def test_targets_carry_no_gradient(draw):
    logits, weak = (x.requires_grad_() for x in draw(4, 6))
    label, others, weakly = self_distillation(logits, weak, LABELS, log_rank=False)
    (grad,) = torch.autograd.grad(others, weak, allow_unused=True, retain_graph=True)
    assert grad is None or not grad.any()
    (grad,) = torch.autograd.grad(weakly, logits, allow_unused=True, retain_graph=True)
    assert grad is None or not grad.any()
    (grad,) = torch.autograd.grad(label, logits)
    s = logits.detach().softmax(-1)
    square = s.gather(1, LABELS[:, None]).square()
    wanted = square + 1 - square.mean()
    torch.testing.assert_close(grad, wanted * (s - torch.nn.functional.one_hot(LABELS, 6)) / 4)


def test_unlabelled_examples_do_not_count(draw):
    logits, weak = draw(4, 6)
    labels = LABELS.clone()
    labels[1] = IGNORE
    rest = [0, 2, 3]
    got = self_distillation(logits, weak, labels, log_rank=False)
    torch.testing.assert_close(got, self_distillation(logits[rest], weak[rest], labels[rest], log_rank=False))
    assert [x.item() for x in self_distillation(logits, weak, labels.fill_(IGNORE), log_rank=False)] == [0, 0, 0]


@pytest.mark.parametrize("shape", [(3,), (5, 3), (3, 2, 4)])
def test_the_whole_and_the_weak_classifier(draw, shape):
    (feature,), (logits,) = draw(4, *shape, count=1), draw(4, 6, count=1)
    student = Signals(logits, {"middle": feature})
    loss = USKD(alpha=2.0, beta=3.0, mu=5.0)
    loss.setup(student, Signals())
    loss.double()
    assert sum(p.numel() for p in loss.parameters()) == 6 * (3 + 1)
    pooled = feature if len(shape) == 1 else feature.mean(1) if len(shape) == 2 else feature.mean((2, 3))
    weak = pooled @ loss.weak.weight.T + loss.weak.bias
    a, b, c = self_distillation(logits, weak, LABELS, log_rank=False)
    torch.testing.assert_close(loss(student, Signals(), LABELS), 2 * a + 3 * b + 5 * c)
    loss.variant = "official"
    torch.testing.assert_close(
        loss(student, Signals(), LABELS), 2 * a + 3 * self_distillation(logits, weak, LABELS, log_rank=True)[1] + 5 * c
    )


def test_two_classes_and_large_logits_are_finite(draw):
    for classes in (2, 6):
        (logits,), (weak,) = draw(4, classes, count=1), draw(4, classes, count=1, seed=8)
        own = (1e4 * logits).float().requires_grad_()
        labels = torch.tensor([0, 1, 0, 1])
        for given in (labels, torch.full((4, classes), 0.5)):
            value = torch.stack(self_distillation(own, 1e4 * weak.float(), given, log_rank=False)).sum()
            value.backward()
            assert value.isfinite()
            assert own.grad.isfinite().all()


def test_meta_device_and_autocast(draw):
    loss = USKD()
    loss.setup(Signals(torch.zeros(2, 5, device="meta"), {"middle": torch.zeros(2, 3, 4, 4, device="meta")}), Signals())
    assert loss.weak.weight.shape == (5, 3)
    assert loss.weak.weight.device.type == "meta"
    (feature,), (logits,) = draw(4, 3, count=1), draw(4, 6, count=1)
    student = Signals(logits.bfloat16(), {"middle": feature.bfloat16()})
    loss.setup(student, Signals())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss(student, Signals(), LABELS)
    torch.testing.assert_close(got, loss(student, Signals(), LABELS))
    assert got.dtype == torch.float32
    wide = loss(Signals(logits, {"middle": feature}), Signals(), LABELS)
    torch.testing.assert_close(wide.float(), loss(Signals(logits.float(), {"middle": feature.float()}), Signals(), LABELS))


def test_defaults_and_mistakes():
    loss = USKD()
    assert (loss.alpha, loss.beta, loss.mu, loss.variant) == (1.0, 0.1, 0.005, "paper")
    assert loss.teaches
    for name in ("alpha", "beta", "mu"):
        with pytest.raises(ValueError, match=rf"^USKD\.{name} must be >= 0, got -1$"):
            USKD(**{name: -1})  # pyright: ignore[reportArgumentType]
    student = Signals(torch.zeros(1, 3), {"middle": torch.zeros(1, 2)})
    loss.setup(student, Signals())
    with pytest.raises(SignalMissing, match="this loss needs labels"):
        loss(student, Signals())


def test_needs():
    needs = USKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (True, True, False, "one", "any")
    assert (needs.label_kinds, needs.global_batch) == (("class",), True)


def test_golden():
    check_parity("uskd", "uskd_mixed_labels")
