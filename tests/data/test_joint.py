"""Several data sets read as one: rows, labels, parts, order."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from limbeck.data.base import DataRequest
from limbeck.data.joint import DatasetRequest, spread
from limbeck.data.load import data_info, load_data
from limbeck.data.loader import EpochPlan
from limbeck.errors import DataError, UnknownName
from limbeck.types import Share, labelled


@pytest.fixture
def files(tmp_path):
    """A table of 40 rows with 2 classes, and one of 20 rows with 2 numbers; some rows have no label."""
    rows = np.random.default_rng(0)
    x = rows.normal(size=(60, 3)).astype(np.float32)
    np.savez(tmp_path / "kinds.npz", x=x[:40], y=np.array([*([5, 9] * 19), -100, -100]))
    numbers = rows.normal(2.0, 3.0, size=(20, 2)).astype(np.float32)
    numbers[3] = np.nan
    np.savez(tmp_path / "numbers.npz", x=x[40:], y=numbers)
    np.savez(tmp_path / "wide.npz", x=np.zeros((9, 4), np.float32), y=np.zeros((9, 2), np.float32))
    return tmp_path, numbers


def request(folder, **changes: Any) -> DataRequest:
    kinds = DatasetRequest(f"npz:{folder / 'kinds.npz'}", "class")
    numbers = DatasetRequest(f"npz:{folder / 'numbers.npz'}", "real", changes.pop("args", {}))
    return DataRequest("joint", datasets=changes.pop("datasets", {"kinds": kinds, "numbers": numbers}), valid=0.2, test=0.2, **changes)


def load(folder, **changes: Any):
    return load_data(request(folder, **changes), kind=None, labels="joint")


def test_rows_and_labels_stand_side_by_side(files):
    splits = load(files[0])
    info = splits.info
    assert info.shares == {"kinds": Share(0, "class", 0, 2, ("5", "9")), "numbers": Share(1, "real", 2, 4, ("target 0", "target 1"))}
    assert (info.num_outputs, info.class_names) == (4, ("kinds: 5", "kinds: 9", "numbers: target 0", "numbers: target 1"))
    assert data_info(request(files[0]), kind=None, labels="joint").shares == info.shares
    batch = splits.train.__getitems__(list(range(len(splits.train))))
    assert batch.labels.shape[1] == 3
    rows = splits.train.rows
    owner = (rows >= 40).long()
    assert torch.equal(batch.labels[:, 0].long(), owner)
    assert torch.equal(batch.extra["dataset"], owner)
    mine = rows[owner == 1] - 40
    torch.testing.assert_close(batch.labels[owner == 1, 1:], torch.from_numpy(files[1])[mine], equal_nan=True)
    classes = batch.labels[owner == 0]
    known = rows[owner == 0] < 38
    assert torch.equal(classes[known, 1].long(), rows[owner == 0][known] % 2)
    assert classes[~known, 1].isnan().all()
    assert not classes[known, 2].any()
    assert torch.equal(splits.train.augmented(1, 2).__getitems__([0, 35]).extra["dataset"], owner[[0, 35]])


def test_each_data_set_is_cut_by_itself(files):
    splits = load(files[0])
    for part, expected in ((splits.valid, [8, 4]), (splits.test, [8, 4]), (splits.train, [24, 12])):
        assert torch.bincount(part.labels[:, 0].long()).tolist() == expected
        if part is not splits.train:
            classes = part.labels[part.labels[:, 0] == 0, 1]
            assert torch.bincount(classes.long()).tolist() == [4, 4]
            assert labelled(part.labels).all()
    assert not set(splits.train.rows.tolist()) & set(splits.test.rows.tolist())


def test_only_some_of_them(files):
    splits = load(files[0], only=["numbers"])
    assert splits.train.labels[:, 0].unique().tolist() == [1]
    assert splits.valid.labels[:, 0].unique().tolist() == [1]
    assert torch.equal(splits.test.labels, load(files[0]).test.labels)
    assert splits.info.num_outputs == 4
    with pytest.raises(UnknownName, match="Did you mean 'numbers'"):
        load(files[0], only=["number"])


def test_hidden_labels_leave_the_data_set_known(files):
    splits = load(files[0], label_fraction=0.5)
    owner, known = splits.train.labels[:, 0], labelled(splits.train.labels)
    assert owner.isfinite().all()
    assert int(known[owner == 0].sum()) in (11, 12)
    assert int(known.sum()) == 16
    classes = splits.train.labels[known & (owner == 0), 1].long()
    assert abs(int(classes.sum()) * 2 - len(classes)) <= 1
    assert len(load(files[0], label_fraction=0.5, unlabelled=False).train) == 16
    assert torch.bincount(load(files[0], limit=12).train.labels[:, 0].long()).tolist() == [8, 4]


def test_targets_have_the_same_units_in_every_stage(files):
    standard = load(files[0], args={"standardise_target": True})
    train = standard.train.labels
    mine = train[(train[:, 0] == 1) & labelled(train), 1:]
    torch.testing.assert_close(mine.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(mine.std(0, unbiased=False), torch.ones(2))
    for changes in ({"only": ["kinds"]}, {"label_fraction": 0.3}, {"only": ["numbers"], "label_fraction": 0.5}):
        other = load(files[0], args={"standardise_target": True}, **changes)
        torch.testing.assert_close(other.test.labels, standard.test.labels)
    assert any(note.startswith("numbers: targets are standardised by") for note in standard.notes)


def test_what_does_not_go_together(files):
    folder = files[0]
    kinds = DatasetRequest(f"npz:{folder / 'kinds.npz'}", "class")
    wide = DatasetRequest(f"npz:{folder / 'wide.npz'}", "real")
    with pytest.raises(DataError, match=r"^data\.datasets\.wide: npz:.*wide\.npz has inputs of shape \(4,\), the first data set of \(3,\)"):
        load(folder, datasets={"kinds": kinds, "wide": wide})
    with pytest.raises(DataError, match=r"data\.datasets\.b \(npz:.*\): a classification has one label an example"):
        load(folder, datasets={"a": kinds, "b": DatasetRequest(f"npz:{folder / 'numbers.npz'}", "class")})
    with pytest.raises(DataError, match="there must be two or more"):
        load(folder, datasets={"a": kinds})
    standard = DatasetRequest(kinds.source, "class", {"standardise_target": True})
    with pytest.raises(DataError, match=r"data\.datasets\.a: standardise_target is for labels of kind 'real'"):
        load(folder, datasets={"a": standard, "b": kinds})


def test_several_labels_an_example(files):
    folder = files[0]
    np.savez(folder / "tags.npz", x=np.zeros((30, 3), np.float32), y=np.eye(3)[np.arange(30) % 3])
    tags = DatasetRequest(f"npz:{folder / 'tags.npz'}", "multilabel")
    splits = load(folder, datasets={"tags": tags, "kinds": DatasetRequest(f"npz:{folder / 'kinds.npz'}", "class")})
    assert splits.info.shares["kinds"] == Share(1, "class", 3, 5, ("5", "9"))
    assert splits.test.labels.shape[1] == 4
    assert (splits.test.labels[splits.test.labels[:, 0] == 0, 1:].sum(1) == 1).all()


def test_every_update_holds_every_data_set():
    groups = np.array([0] * 70 + [1] * 20 + [2] * 10)
    for epoch in range(5):
        plan = EpochPlan(100, batch_size=20, seed=3, epoch=epoch).over(groups)
        whole = [index for _, index in plan.whole()]
        assert sorted(np.concatenate(whole).tolist()) == list(range(100))
        for index in whole:
            counts = np.bincount(groups[index], minlength=3)
            assert abs(counts - [14, 4, 2]).max() <= 1
    first, second = (np.concatenate([i for _, i in EpochPlan(100, batch_size=20, epoch=e).over(groups).whole()]) for e in (0, 1))
    assert not np.array_equal(first, second)


def test_an_update_that_cannot_hold_all():
    groups = np.array([0] * 90 + [1] * 10)
    EpochPlan(100, batch_size=10).over(groups)
    with pytest.raises(DataError, match=r"an update of 9 examples .* the smallest has 10 of 100 .* Raise train.batch_size to 10 or more"):
        EpochPlan(100, batch_size=9).over(groups)
    plain = EpochPlan(100, batch_size=9).over(None)
    assert plain.groups is None


def test_spread_keeps_the_order_within_a_group():
    order = np.array([4, 0, 3, 1, 5, 2])
    assert spread(order, np.array([0, 0, 0, 0, 1, 1])).tolist() == [0, 4, 3, 1, 5, 2]
    assert spread(order, np.zeros(6, dtype=int)).tolist() == order.tolist()


def test_strokes_are_measured_on_the_digits():
    def read(name: str, labels: Any, **args: Any):
        return load_data(DataRequest(f"sklearn:{name}", args=args, valid=0, test=0.1), kind="image", labels=labels)

    strokes, first, second = (read("strokes", "real"), read("digits", "class", half="first"), read("digits", "class", half="second"))
    assert strokes.info.class_names == ("ink", "slant")
    assert len(first.train.store) == 898
    assert len(second.train.store) == 899
    every = torch.arange(1797)
    images = strokes.train.store.gather(every)
    assert torch.equal(images[:898], first.train.store.gather(torch.arange(898)))
    assert torch.equal(images[898:], second.train.store.gather(torch.arange(899)))
    image, (ink, slant) = images[strokes.test.rows[0], 0].double(), strokes.test.labels[0].tolist()
    assert ink == pytest.approx(4 * image.mean().item(), rel=1e-5)
    # the slant is the slope of the least-squares line of columns on height, weighted by ink
    height, column = torch.meshgrid(torch.arange(7.0, -1, -1), torch.arange(8.0), indexing="ij")
    weights = (image / image.sum()).flatten().sqrt()
    design = torch.stack([height.flatten(), torch.ones(64)], 1).double() * weights[:, None]
    slope = torch.linalg.lstsq(design, (column.flatten().double() * weights)[:, None]).solution[0].item()
    assert slant == pytest.approx(slope, rel=1e-4, abs=1e-6)
