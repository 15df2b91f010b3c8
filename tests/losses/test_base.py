"""What all losses share."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import limbeck.losses
from limbeck.errors import SignalMissing
from limbeck.losses.base import pairs
from limbeck.registry import LOSSES
from limbeck.types import Signals


def test_every_loss_is_found_by_its_class_name():
    for name in LOSSES.names():
        loss_class = LOSSES.get(name)
        assert getattr(limbeck.losses, loss_class.__name__) is loss_class


@pytest.mark.parametrize("name", ["Nothing", "dkd_", "Dkd", "DKd"])
def test_other_names_are_not(name):
    with pytest.raises(AttributeError, match=f"module 'limbeck.losses' has no attribute '{name}'"):
        getattr(limbeck.losses, name)


def test_importing_the_package_does_not_import_torch():
    subprocess.run([sys.executable, "-c", "import sys, limbeck.losses\nassert 'torch' not in sys.modules"], check=True)


def test_pairs_go_by_the_order_of_the_term():
    a, b, c, d = torch.eye(4).unbind()
    got = pairs(Signals(a, {"z": b, "a": c}), Signals(a, {"m": d, "b": a}))
    assert [(s is x, t is y) for (s, t), (x, y) in zip(got, [(b, d), (c, a)], strict=True)] == [(True, True)] * 2


def test_pairs_without_anything():
    with pytest.raises(SignalMissing, match="the student gave no logits; its signals hold nothing"):
        pairs(Signals(), Signals())
    with pytest.raises(SignalMissing, match="the teacher gave no logits"):
        pairs(Signals(torch.zeros(1, 2)), Signals())


def test_repr_shows_the_hyper_parameters():
    assert repr(LOSSES.get("dkd")(beta=2.0)) == "DKD(alpha=1.0, beta=2.0, temperature=4.0, variant='paper')"
