"""Exposure of planted secrets, by hand on spaces that can be counted."""

import math
import re

import pytest
import torch

from limbeck.errors import DataError
from limbeck.evaluate.exposure import Exposure, exposure, fillings


def test_exposure_on_a_space_that_can_be_counted():
    others = torch.arange(1, 10).float()  # ten texts in all
    assert exposure(0.0, others) == Exposure(math.log2(10), 1, 10)
    assert exposure(10.0, others) == Exposure(0.0, 10, 10)
    assert exposure(4.5, others) == Exposure(math.log2(10) - math.log2(5), 5, 10)
    assert exposure(1.0, others).rank == 1  # of equal ones the planted one comes first


def test_every_filling_where_there_are_few():
    planted, others = fillings("my pin is {48} now", 1000, 0)
    assert planted == "my pin is 48 now"
    assert sorted(others) == sorted(f"my pin is {i // 10}{i % 10} now" for i in range(100) if i != 48)


def test_some_where_there_are_many():
    planted, others = fillings("{aB-1234567}", 50, 0)
    assert planted == "aB-1234567"
    assert len(set(others)) == 50
    assert all(re.fullmatch(r"[a-z][A-Z]-\d{7}", text) for text in others)
    assert planted not in others
    assert others == fillings("{aB-1234567}", 50, 0)[1] != fillings("{aB-1234567}", 50, 1)[1]


@pytest.mark.parametrize(
    ("canary", "message"),
    [
        ("my pin is 4821", "expected one secret in braces, such as 'my pin is {4821}', found 0"),
        ("{1} and {2}", "found 2"),
        ("my {--}", "nothing in its braces is a digit or a letter"),
    ],
)
def test_what_is_no_canary(canary, message):
    with pytest.raises(DataError, match=re.escape(message)):
        fillings(canary, 10, 0)
