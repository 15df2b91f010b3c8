"""The average that is evaluated and exported: how it moves, when it begins."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck import assemble
from limbeck.config.train_schema import EMASpec
from limbeck.engine.ema import EMA
from limbeck.engine.stage import Plan
from tests.runs import SMALL, distill


def path(values, **fields):
    """The average of one weight, which begins at 0, after each value."""
    model = nn.Linear(1, 1, bias=False).double()
    model.weight.data.zero_()
    average, found = EMA(model, fields.pop("decay", 0.5), **fields), []
    for value in values:
        model.weight.data.fill_(value)
        average.update()
        found.append(average.average["weight"].item())
    return found


def test_the_decay_is_warmed_up_or_not():
    assert path([1.0, 1.0], decay=0.9) == pytest.approx([1 - 2 / 11, 1 - 2 / 11 * 3 / 12])
    assert path([1.0, 1.0], decay=0.9, warmup=False) == pytest.approx([0.1, 0.19])
    assert path([1.0], decay=0.1) == pytest.approx([0.9])


def test_every_few_updates():
    assert path([1.0, 9.0, 3.0, 9.0], every=2, warmup=False) == pytest.approx([0.5, 0.5, 1.75, 1.75])


def test_the_mean_of_what_came_since_the_beginning():
    assert path([8.0, 2.0, 4.0, 9.0], mean=True) == pytest.approx([8.0, 5.0, 14 / 3, 23 / 4])
    assert path([8.0, 2.0, 4.0, 9.0], mean=True, begin=2) == pytest.approx([8.0, 2.0, 4.0, 6.5])
    assert path([8.0, 2.0, 4.0, 9.0, 6.0], mean=True, begin=1, every=2) == pytest.approx([8.0, 2.0, 2.0, 5.5, 5.5])


def test_from_a_recipe():
    model = nn.Linear(1, 1)
    assert assemble.average(model, None, 10) is None
    made = assemble.average(model, EMASpec(decay=0.7, rule="mean", every=3, begin=0.25, warmup=False), 20)
    assert made is not None
    assert (made.decay, made.mean, made.every, made.begin, made.warmup) == (0.7, True, 3, 5, False)
    plain = assemble.average(model, EMASpec(), 20)
    assert plain is not None
    assert (plain.decay, plain.mean, plain.every, plain.begin, plain.warmup) == (0.999, False, 1, 0, True)


def test_length():
    assert assemble.length(Plan("a", "b", epochs=3, batch_size=10), 95) == (27, 3)
    assert assemble.length(Plan("a", "b", epochs=3, steps=11, batch_size=10), 95) == (11, 2)


def test_in_a_run(tmp_path):
    """Averaging that begins at the end is the student itself."""
    train = {**SMALL["train"], "select": "last"}
    plain = distill({**SMALL, "train": train}, out=tmp_path / "plain", device="cpu").student.state_dict()
    late = distill({**SMALL, "train": {**train, "ema": {"rule": "mean", "begin": 1.0}}}, out=tmp_path / "late", device="cpu")
    assert all(torch.equal(value, plain[name]) for name, value in late.student.state_dict().items())
