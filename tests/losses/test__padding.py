"""What stands at the padding of texts is never read, and no mean counts it."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.padded import MASK, check_padding

from limbeck.errors import ShapeMismatch
from limbeck.losses._padding import kept_keys, kept_mean, kept_tokens, leaving_out, pair_mean, query_mean, without_padding
from limbeck.losses.attention_relation import AttentionRelation
from limbeck.losses.cosine import Cosine
from limbeck.losses.hidden_states import HiddenStates
from limbeck.losses.hint import Hint
from limbeck.losses.mse import MSE
from limbeck.losses.token_relation import TokenRelation
from limbeck.types import PADDING, Signals

LOSSES = [
    MSE(),
    Hint(),
    Cosine(),
    TokenRelation(),
    TokenRelation(normalise=True),
    HiddenStates(),
    HiddenStates(form="cosine"),
    HiddenStates(form="direction"),
    HiddenStates(tokens="first"),
    AttentionRelation(heads=2),
    AttentionRelation(heads=3, form="mse"),
]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_padding_changes_nothing(draw, loss):
    check_padding(loss, *draw(2, 4, 6))


def test_masks():
    tokens, signals = torch.ones(2, 4, 3), Signals(extra={PADDING: MASK})
    kept = kept_tokens(signals, tokens)
    assert kept is not None
    assert kept.tolist() == [[True, True, False, False], [True] * 4]
    assert kept_tokens(Signals(), tokens) is None
    assert kept_tokens(signals, torch.ones(2, 3)) is None
    assert kept_keys(signals, tokens) is None
    assert kept_keys(signals, torch.ones(2, 5, 4, 4)) is not None
    assert kept_keys(signals, torch.ones(2, 1, 4, 4)) is not None
    assert kept_keys(Signals(), torch.ones(2, 5, 4, 4)) is None
    with pytest.raises(ShapeMismatch) as error:
        kept_tokens(signals, torch.ones(2, 5, 3))
    assert str(error.value) == (
        "the texts have 4 tokens and the layer 5, so it is not known which of them are padding; "
        "tap a layer that has one value a token, or one vector a text."
    )


def test_means_by_hand():
    kept = MASK.bool()
    values = torch.tensor([[1.0, 3.0, math.inf, math.nan], [1.0, 2.0, 3.0, 6.0]])
    assert kept_mean(values, kept).tolist() == [2, 3]
    assert kept_mean(values[1:], None).tolist() == [3]
    assert without_padding(values, kept).tolist() == [[2, 6, 0, 0], [1, 2, 3, 6]]
    assert without_padding(values[1:, :, None], kept[1:]).shape == (1, 4, 1)
    assert query_mean(torch.stack([values, values + 2], 1), kept).tolist() == [3, 4]
    assert query_mean(values, kept).tolist() == [2, 3]
    pairs = torch.arange(32.0).view(2, 4, 4)
    assert pair_mean(pairs, kept).tolist() == [2.5, 23.5]
    assert pair_mean(pairs, None).tolist() == [7.5, 23.5]
    assert pair_mean(torch.stack([pairs, pairs + 2], 1), kept).tolist() == [3.5, 24.5]


def test_a_text_of_one_token_is_that_token():
    kept = torch.tensor([[True, False]])
    assert without_padding(torch.tensor([[5.0, 7.0]]), kept).tolist() == [[10, 0]]
    assert pair_mean(torch.tensor([[[5.0, 7.0], [8.0, 9.0]]]), kept).tolist() == [5]


def test_a_text_without_tokens_counts_nothing():
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    assert kept_mean(torch.ones(1, 2), nothing).tolist() == [0]
    assert pair_mean(torch.ones(1, 2, 2), nothing).tolist() == [0]
    assert leaving_out(torch.ones(1, 1, 2, 2), nothing).isfinite().all()
    scores = leaving_out(torch.ones(2, 1, 4, 4), MASK.bool())
    assert (scores[0, 0] == -math.inf).tolist() == [[False, False, True, True]] * 4
