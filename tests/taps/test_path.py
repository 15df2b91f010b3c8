"""The grammar of taps."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch

from limbeck.errors import TapError
from limbeck.taps.path import Tap, parse_tap, pick


@pytest.mark.parametrize(
    ("text", "tap"),
    [
        ("layer1", Tap("layer1")),
        (".", Tap("")),
        ("", Tap("")),
        ("layer1.0.bn2", Tap("layer1.0.bn2")),
        ("layer1:input", Tap("layer1", "input")),
        ("layer1:output", Tap("layer1")),
        ("enc:output.0", Tap("enc", "output", (0,))),
        ("enc:output.-1", Tap("enc", "output", (-1,))),
        (".:output.hidden_states.3", Tap("", "output", ("hidden_states", 3))),
        ("block@1", Tap("block", call=1)),
        ("a.b:input.x.2@10", Tap("a.b", "input", ("x", 2), 10)),
    ],
)
def test_reads(text: str, tap: Tap) -> None:
    assert parse_tap(text) == tap


@pytest.mark.parametrize("text", ["layer1", ".", "layer1:input", "enc:output.0", "a.b:input.x.2@10", ".:output.logits", "a@0"])
def test_prints_what_it_read(text: str) -> None:
    assert str(parse_tap(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer@x", "after '@' stands which call"),
        ("layer@-1", "after '@' stands which call"),
        ("layer@", "after '@' stands which call"),
        ("layer:outptu", "got 'outptu'. Did you mean 'output'?"),
        ("layer:0", "got '0'"),
        ("layer:", "stands input or output"),
        ("layer:output.", "cannot be read"),
        ("layer 1", "cannot be read"),
        ("a:b:c", "got 'b:c'"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(TapError) as caught:
        parse_tap(text)
    assert message in str(caught.value)
    assert repr(text) in str(caught.value)


@dataclass
class Out:
    hidden: object
    logits: object


Pair = namedtuple("Pair", "left right")


def test_picks_from_every_kind_of_container() -> None:
    t = torch.zeros(2)
    assert pick((1, t), [1], "x") is t
    assert pick([1, t], [-1], "x") is t
    assert pick({"a": {"b": t}}, ["a", "b"], "x") is t
    assert pick({"a": t}, [0], "x") is t
    assert pick({7: t}, [7], "x") is t
    assert pick(Out((1, t), 3), ["hidden", 1], "x") is t
    assert pick(Pair(1, t), ["right"], "x") is t
    assert pick(Pair(1, t), [1], "x") is t


@pytest.mark.parametrize(
    ("value", "keys", "message"),
    [
        ((1, 2), [2], "there is no 2 in a tuple with 0: int, 1: int"),
        ({"hidden": 1}, ["hiden"], "Did you mean 'hidden'?"),
        (Out(1, 2), ["logit"], "Did you mean 'logits'?"),
        (torch.zeros(2, 3), [0], "a Tensor of shape (2, 3)"),
        (3, ["x"], "a int"),
    ],
)
def test_a_key_that_is_not_there(value: object, keys: list[int | str], message: str) -> None:
    with pytest.raises(TapError) as caught:
        pick(value, keys, "layer:output")
    assert message in str(caught.value)
