"""Prompts and replies beside what a teacher said: where each row stands."""

from __future__ import annotations

import pytest
import torch

from limbeck.data.replies import align_replies
from limbeck.errors import LimbeckError
from limbeck.types import IGNORE


def test_every_row_stands_where_its_token_is_predicted():
    prompts = [torch.tensor([1, 2, 3]), torch.tensor([4])]
    replies = [torch.tensor([5, 6]), torch.tensor([7, 8, 9])]
    rows = [torch.tensor([[0.5, 1.5], [2.5, 3.5]]), torch.tensor([[4.0, 5.0], [6.0, 7.0], [8.0, 9.0]])]
    found = align_replies(prompts, replies, rows, max_length=10, pad=99)
    assert found.input_ids.tolist() == [[1, 2, 3, 5, 6], [4, 7, 8, 9, 99]]
    assert found.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert found.labels.tolist() == [[IGNORE, IGNORE, 5, 6, IGNORE], [7, 8, 9, IGNORE, IGNORE]]
    assert found.teacher_logits[0].tolist() == [[0, 0], [0, 0], [0.5, 1.5], [2.5, 3.5], [0, 0]]
    assert found.teacher_logits[1].tolist() == [[4, 5], [6, 7], [8, 9], [0, 0], [0, 0]]


def test_what_is_too_long_loses_the_beginning_of_its_prompt():
    found = align_replies([torch.tensor([1, 2, 3])], [torch.tensor([5, 6])], [torch.ones(2, 4)], max_length=4, pad=0)
    assert found.input_ids.tolist() == [[2, 3, 5, 6]]
    assert found.labels.tolist() == [[IGNORE, 5, 6, IGNORE]]


def test_a_reply_that_is_too_long_loses_its_end():
    rows = torch.arange(8.0).reshape(4, 2)
    found = align_replies([torch.tensor([1, 2])], [torch.tensor([5, 6, 7, 8])], [rows], max_length=3, pad=0)
    assert found.input_ids.tolist() == [[2, 5, 6]]
    assert found.labels.tolist() == [[5, 6, IGNORE]]
    assert found.teacher_logits[0].tolist() == [[0, 1], [2, 3], [0, 0]]
    shortest = align_replies([torch.tensor([1, 2])], [torch.tensor([5, 6])], [rows[:2]], max_length=2, pad=0)
    assert shortest.input_ids.tolist() == [[2, 5]]


def test_user_mistakes():
    prompt, reply = torch.tensor([1]), torch.tensor([2, 3])
    with pytest.raises(LimbeckError, match=r"^max_length must leave room .*, 2 or more; found 1\.$"):
        align_replies([prompt], [reply], [torch.ones(2, 4)], max_length=1, pad=0)
    text = (
        r"^example 1: expected a prompt and one row of the teacher for each of 2 tokens of the reply, found a prompt of 1 and 3 rows; label"
    )
    with pytest.raises(LimbeckError, match=text):
        align_replies([prompt, prompt], [reply, reply], [torch.ones(2, 4), torch.ones(3, 4)], max_length=9, pad=0)
    with pytest.raises(LimbeckError, match=r"^example 0: .* found a prompt of 0 and 2 rows"):
        align_replies([prompt[:0]], [reply], [torch.ones(2, 4)], max_length=9, pad=0)
