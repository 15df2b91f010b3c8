"""MIX-KD's loss is no loss of its own: its temperature, the deviation of the logits, is logit standardization."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from tests.losses.parity import check_parity

from limbeck.losses.kd import KD
from limbeck.targets.logit_standardization import LogitStandardization
from limbeck.types import Signals


def test_the_deviation_as_temperature_is_standardization(draw):
    student, teacher = draw(4, 6)
    got = KD(temperature=1.0)(*LogitStandardization(variant="official")(Signals(student), Signals(teacher)))
    ours, theirs = (x / x.std(-1, keepdim=True) for x in (student, teacher))
    expected = F.kl_div(ours.log_softmax(-1), theirs.softmax(-1), reduction="none").sum(-1)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_golden():
    check_parity("mix_kd_loss")
