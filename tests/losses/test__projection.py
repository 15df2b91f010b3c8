"""1x1 convolutions of losses: where they are made, what they do, messages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.errors import SignalMissing
from limbeck.losses._projection import Projections
from limbeck.types import Signals


def signals(*channels, dtype=torch.float32):
    return Signals.of(*(torch.randn(2, c, 2, 3, generator=torch.Generator().manual_seed(c)).to(dtype) for c in channels))


def test_only_layers_of_other_widths_get_one():
    student, teacher = signals(3, 4), signals(5, 4)
    projections = Projections(rectified=True)
    projections.setup(student, teacher)
    assert isinstance(projections[1], nn.Identity)
    assert [tuple(p.shape) for p in projections.parameters()] == [(5, 3, 1, 1), (5,)]
    (s, t), (same, _) = projections(student, teacher)
    assert s.shape == t.shape == (2, 5, 2, 3)
    assert same is student.features["1"]
    weight, bias = projections.parameters()
    mapped = torch.einsum("oc,bchw->bohw", weight[:, :, 0, 0], student.features["0"]) + bias[:, None, None]
    torch.testing.assert_close(s, mapped.relu())


def test_tokens_have_their_channels_last():
    student, teacher = (Signals.of(torch.ones(2, 4, channels)) for channels in (3, 5))
    projections = Projections(rectified=True)
    projections.setup(student, teacher)
    assert [tuple(p.shape) for p in projections.parameters()] == [(5, 3, 1, 1), (5,)]
    ((s, t),) = projections(student, teacher)
    assert s.shape == t.shape == (2, 5, 2, 2)


def test_without_relu():
    projections = Projections(rectified=False)
    projections.setup(signals(3), signals(9))
    ((s, _),) = projections(signals(3), signals(9))
    assert (s < 0).any()
    assert isinstance(projections[0], nn.Conv2d)


def test_half_precision_and_autocast_learn_in_float32():
    projections = Projections(rectified=False)
    student, teacher = signals(3, dtype=torch.bfloat16), signals(4, dtype=torch.bfloat16)
    projections.setup(student, teacher)
    assert {p.dtype for p in projections.parameters()} == {torch.float32}
    ((expected, _),) = projections(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ((s, _),) = projections(student, teacher)
    assert torch.equal(s, expected)
    assert s.dtype == torch.float32


def test_is_the_identity_before_setup_and_counts_layers():
    projections = Projections(rectified=True)
    student = signals(3, 3)
    assert [s is x for (s, _), x in zip(projections(student, student), student.features.values(), strict=True)] == [True, True]
    projections.setup(student, student)
    with pytest.raises(SignalMissing, match=r"^the loss was set up for 2 layers, found 1; name the same layers\.$"):
        projections(signals(3), signals(3))


def test_meta_device():
    projections = Projections(rectified=True)
    projections.setup(*(Signals.of(x.features["0"].to("meta")) for x in (signals(3), signals(4))))
    assert {p.device.type for p in projections.parameters()} == {"meta"}
