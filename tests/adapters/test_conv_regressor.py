"""The convolutional regressor: kernels by the sizes, an oracle, what does not fit, golden numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.losses.parity import check_parity

from limbeck.adapters.conv_regressor import ConvRegressor
from limbeck.adapters.pick import pick
from limbeck.errors import ShapeMismatch


def features(student, teacher, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(dtype) for shape in (student, teacher))


@pytest.mark.parametrize(
    ("student", "teacher", "kernel"),
    [
        ((3, 8, 6), (5, 4, 3), (3, 3)),
        ((3, 8, 5), (5, 4, 3), (3, 3)),
        ((3, 4, 3), (5, 8, 6), (4, 4)),
        ((3, 8, 6), (5, 8, 6), (1, 1)),
        ((3, 8, 6), (5, 6, 5), (3, 2)),
        ((3, 8, 6), (5, 8, 5), (1, 2)),
        ((3, 8, 6), (5, 4, 6), (5, 1)),
    ],
)
def test_the_kernel_makes_the_sizes_agree(student, teacher, kernel):
    s, t = features(student, teacher)
    adapter = pick(s, t, "full", "conv_regressor")
    ours, theirs = adapter(s, t)
    assert ours.shape == theirs.shape == t.shape
    assert tuple(adapter.project.weight.shape[2:]) == kernel
    assert adapter.describe() == {"kind": "conv_regressor", "student": list(student), "teacher": list(teacher)}
    for other in (s.double(), s.to("meta"), s.bfloat16()):
        adapter.setup(other, t)
        dtype = torch.float64 if other.dtype == torch.float64 else torch.float32
        assert all((p.dtype, p.device) == (dtype, other.device) for p in adapter.parameters())


def test_oracle():
    s, t = features((3, 8, 8), (5, 6, 6), torch.float64)
    adapter = ConvRegressor()
    adapter.setup(s, t)
    with torch.no_grad():
        adapter.norm.weight.uniform_(0.5, 2)
        adapter.norm.bias.uniform_(-1, 1)
    plain = F.conv2d(s, adapter.project.weight, adapter.project.bias)
    mean, var = plain.mean((0, 2, 3), keepdim=True), plain.var((0, 2, 3), correction=0, keepdim=True)
    expected = (plain - mean) / (var + 1e-5).sqrt() * adapter.norm.weight[:, None, None] + adapter.norm.bias[:, None, None]
    torch.testing.assert_close(adapter(s, t)[0], expected.clamp_min(0))
    assert adapter(s, t.requires_grad_())[1].requires_grad is False
    bare = ConvRegressor(bias=False, batch_norm=False, relu=False)
    bare.setup(s, t)
    torch.testing.assert_close(bare(s, t)[0], F.conv2d(s, bare.project.weight))
    assert [name for name, _ in bare.named_parameters()] == ["project.weight"]


@pytest.mark.parametrize(
    ("student", "teacher", "bias"), [((3, 8, 8), (5, 4, 4), True), ((3, 4, 4), (5, 8, 8), True), ((3, 4, 4), (5, 4, 4), True)]
)
def test_offsets_may_be_left_out(student, teacher, bias):
    s, t = features(student, teacher)
    for wanted in (bias, False):
        adapter = ConvRegressor(bias=wanted)
        adapter.setup(s, t)
        assert (adapter.project.bias is not None) is wanted


def test_half_precision_and_defaults():
    s, t = features((3, 4, 4), (5, 4, 4), torch.bfloat16)
    adapter = ConvRegressor()
    assert (adapter.bias, adapter.batch_norm, adapter.relu) == (True, True, True)
    adapter.setup(s, t)
    assert adapter(s, t)[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("student", "teacher"), [((3, 4, 4), (5, 6, 6)), ((3, 4, 4), (5, 8, 6)), ((3, 4, 6), (5, 6, 4)), ((3, 6, 4), (5, 4, 6))]
)
def test_what_does_not_fit(student, teacher):
    s, t = features(student, teacher)
    text = (
        rf"^adapter 'conv_regressor' makes maps smaller, or twice as large; the student's feature is map \(2, {student[0]}, {student[1]}, "
        rf"{student[2]}\), the teacher's map \(2, {teacher[0]}, {teacher[1]}, {teacher[2]}\)\. "
        r"Use adapter: \{kind: conv1x1\}, which resizes\.$"
    )
    with pytest.raises(ShapeMismatch, match=text):
        ConvRegressor().setup(s, t)


def test_never_picked_on_its_own():
    assert not any(
        ConvRegressor.suits(*features((3, 4, 4), shape), match) for shape in ((5, 4, 4), (3, 8, 8)) for match in ("any", "space", "full")
    )


def test_golden():
    check_parity("fitnets")
