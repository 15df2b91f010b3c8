"""Top-k distillation: what it equals, its factor, defaults."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.kd import KD
from limbeck.losses.topk_kd import TopkKD
from limbeck.ops.divergence import log_softmax
from limbeck.ops.topk import topk_divergence
from limbeck.types import Signals


@pytest.mark.parametrize("divergence", ["forward", "reverse", "symmetric", "js", "tv", "skew_forward", "skew_reverse"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_of_all_classes_it_is_kd(draw, divergence, temperature):
    student, teacher = (Signals(x) for x in draw(4, 6))
    got = TopkKD(divergence=divergence, temperature=temperature, mixture=0.2, skew=0.3)(student, teacher)
    expected = KD(divergence=divergence, temperature=temperature, mixture=0.2, skew=0.3)(student, teacher)
    torch.testing.assert_close(got, expected)


def test_the_likeliest_classes_of_the_teacher(draw):
    student, teacher = draw(4, 6)
    log_p, index = log_softmax(teacher / 2).topk(2)
    for rest in ("tail", "teacher", "renormalised", "zero", "partial"):
        expected = 4 * topk_divergence(log_p, index, student / 2, rest=rest, kind="forward", weight=0)
        torch.testing.assert_close(TopkKD(top=2, rest=rest, temperature=2.0)(Signals(student), Signals(teacher)), expected)


def test_tokens_and_half_precision(draw):
    student, teacher = (x.bfloat16() for x in draw(2, 3, 5))
    for top in (2, 5):  # fewer than there are positions, and more
        got = TopkKD(top=top, temperature=3.0)(Signals(student), Signals(teacher))
        assert got.shape == (2, 3)
        assert got.dtype == torch.float32
        flat = TopkKD(top=top, temperature=3.0)(Signals(student.flatten(0, 1).float()), Signals(teacher.flatten(0, 1).float()))
        torch.testing.assert_close(got, flat.view(2, 3), rtol=1e-6, atol=0)


def test_defaults_and_bounds():
    loss = TopkKD()
    assert (loss.temperature, loss.top, loss.rest, loss.divergence, loss.mixture, loss.skew) == (1.0, 64, "tail", "forward", 0.5, 0.1)
    assert TopkKD(skew=0).skew == 0
    for name, value, bound in (
        ("temperature", 0, "> 0"),
        ("top", 0, "> 0"),
        ("mixture", 0, "> 0"),
        ("mixture", 1, "< 1"),
        ("skew", -0.1, ">= 0"),
        ("skew", 1, "< 1"),
    ):
        arguments: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=rf"^TopkKD\.{name} must be {bound}, got {value}$"):
            TopkKD(**arguments)


def test_needs():
    needs = TopkKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, False, True, "none", ("class",))


def test_golden():
    check_parity("distillkit_kl_topk", "distillkit_jsd_topk", "distillkit_tvd_topk", "axolotl_kd_topk")
