"""Labels that training does not see, and labels that are wrong on purpose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from limbeck.data.base import DataRequest
from limbeck.data.hiding import hidden_labels, wrong_labels
from limbeck.data.load import data_info, load_data
from limbeck.errors import DataError
from limbeck.types import IGNORE, labelled


def test_what_is_not_kept_is_hidden():
    rows, kept = np.array([0, 1, 3]), np.array([1])
    assert hidden_labels(torch.tensor([4, 5, 6, 7]), rows, kept, "class").tolist() == [IGNORE, 5, 6, IGNORE]
    joint = hidden_labels(torch.tensor([[0.0, 4.0], [1.0, 5.0]]), np.array([0, 1]), np.array([0]), "joint")
    assert joint[0].tolist() == [0.0, 4.0]
    assert joint[1, 0] == 1.0
    assert joint[1, 1].isnan()


def test_wrong_labels_are_other_classes_each_equally_often():
    values = torch.zeros(6000, dtype=torch.int64) + 2
    rows = np.arange(1000, 6000)
    changed, note = wrong_labels(values, rows, 0.4, 4, 0)
    assert changed[:1000].tolist() == [2] * 1000
    wrong = changed[1000:][changed[1000:] != 2]
    assert abs(len(wrong) / 5000 - 0.4) < 0.03
    assert note == f"{len(wrong)} of 5000 training labels are wrong on purpose (data.wrong)."
    counts = torch.bincount(wrong, minlength=4)
    assert counts[2] == 0
    assert all(abs(count / len(wrong) - 1 / 3) < 0.04 for count in counts[[0, 1, 3]].tolist())
    assert values.tolist() == [2] * 6000
    assert wrong_labels(values, rows, 0.4, 4, 0)[0].equal(changed)
    assert not wrong_labels(values, rows, 0.4, 4, 1)[0].equal(changed)


def test_more_noise_keeps_what_was_wrong():
    values, rows = torch.arange(300) % 3, np.arange(300)
    some, more = (wrong_labels(values, rows, share, 3, 0)[0] for share in (0.2, 0.6))
    where = some != values
    assert where.any()
    assert more[where].equal(some[where])
    assert wrong_labels(values, rows, 1.0, 3, 0)[0].eq(values).sum() == 0


def test_only_labels_of_training_are_wrong():
    clean = load_data(DataRequest("sklearn:digits", label_fraction=0.5), kind="image", labels="class")
    noisy = load_data(DataRequest("sklearn:digits", label_fraction=0.5, wrong=0.5), kind="image", labels="class")
    assert noisy.test.labels.equal(clean.test.labels)
    assert noisy.valid is not None
    assert clean.valid is not None
    assert noisy.valid.labels.equal(clean.valid.labels)
    known = labelled(clean.train.labels)
    assert labelled(noisy.train.labels).equal(known)
    share = (noisy.train.labels != clean.train.labels)[known].double().mean().item()
    assert abs(share - 0.5) < 0.06
    assert noisy.notes[-1].endswith("training labels are wrong on purpose (data.wrong).")


def test_numbers_have_no_other_class():
    asked = DataRequest("sklearn:diabetes", wrong=0.1)
    with pytest.raises(DataError, match=r"^data\.wrong is for labels that are classes\. Remove it\.$"):
        data_info(asked, kind="tabular", labels="real")
    with pytest.raises(DataError, match=r"data\.wrong is not for language models\. Remove it\."):
        load_data(DataRequest("jsonl:x", tokenizer="characters", wrong=0.1), kind="text", labels="token", language="causal_lm")
