"""What `sklearn:digits` can be asked for: a canvas, quarter turns, images that are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from limbeck.data.base import DataRequest
from limbeck.data.load import load_data
from limbeck.errors import DataError


def train(**args):
    return load_data(DataRequest("sklearn:digits", args=args), kind=None, labels="class")


def images(splits):
    examples = splits.train
    return examples.__getitems__(list(range(len(examples)))).inputs


def test_the_middle_of_a_canvas_is_the_digit():
    plain, wide = images(train()), images(train(canvas=17))
    assert wide.shape[1:] == (1, 17, 17)
    assert torch.equal(wide[:, :, 4:12, 4:12], plain)
    assert float(wide.sum()) == pytest.approx(float(plain.sum()))
    assert train(canvas=17).info.input_shape == (1, 17, 17)


def test_forty_classes_of_turned_digits():
    splits = train(turned=True)
    assert len(splits.info.class_names) == 40
    assert splits.info.class_names[4 * 3 + 1] == "3r1"
    examples = splits.train
    assert len(examples) + len(splits.valid or ()) + len(splits.test) == 4 * 1797
    first = {}
    for place in range(len(examples)):
        row = int(examples.rows[place])
        first.setdefault(row % 1797, {})[row // 1797] = place
    turns = next(found for found in first.values() if len(found) == 4)
    batch = examples.__getitems__([turns[i] for i in range(4)])
    for i in range(4):
        assert torch.equal(batch.inputs[i], torch.rot90(batch.inputs[0], i, (1, 2)))
    assert torch.equal(torch.as_tensor(batch.labels), torch.as_tensor(batch.labels)[:1] + torch.arange(4))


def test_a_share_of_the_images_is_strange():
    plain, odd = images(train()), images(train(strange=0.2))
    differ = (plain != odd).flatten(1).any(1)
    assert 0.15 < float(differ.float().mean()) < 0.25
    inverted = (odd == 1 - plain).flatten(1).all(1)
    assert 0.06 < float(inverted.float().mean()) < 0.14
    scrambled = differ & ~inverted
    assert torch.equal(odd[scrambled].flatten(1).sort(1).values, plain[scrambled].flatten(1).sort(1).values)
    assert torch.equal(images(train(strange=0.2)), odd)


def test_turned_groups_stay_together():
    splits = load_data(DataRequest("sklearn:digits", args={"turned": True}, group="block"), kind=None, labels="class")
    parts = [np.unique(part.rows.numpy() % 1797 // 100) for part in (splits.train, splits.valid, splits.test) if part is not None]
    assert len(np.intersect1d(parts[0], parts[1])) == len(np.intersect1d(parts[0], parts[2])) == 0


@pytest.mark.parametrize(
    ("args", "message"), [({"canvas": 4}, "expected a canvas of 8 or more, found 4"), ({"strange": 2.0}, "strange.*<= 1")]
)
def test_bounds(args, message):
    with pytest.raises(DataError, match=message):
        train(**args)


def test_other_sets_have_none_of_it():
    with pytest.raises(DataError, match="sklearn:wine: canvas, turned and strange are for sklearn:digits"):
        load_data(DataRequest("sklearn:wine", args={"canvas": 16}), kind=None, labels="class")
