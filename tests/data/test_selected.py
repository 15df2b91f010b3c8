"""Stored selections, pools, near-duplicates, and a test part under a shift."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.data.base import DataRequest, Splits
from limbeck.data.duplicates import difference_hash, near
from limbeck.data.load import load_data
from limbeck.data.pools import Joined, PoolRequest
from limbeck.data.selected import Selected, SelectionError, read_selected
from limbeck.data.stores import TensorStore
from limbeck.data.views import ViewRequest
from limbeck.errors import DataError
from limbeck.types import IGNORE, labelled


def load(source: str = "sklearn:digits", kind: Any = "image", **changes: Any) -> Splits:
    return load_data(DataRequest(source, **{"limit": 100, **changes}), kind=kind, labels="class")


def written(tmp_path: Path, splits: Splits, indices: list[int], **changes: Any) -> str:
    path = tmp_path / "selection.json"
    Selected(**{"examples": len(splits.train), "data": splits.train.fingerprint(), "indices": tuple(indices), **changes}).write(path)
    return str(path)


def test_a_selection_keeps_its_examples(tmp_path):
    whole = load()
    part = load(select=written(tmp_path, whole, [3, 7, 90]))
    assert torch.equal(part.train.__getitems__([0, 1, 2]).inputs, whole.train.__getitems__([3, 7, 90]).inputs)
    assert part.train.labels.tolist() == whole.train.labels[[3, 7, 90]].tolist()
    assert part.kept == 0.03
    assert whole.kept == 1.0
    assert "3 of 100 training examples are kept (selection.json)." in part.notes
    assert (part.info.mean, part.info.std) == (whole.info.mean, whole.info.std), "statistics do not depend on the selection"
    assert part.test.fingerprint() == whole.test.fingerprint()


def test_a_selection_and_the_share_of_labels_are_independent(tmp_path):
    whole = load(label_fraction=0.3)
    path = written(tmp_path, load(), list(range(40)))
    part = load(label_fraction=0.3, select=path)
    assert part.train.labels.tolist() == whole.train.labels[:40].tolist()
    alone = load(label_fraction=0.3, unlabelled=False, select=path)
    known = labelled(whole.train.labels[:40])
    assert alone.train.labels.tolist() == whole.train.labels[:40][known].tolist()
    assert alone.kept == 0.4
    none = written(tmp_path, load(), [int((~labelled(whole.train.labels)).nonzero()[0])])
    with pytest.raises(DataError, match=r"the selection keeps none that has a label and data\.unlabelled is false"):
        load(label_fraction=0.3, unlabelled=False, select=none)


def test_a_selection_for_other_data_is_refused(tmp_path):
    path = written(tmp_path, load(), [1, 2])
    with pytest.raises(SelectionError, match=r"made for 100 training examples, and the data have 90\. Compare data\.limit"):
        load(limit=90, select=path)
    with pytest.raises(SelectionError, match="made for other training examples, though as many: their inputs or their order differ"):
        load(split_seed=1, select=path)
    with pytest.raises(SelectionError, match="made for other training examples"):
        load(size=4, select=path)
    with pytest.raises(SelectionError, match=r"there is no such selection\. Write it with `limbeck select RECIPE --out"):
        load(select=str(tmp_path / "none.json"))


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    selected = Selected(4, "abc", (0, 2), (0.5, None, 1.5, 0.0), {"method": "el2n"})
    selected.write(tmp_path / "new" / "s.json")
    assert read_selected(tmp_path / "new" / "s.json") == selected
    stored = json.loads((tmp_path / "new" / "s.json").read_text())
    assert (stored["format"], stored["version"], stored["fraction"]) == ("limbeck-selection", 1, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a selection; expected a JSON file whose 'format' is 'limbeck-selection'."),
        ({"version": 2}, "version 2 of the format; this Limbeck reads version 1."),
        ({"indices": []}, "a list 'indices' of at least one whole number."),
        ({"indices": [1.5]}, "a list 'indices' of at least one whole number."),
        ({"indices": [True, 2]}, "a list 'indices' of at least one whole number."),
        ({"data": None}, "expected 'examples', 'data' and a list"),
        ({"indices": [2, 1]}, "expected 'indices' in ascending order, each once, from 0 to 3."),
        ({"indices": [1, 1]}, "expected 'indices' in ascending order, each once, from 0 to 3."),
        ({"indices": [-1, 1]}, "expected 'indices' in ascending order, each once, from 0 to 3."),
        ({"indices": [1, 4]}, "expected 'indices' in ascending order, each once, from 0 to 3."),
        ({"scores": [1.0]}, "expected no 'scores' or 4, found 1."),
    ],
)
def test_damaged_manifests_are_named(tmp_path, change, message):
    good = {"format": "limbeck-selection", "version": 1, "examples": 4, "data": "a", "indices": [0, 3]}
    (tmp_path / "s.json").write_text(json.dumps(good))
    assert read_selected(tmp_path / "s.json").indices == (0, 3)
    (tmp_path / "s.json").write_text(json.dumps({**good, **change}))
    with pytest.raises(SelectionError) as caught:
        read_selected(tmp_path / "s.json")
    assert message in str(caught.value)
    (tmp_path / "s.json").write_text("{")
    with pytest.raises(SelectionError, match="not a readable selection"):
        read_selected(tmp_path / "s.json")


@pytest.fixture
def pool(tmp_path) -> PoolRequest:
    x = np.random.default_rng(0).random((30, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "pool.npz", x_train=x[:20], y_train=np.arange(20) % 3, x_test=x[20:], y_test=np.arange(10) % 3)
    return PoolRequest(f"npz:{tmp_path / 'pool.npz'}")


def test_a_pool_comes_after_the_training_examples_without_labels(pool, tmp_path):
    plain, more = load(), load(pool=pool)
    assert (len(more.train), more.pooled, plain.pooled) == (120, 20, 0)
    assert torch.equal(more.train.labels[:100], plain.train.labels)
    assert (more.train.labels[100:] == IGNORE).all()
    archive = np.load(tmp_path / "pool.npz")
    np.testing.assert_array_equal(more.train.__getitems__([100, 119]).inputs[:, 0].numpy(), archive["x_train"][[0, 19]])
    assert torch.equal(more.train.__getitems__([5]).inputs, plain.train.__getitems__([5]).inputs)
    assert more.test.fingerprint() == plain.test.fingerprint()
    assert more.info == plain.info
    assert any("20 examples of npz:" in note and "are added without labels" in note for note in more.notes)
    assert load(pool=pool, unlabelled=False).train.fingerprint() == plain.train.fingerprint()


def test_a_pool_is_limited_at_random_and_selected(pool, tmp_path):
    few = load(pool=PoolRequest(pool.source, limit=5))
    assert len(few.train) == 105
    assert few.train.rows[100:].tolist() == sorted(few.train.rows[100:].tolist())
    assert few.train.fingerprint() != load(pool=PoolRequest(pool.source, limit=5), split_seed=1).train.fingerprint()
    path = written(tmp_path, load(pool=pool), [0, 100, 101])
    part = load(pool=pool, select=path)
    assert labelled(part.train.labels).tolist() == [True, False, False]
    assert part.kept == 3 / 120
    assert load(pool=pool, select=path, unlabelled=False).train.labels.tolist() == part.train.labels[:1].tolist()


def test_images_of_a_pool_are_scaled_and_seen_in_views(pool):
    splits = load(size=4, pool=pool, views={"big": ViewRequest(size=8)})
    batch = splits.train.__getitems__([0, 110])
    assert batch.inputs.shape == (2, 1, 4, 4)
    assert torch.equal(batch.views["big"], load(pool=pool).train.__getitems__([0, 110]).inputs)


def test_pools_of_tables_are_encoded_together(tmp_path):
    def table(name: str, rows: list[str], header: str = "size,kind,label") -> str:
        (tmp_path / name).write_text("\n".join([header, *rows]))
        return f"csv:{tmp_path / name}"

    source = table("a.csv", [f"{i},{'ab'[i % 2]},{i % 2}" for i in range(40)])
    args = {"target": "label"}
    pool = PoolRequest(table("b.csv", ["100,b,1", "101,c,0"]), args)
    splits = load(source, "tabular", limit=None, args=args, pool=pool)
    assert splits.train.__getitems__([-2 + len(splits.train), -1 + len(splits.train)]).inputs.tolist() == [[100, 0, 1], [101, 0, 0]]
    assert splits.info.mean == load(source, "tabular", limit=None, args=args).info.mean
    other = PoolRequest(table("c.csv", ["100,1"], "size,label"), args)
    with pytest.raises(DataError, match=r"must have the columns of the training data; 'kind' is in one of them only\."):
        load(source, "tabular", limit=None, args=args, pool=other)
    numbers = PoolRequest(table("d.csv", ["100,3,1"]), args)
    with pytest.raises(DataError, match="the column 'kind' holds numbers in one of the training data and"):
        load(source, "tabular", limit=None, args=args, pool=numbers)


def test_pools_that_do_not_fit_are_refused(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.zeros((5, 3)), y=np.zeros(5, dtype=int))
    with pytest.raises(DataError, match=r"data\.pool: npz:.* gives tabular data, the training data are image data"):
        load(pool=PoolRequest(f"npz:{tmp_path / 't.npz'}"), kind=None)
    np.savez(tmp_path / "c.npz", x=np.zeros((5, 3, 8, 8), dtype=np.uint8), y=np.zeros(5, dtype=int))
    with pytest.raises(DataError, match=r"has inputs of shape \(3, 8, 8\), the training data of \(1, 8, 8\)"):
        load(pool=PoolRequest(f"npz:{tmp_path / 'c.npz'}"))


def test_joined_stores_give_rows_of_both():
    first, second = TensorStore(torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)), TensorStore(torch.arange(8.0).reshape(2, 1, 2, 2))
    both = Joined(first, second)
    assert (len(both), both.shape) == (5, (1, 2, 2))
    rows = both.gather(torch.tensor([4, 0, 3]))
    assert torch.equal(rows, torch.stack([second.values[1], torch.ones(1, 2, 2), second.values[0]]))
    assert both.resized(1).gather(torch.tensor([0])).tolist() == [[[[1.0]]]]
    contents = {b"".join(both.content(torch.tensor(rows))) for rows in ([0, 4], [0, 3], [4, 0], [1, 4, 3])}
    assert len(contents) == 4


def test_the_difference_hash_by_hand():
    rising = torch.arange(9.0).expand(8, 9)[None, None]
    assert difference_hash(rising).all()
    assert not difference_hash(rising.flip(-1)).any()
    assert not difference_hash(torch.ones(1, 3, 20, 20)).any()
    bent = rising.clone()
    bent[0, 0, 2, 4] = 3.0  # no longer above its left neighbour
    assert difference_hash(bent)[0].long().sum() == 63
    assert not difference_hash(bent)[0, 2 * 8 + 3]


def test_near_duplicates_are_found():
    torch.manual_seed(0)
    others = torch.rand(5, 1, 16, 16)
    candidates = torch.cat([others[2:3] + 0.001, torch.rand(2, 1, 16, 16), others[:1] * 0.5])
    assert near(candidates, others, 3).tolist() == [True, False, False, True]
    rising, bent = torch.arange(9.0).expand(8, 9)[None, None], torch.arange(9.0).expand(8, 9)[None, None].clone()
    bent[0, 0, 2, 4] = 3.0
    assert near(bent, rising, 0).tolist() == [False]
    assert near(bent, rising, 1).tolist() == [True]
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert near(torch.tensor([[3.0, 4.0], [3.0, 5.0]]), table, 0).tolist() == [True, False]
    with pytest.raises(DataError, match="only images can be nearly equal; write 0 instead of 2"):
        near(table, table, 2)


def test_a_test_part_under_a_shift_is_always_the_same():
    shifted, plain = load(test_transforms=[{"crop": 2}]), load()
    rows = list(range(20))
    first, second = (shifted.test.__getitems__(rows).inputs for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, plain.test.__getitems__(rows).inputs)
    assert shifted.valid is not None
    assert plain.valid is not None
    assert torch.equal(shifted.valid.__getitems__([0]).inputs, plain.valid.__getitems__([0]).inputs)
    assert torch.equal(shifted.train.__getitems__([0]).inputs, plain.train.__getitems__([0]).inputs)
    with pytest.raises(DataError, match="transform 'flip' is for image data"):
        load("sklearn:wine", "tabular", test_transforms=["flip"])
