"""The moving average under the rules of several papers, against loops that state each rule."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from limbeck.teachers.base import Setting, TeacherRequest
from limbeck.teachers.ema import EMATeacher, momentum_at
from limbeck.types import Signals
from tests.losses.parity import check_parity

REQUEST = TeacherRequest((), True, torch.device("cpu"))


class Number(nn.Module):
    """One weight and one statistic."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))
        self.statistic = nn.Buffer(torch.tensor(value, dtype=torch.float64))


def opened(*, updates: int = 0, epochs: int = 0, **fields) -> EMATeacher:
    teacher = EMATeacher(**fields)
    teacher.open(Setting(REQUEST, lambda model, batch: Signals(), learner=Number(), updates=updates, epochs=epochs))
    return teacher


def follow(teacher: EMATeacher, values, *, epochs: bool = False) -> list[float]:
    learner, path = Number(), []
    for value in values:
        learner.value.data.fill_(value)
        teacher.after_epoch(learner, False) if epochs else teacher.after_step(learner)
        path.append(teacher.state()["value"].item())
    return path


def kept(teacher: EMATeacher, moves: int) -> list[float | None]:
    found = []
    for _ in range(moves):
        found.append(teacher.keep())
        teacher.after_step(Number())
    return found


def test_debiased_average_is_the_weighted_mean_of_what_was_seen():
    values = [3.0, -1.0, 4.0, 1.0, -5.0]
    path = follow(opened(momentum=0.8, schedule="debias"), values)
    for n, found in enumerate(path, 1):
        shares = [0.8 ** (n - j) for j in range(1, n + 1)]
        assert found == pytest.approx(sum(s * v for s, v in zip(shares, values, strict=False)) / sum(shares))


def test_debiased_average_that_forgets_nothing_is_the_mean():
    assert follow(opened(momentum=1.0, schedule="debias"), [3.0, 5.0, 1.0]) == pytest.approx([3.0, 4.0, 3.0])
    assert follow(opened(momentum=0.0, schedule="debias"), [3.0, 5.0]) == [3.0, 5.0]


def test_becoming_slower_once():
    """1 - m is 0.4 up to and with update 1, then 0.2, after update 3 0.1."""
    found = kept(opened(momentum=0.6, decay_at=[3, 1], decay_factor=0.5), 7)
    assert found == pytest.approx([0.6, 0.6, 0.8, 0.8, 0.9, 0.9, 0.9])


def test_becoming_slower_again_and_again():
    found = kept(opened(momentum=0.6, decay_at=[1, 3], decay_factor=0.5, variant="official"), 6)
    assert found == pytest.approx([1 - 0.4 * 0.5**n for n in (0, 0, 1, 2, 4, 6)])


def test_what_is_skipped_still_counts():
    found = kept(opened(momentum=0.5, every=3, decay_at=[1], decay_factor=0.5), 7)
    assert found == [0.5, None, None, pytest.approx(0.75), None, None, pytest.approx(0.75)]


@pytest.mark.parametrize("start", [0, 4])
def test_consistent_teacher_oracle(start):
    momentum, intervals = 0.9, [2, 5]
    teacher = opened(momentum=0.9, every=2, schedule="ramp", warmup=3, decay_at=intervals, decay_factor=0.3, variant="official")
    teacher.load_state({**teacher.state(), "ema.count": torch.tensor(start)})
    expected: list[float | None] = []
    for i in range(start, start + 9):
        expected.append(min(momentum, 1 - 4 / (i + 4)) if i % 2 == 0 else None)
        momentum = 1 - (1 - momentum) * 0.3 ** sum(i >= at for at in intervals)
    found = kept(teacher, 9)
    assert [x is None for x in found] == [x is None for x in expected]
    assert [x for x in found if x is not None] == pytest.approx([x for x in expected if x is not None])


def test_a_linear_ramp_over_its_own_length():
    found = kept(opened(momentum=0.5, end=0.9, schedule="linear", over=4, updates=100), 7)
    assert found == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9])
    assert kept(opened(momentum=0.5, end=0.9, schedule="linear", updates=4), 3) == pytest.approx([0.5, 0.6, 0.7])


def test_the_cosine_ends_or_turns_back():
    at = {i: 1 - 0.1 * (1 + math.cos(math.pi * i / 4)) / 2 for i in range(8)}
    ends = kept(opened(momentum=0.9, schedule="cosine", over=4), 7)
    turns = kept(opened(momentum=0.9, schedule="cosine", over=4, variant="official"), 7)
    assert ends == pytest.approx([at[0], at[1], at[2], at[3], 1, 1, 1])
    assert turns == pytest.approx([at[i] for i in range(7)])
    assert momentum_at(9, 4, momentum=0.9, end=1.0, schedule="linear", warmup=0, returns=True) == 1.0


def test_epochs_have_a_length_of_their_own():
    teacher = opened(momentum=0.0, end=1.0, schedule="linear", per="epoch", updates=100, epochs=2)
    assert follow(teacher, [2.0]) == [0.0]
    assert follow(teacher, [2.0, 2.0], epochs=True) == [2.0, 2.0]
    assert follow(teacher, [6.0], epochs=True) == [2.0]
    assert opened(momentum=0.0, end=1.0, schedule="linear", updates=2, epochs=9).per == "update"


def test_goes_on_where_it_stopped():
    fields = {"momentum": 0.9, "every": 2, "schedule": "ramp", "decay_at": [1, 2], "decay_factor": 0.5, "variant": "official"}
    whole, first = opened(**fields), opened(**fields)
    expected = follow(whole, range(9))
    follow(first, range(4))
    second = opened(**fields)
    second.load_state(copy.deepcopy(first.state()))
    assert follow(second, range(4, 9)) == expected[4:]


def test_defaults():
    teacher = EMATeacher()
    found = (teacher.momentum, teacher.schedule, teacher.end, teacher.over, teacher.warmup, teacher.decay_at, teacher.decay_factor)
    assert found == (0.999, "constant", 1.0, None, 0.0, (), 0.1)
    assert (teacher.every, teacher.per, teacher.buffers, teacher.variant) == (1, "update", "copy", "paper")


@pytest.mark.parametrize("method", ["consistent_teacher__ema", "geodistill_ema", "gkt_dp__weight_interpolation", "hssda__ema", "obow__ema"])
def test_golden(method):
    check_parity(f"../teachers/{method}")


def test_golden_partition():
    check_parity("../teachers/gkt_dp", "../teachers/gkt_dp__multi_teacher")
