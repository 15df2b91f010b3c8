"""Further views of the examples: what they show, that they are functions of seed, epoch and index, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from limbeck.data.base import DataRequest, Splits
from limbeck.data.load import data_info, load_data
from limbeck.data.views import ViewRequest, lane_of
from limbeck.errors import DataError, LimbeckError, UnknownName
from limbeck.types import Batch

INDEX = [5, 0, 17]


def load(source: str = "sklearn:digits", kind: Any = "image", **changes: Any) -> Splits:
    return load_data(DataRequest(source, limit=100, **changes), kind=kind, labels="class")


def digits(transforms: Any = ("noise",), **views: ViewRequest) -> Splits:
    return load(transforms=transforms, views=views)


def test_a_clean_view_is_the_example_without_augmentation():
    train = digits(clean=ViewRequest()).train
    batch = train.augmented(3, 1).__getitems__(INDEX)
    plain = train.__getitems__(INDEX)
    assert torch.equal(batch.views["clean"], plain.inputs)
    assert not torch.equal(batch.inputs, plain.inputs)
    assert list(batch.views) == ["clean"]


def test_a_view_is_a_function_of_seed_epoch_and_index():
    train = digits(strong=ViewRequest(["noise", {"crop": 1}])).train
    one = train.augmented(3, 1).__getitems__(INDEX).views["strong"]
    assert torch.equal(train.augmented(3, 1).__getitems__([17, 9, 5]).views["strong"][[2, 0]], one[[0, 2]])
    assert not torch.equal(train.augmented(3, 2).__getitems__(INDEX).views["strong"], one)
    assert not torch.equal(train.augmented(4, 1).__getitems__(INDEX).views["strong"], one)


def test_a_further_view_changes_nothing_of_the_others():
    few = digits(strong=ViewRequest(["noise"])).train.augmented(3, 1).__getitems__(INDEX)
    more = digits(first=ViewRequest(["noise"]), strong=ViewRequest(["noise"])).train.augmented(3, 1).__getitems__(INDEX)
    assert torch.equal(few.inputs, more.inputs)
    assert torch.equal(few.views["strong"], more.views["strong"])
    assert not torch.equal(more.views["first"], more.views["strong"])
    assert torch.equal(digits().train.augmented(3, 1).__getitems__(INDEX).inputs, few.inputs)


def test_shared_draws_do_the_same_as_the_examples_own_transforms():
    batch = digits(same=ViewRequest(["noise"], draws="shared"), own=ViewRequest(["noise"])).train.augmented(3, 1).__getitems__(INDEX)
    assert torch.equal(batch.views["same"], batch.inputs)
    assert not torch.equal(batch.views["own"], batch.inputs)


def test_lanes_keep_room_for_every_list_of_transforms():
    lanes = [lane_of(name, ViewRequest()) for name in ("a", "b", "clean")]
    assert min(abs(x - y) for i, x in enumerate(lanes) for y in [0, *lanes[:i]]) >= 1 << 16
    assert lane_of("a", ViewRequest(draws="shared")) == 0


def test_held_out_examples_are_never_augmented():
    splits = digits(strong=ViewRequest(["noise"]))
    assert splits.valid is not None
    for part in (splits.valid, splits.test):
        batch = part.augmented(3, 1).__getitems__([0, 1])
        assert torch.equal(batch.views["strong"], batch.inputs)


def test_a_view_of_another_size_is_made_from_the_original():
    splits = load(size=4, views={"big": ViewRequest(size=8), "same": ViewRequest()})
    original = load()
    batch, whole = splits.train.__getitems__(INDEX), original.train.__getitems__(INDEX)
    assert batch.inputs.shape == (3, 1, 4, 4)
    assert torch.equal(batch.views["big"], whole.inputs)
    assert torch.equal(batch.views["same"], batch.inputs)
    big = splits.info.shown("big")
    assert (big.input_shape, big.mean, big.std) == ((1, 8, 8), original.info.mean, original.info.std)
    assert big.num_outputs == 10
    assert splits.info.input_shape == (1, 4, 4)


def test_images_of_a_folder_are_read_at_the_largest_size(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(10):
            image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20) + i).save(tmp_path / label / f"{i}.png")
    request = DataRequest(f"folder:{tmp_path}", size=8, views={"big": ViewRequest(size=16)}, args={"cache_mb": 0})
    batch = load_data(request, kind="image", labels="class").train.__getitems__([0])
    assert (batch.inputs.shape[2:], batch.views["big"].shape[2:]) == ((8, 8), (16, 16))
    alone = load_data(DataRequest(f"folder:{tmp_path}", size=16, args={"cache_mb": 0}), kind="image", labels="class").train
    assert torch.equal(alone.__getitems__([0]).inputs, batch.views["big"])
    info = data_info(request, kind="image", labels="class")
    assert info.input_shape[1:] == (8, 8)
    assert info.shown("big").input_shape[1:] == (16, 16)


def test_columns_are_a_part_of_a_table_in_the_order_given():
    splits = load("sklearn:wine", "tabular", views={"few": ViewRequest(columns=["proline", "alcohol"])})
    batch = splits.train.__getitems__(INDEX)
    assert torch.equal(batch.views["few"], batch.inputs[:, [12, 0]])
    info = splits.info.shown("few")
    assert info.input_shape == (2,)
    assert info.mean == (splits.info.mean or ())[12:13] + (splits.info.mean or ())[:1]


def test_a_column_may_have_become_several_values(tmp_path):
    rows = [f"{i},{'abc'[i % 3]},{i % 2}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["size,kind,label", *rows]))
    views = {"kinds": ViewRequest(columns=["kind"]), "size": ViewRequest(columns=["size"])}
    splits = load(f"csv:{tmp_path / 't.csv'}", "tabular", views=views, args={"target": "label"})
    batch = splits.train.__getitems__([0, 1])
    assert torch.equal(batch.views["kinds"], batch.inputs[:, 1:])
    assert batch.views["kinds"].shape == (2, 3)
    assert splits.info.shown("kinds").mean == (0.0, 0.0, 0.0), "values of 0 and 1 are not standardised"
    assert batch.views["size"].shape == (2, 1)


def test_columns_without_names_are_numbered():
    splits = load("sklearn:digits", "tabular", views={"few": ViewRequest(columns=["10", "3"])})
    batch = splits.train.__getitems__([0])
    assert torch.equal(batch.views["few"], batch.inputs[:, [10, 3]])


@pytest.fixture
def archive(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 40), ("test", 12)):
        arrays |= {f"x_{part}": rng.random((count, 5)), f"y_{part}": np.arange(count) % 2, f"depth_{part}": rng.random((count, 6, 6))}
    np.savez(tmp_path / "a.npz", **arrays)
    return f"npz:{tmp_path / 'a.npz'}", arrays


def test_another_array_is_another_modality(archive):
    source, arrays = archive
    splits = load(source, None, views={"picture": ViewRequest(["flip"], array="depth"), "small": ViewRequest(array="depth", size=3)})
    batch = splits.test.__getitems__([3])
    np.testing.assert_allclose(batch.views["picture"][0, 0].numpy(), arrays["depth_test"][3].astype(np.float32))
    assert batch.views["small"].shape == (1, 1, 3, 3)
    assert (splits.info.kind, splits.info.shown("picture").kind) == ("tabular", "image")
    assert splits.info.shown("picture").input_shape == (1, 6, 6)
    assert data_info(DataRequest(source, views={"p": ViewRequest(array="depth")}), kind=None, labels="class").shown("p").kind == "image"


def refused(source: str, kind: Any, view: ViewRequest, error: type[LimbeckError]) -> str:
    with pytest.raises(error) as caught:
        load(source, kind, views={"own": view})
    return str(caught.value)


def test_what_a_source_cannot_show_is_refused(archive):
    source = archive[0]
    text = refused(source, None, ViewRequest(array="deph"), UnknownName)
    assert "no further array of the source in data.views.own.array is called 'deph'. Did you mean 'depth'?" in text
    assert "data.views.own.size is for images, and this view shows tabular data" in refused(source, None, ViewRequest(size=3), DataError)
    text = refused("sklearn:digits", "image", ViewRequest(columns=["3"]), DataError)
    assert text == "data.views.own.columns is for tables, and this view shows image data. Remove it."
    text = refused("sklearn:wine", "tabular", ViewRequest(columns=["alcohl"]), UnknownName)
    assert "no column in data.views.own.columns is called 'alcohl'. Did you mean 'alcohol'?" in text
    text = refused("sklearn:wine", "tabular", ViewRequest(["flip"]), DataError)
    assert text == "transform 'flip' is for image data, data.views.own is tabular data."


def test_an_array_must_have_all_parts_and_rows(archive, tmp_path):
    _, arrays = archive
    np.savez(tmp_path / "b.npz", **{key: value for key, value in arrays.items() if key != "depth_test"})
    text = refused(f"npz:{tmp_path / 'b.npz'}", None, ViewRequest(array="depth"), DataError)
    assert "has an array 'depth_train' and no 'depth_test'; every part needs one." in text
    np.savez(tmp_path / "c.npz", **{**arrays, "depth_test": arrays["depth_test"][:-1]})
    text = refused(f"npz:{tmp_path / 'c.npz'}", None, ViewRequest(array="depth"), DataError)
    assert "depth has shape (51, 6, 6) and the inputs have 52 rows; they need as many." in text


def test_the_fingerprint_of_a_view_is_that_of_what_it_shows():
    train = digits(clean=ViewRequest(), strong=ViewRequest(["noise"]), small=ViewRequest(size=4)).train
    assert train.fingerprint() == train.fingerprint("clean") == train.fingerprint("strong")
    assert train.fingerprint("small") != train.fingerprint()
    with pytest.raises(UnknownName, match=r"no view of the data is called 'smal'\. Did you mean 'small'"):
        train.fingerprint("smal")
    assert len(train.seen("strong").transforms) == 1
    assert train.seen(None).store is train.store


def test_a_batch_is_shown_in_a_view():
    batch = Batch(torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([7, 8]), {"k": 1}, 4, {"v": torch.ones(2, 5)})
    assert batch.shown(None) is batch
    seen = batch.shown("v")
    assert seen is batch.shown("v"), "so that what is prepared once serves all models of the view"
    assert seen.inputs is batch.views["v"]
    assert (seen.labels, seen.index, seen.extra, seen.epoch) == (batch.labels, batch.index, batch.extra, 4)
    with pytest.raises(UnknownName, match="no view of the data is called 'w'"):
        batch.shown("w")


def test_views_move_with_the_batch():
    batch = Batch(torch.zeros(2, 3), None, torch.arange(2), views={"v": torch.ones(2, 5)}).to(torch.device("meta"))
    assert batch.views["v"].device.type == "meta"
    assert batch.inputs.device.type == "meta"
