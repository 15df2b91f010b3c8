"""One for all: value by hand, an oracle by loops, the shape of the exits, their gradients, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity
from torch import nn

from limbeck.errors import LimbeckError, ShapeMismatch, SignalMissing
from limbeck.losses.ofa import OFA, adaptive_cross_entropy, exit_for, explicit_cross_entropy
from limbeck.types import IGNORE, Signals

LABELS = torch.tensor([0, 3, 5, 2])
BOTH = [adaptive_cross_entropy, explicit_cross_entropy]


@pytest.mark.parametrize("function", BOTH)
def test_by_hand(function):
    """Teacher (3/4, 1/4), student (1/2, 1/2), power 2: targets (7/4)^2 - 1 and 1/16."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[2 * math.log(3), 0.0]])
    got = function(student, teacher, torch.tensor([0]), temperature=2.0, epsilon=2.0)
    assert got.item() == pytest.approx((33 / 16 + 1 / 16) * math.log(2), rel=1e-6)


@pytest.mark.parametrize("function", BOTH)
def test_oracle(draw, function):
    student, teacher = draw(4, 6)
    got = function(student, teacher, LABELS, temperature=3.0, epsilon=1.5)
    for i, y in enumerate(LABELS.tolist()):
        p, q = ([math.exp(z / 3) for z in x[i].tolist()] for x in (teacher, student))
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        hit = [float(c == y) for c in range(6)]
        expected = -sum(((a + m) ** 1.5 - m) * math.log(b) for a, b, m in zip(p, q, hit, strict=True))
        assert got[i].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("function", BOTH)
def test_tokens_are_examples(draw, function):
    student, teacher = draw(2, 3, 6)
    labels = torch.tensor([[0, 3, 5], [2, 1, 4]])
    got = function(student, teacher, labels, temperature=2.0, epsilon=1.5)
    flat = function(student.flatten(0, 1), teacher.flatten(0, 1), labels.flatten(), temperature=2.0, epsilon=1.5)
    torch.testing.assert_close(got, flat.view(2, 3))


@pytest.mark.parametrize("function", BOTH)
def test_half_precision_is_widened_first(draw, function):
    student, teacher = (x.bfloat16() for x in draw(4, 6))
    got = function(student, teacher, LABELS, temperature=3.0, epsilon=1.5)
    assert torch.equal(got, function(student.float(), teacher.float(), LABELS, temperature=3.0, epsilon=1.5))


def test_power_one_is_the_cross_entropy_with_the_teacher(draw):
    student, teacher = draw(4, 6)
    expected = -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(adaptive_cross_entropy(student, teacher, LABELS, temperature=1.0, epsilon=1.0), expected)


def test_unlabelled_is_zero(draw):
    student, teacher = draw(4, 6)
    labels = LABELS.clone()
    labels[1] = IGNORE
    got, full = (adaptive_cross_entropy(student, teacher, y, temperature=1.0, epsilon=2.0) for y in (labels, LABELS))
    assert got.tolist() == [full[0], 0, full[2], full[3]]


def example(*shapes, classes=7):
    features = {f"layer{i}": torch.randn(4, *shape, generator=torch.Generator().manual_seed(i)) for i, shape in enumerate(shapes)}
    logits = torch.randn(4, classes, generator=torch.Generator().manual_seed(9))
    return Signals(logits, features), Signals(logits.roll(1, 0), {name: x[:, :1] for name, x in features.items()})


def test_total_is_made_of_its_parts():
    student, teacher = example((4, 8, 8), (8, 4, 4))
    torch.manual_seed(0)
    loss = OFA(temperature=2.0, epsilon=(1.5, 1.2, 1.1), logit_weight=3.0, exit_weight=5.0)
    loss.setup(student, teacher)
    answers = [branch(x) for branch, x in zip(loss.exits, student.features.values(), strict=True)]
    parts = [
        adaptive_cross_entropy(z, teacher.logits, LABELS, temperature=2.0, epsilon=power)
        for z, power in zip([*answers, student.logits], loss.epsilon, strict=True)
    ]
    torch.testing.assert_close(loss(student, teacher, LABELS), 3 * parts[2] + 5 * (parts[0] + parts[1]))
    loss.epsilon = (1.3,)
    parts = [adaptive_cross_entropy(z, teacher.logits, LABELS, temperature=2.0, epsilon=1.3) for z in [*answers, student.logits]]
    torch.testing.assert_close(loss(student, teacher, LABELS), 3 * parts[2] + 5 * (parts[0] + parts[1]))


def test_one_exit_and_the_logits_have_powers_of_their_own():
    student, teacher = example((4, 8, 8))
    loss = OFA(epsilon=(1.5, 1.1))
    loss.setup(student, teacher)
    answers = [loss.exits[0](student.features["layer0"]), student.logits]
    exit_part, own = (
        adaptive_cross_entropy(z, teacher.logits, LABELS, temperature=1.0, epsilon=power)
        for z, power in zip(answers, (1.5, 1.1), strict=True)
    )
    torch.testing.assert_close(loss(student, teacher, LABELS), own + exit_part)


def shapes(branch, feature):
    """Channels and width behind every convolution, then what the linear layer reads and gives."""
    found, x = [], feature
    for layer in branch:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            found.append(tuple(x.shape[1:3]))
    return [*found, (branch[-1].in_features, branch[-1].out_features)]


def test_exits_end_alike():
    student, teacher = example((4, 16, 16), (6, 8, 8), (12, 4, 4))
    loss = OFA()
    loss.setup(student, teacher)
    found = [shapes(branch, x) for branch, x in zip(loss.exits, student.features.values(), strict=True)]
    assert found[0] == [(4, 8), (8, 8), (8, 4), (12, 4), (12, 7)]
    assert found[1] == [(6, 4), (12, 4), (12, 7)]
    assert found[2] == [(12, 4), (12, 7)]


def test_the_width_of_a_map_counts_where_it_is_not_square():
    student, teacher = example((4, 2, 16), (6, 1, 4))
    loss = OFA()
    loss.setup(student, teacher)
    found = [shapes(branch, x) for branch, x in zip(loss.exits, student.features.values(), strict=True)]
    assert found == [[(4, 1), (8, 1), (8, 1), (6, 1), (6, 7)], [(6, 1), (6, 7)]]


def test_layers_of_an_exit():
    branch = exit_for(torch.zeros(1, 4, 8, 8), halvings=1, width=5, classes=3)
    depthwise, pointwise, norm, relu, pool, flat, linear = branch
    assert (depthwise.groups, depthwise.stride, depthwise.kernel_size, depthwise.padding) == (4, (2, 2), (3, 3), (1, 1))
    assert depthwise.bias is None
    assert pointwise.kernel_size == (1, 1)
    assert (norm.num_groups, norm.num_channels) == (1, 5)
    assert (type(relu), pool.output_size, type(flat), linear.out_features) == (nn.ReLU, 1, nn.Flatten, 3)
    assert exit_for(torch.zeros(1, 4, 8, 8, device="meta"), halvings=0, width=5, classes=3)[0].weight.device.type == "meta"


def test_exits_learn_and_read_tokens_and_vectors():
    student, teacher = example((17, 6), (5,))
    loss = OFA()
    loss.setup(student, teacher)
    loss(student, teacher, LABELS).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())
    assert len(list(loss.parameters())) == (2 * 5 + 2) + (2 + 2)


def test_one_example_and_extreme_logits_are_finite():
    student, teacher = example((4, 2, 2))
    loss = OFA(epsilon=(1.5,))
    loss.setup(student, teacher)
    one = [Signals(1e4 * x.logits[:1], {k: v[:1] for k, v in x.features.items()}) for x in (student, teacher)]
    assert loss(*one, LABELS[:1]).isfinite().all()


def test_mistakes():
    student, teacher = example((4, 8, 8), (8, 4, 4))
    with pytest.raises(LimbeckError, match=r"^OFA\.epsilon: expected 1 or 3 numbers for 2 exits, found \[1\.0, 2\.0\]\.$"):
        OFA(epsilon=(1.0, 2.0)).setup(student, teacher)
    loss = OFA()
    loss.setup(student, teacher)
    with pytest.raises(SignalMissing, match=r"^OFA was set up with 2 exits, found 0 features of the student\.$"):
        loss(Signals(student.logits), teacher, LABELS)
    with pytest.raises(SignalMissing, match="the teacher gave no logits"):
        loss(student, Signals(features=teacher.features), LABELS)
    for function in BOTH:
        with pytest.raises(ShapeMismatch, match="must have the same shape here"):
            function(torch.zeros(2, 3), torch.zeros(2, 4), LABELS[:2], temperature=1.0, epsilon=1.0)


def test_defaults_and_bounds():
    loss = OFA()
    assert (loss.temperature, loss.epsilon, loss.logit_weight, loss.exit_weight) == (1.0, (1.5,), 1.0, 1.0)
    with pytest.raises(ValueError, match=r"^OFA\.temperature must be > 0, got 0$"):
        OFA(temperature=0)
    for name in ("logit_weight", "exit_weight"):
        with pytest.raises(ValueError, match=rf"^OFA\.{name} must be >= 0, got -1$"):
            OFA(**{name: -1})  # pyright: ignore[reportArgumentType]


def test_needs():
    needs = OFA().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (True, True, True, "many", "any")
    assert (needs.label_kinds, needs.global_batch) == (("class",), False)


def test_golden():
    check_parity("ofa", "ofa__loss", "ofa__total")
