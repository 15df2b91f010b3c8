"""A store is compared with what the teacher says now of the examples, made anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck.cli.main import main
from limbeck.labelling import Labelling, label
from limbeck.recheck import recheck
from limbeck.store.manage import convert, parse_codec
from limbeck.store.manifest import StoreError
from tests.runs import SMALL

RECIPE: dict[str, Any] = {
    **SMALL,
    "data": {"source": "sklearn:digits", "limit": 60, "transforms": ["resized_crop"], "mix": "cutmix", "crops": 2},
    "teacher": {"model": "convnet", "args": {"channels": [8]}},
    "stages": {
        "teacher": {"learner": "teacher", "data": {"mix": None}, "objective": {"labels": "cross_entropy"}, "train": {"epochs": 4}},
        "distil": {},
    },
    "objective": {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 2}},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recheck")
    (folder / "r.yaml").write_text(json.dumps(RECIPE))
    label(folder / "r.yaml", Labelling(folder / "store", {}, views=2, shard=40))
    return folder / "store"


@pytest.mark.parametrize("codec", ["dense:dtype=fp32", "dense:dtype=int8", "topk:k=3", "tinyvit:k=3", "sampled:draws=50"])
def test_the_teacher_says_the_same(store, tmp_path, codec):
    recipe = store.parent / "r.yaml"
    out = tmp_path / "store"
    (tmp_path / "store.teacher").symlink_to(store.parent / "store.teacher")
    label(recipe, Labelling(out, dict([parse_codec(f"logits={codec}")]), views=2, shard=40))
    found = recheck(out, recipe, samples=20)
    assert found.examples == 20
    assert list(found.worst) == ["logits"]
    assert found.worst["logits"] < 1e-3


def test_samples_are_divided_among_the_views(store):
    assert recheck(store, store.parent / "r.yaml", samples=1).examples == 2
    assert recheck(store, store.parent / "r.yaml", samples=1000).examples == 120


def test_another_answer_is_named(store, tmp_path):
    """A store that claims to be of this teacher, and holds the answers of the wrong view."""
    recipe = store.parent / "r.yaml"
    convert(store, tmp_path / "store", dict([parse_codec("logits=dense:dtype=fp32")]))
    (tmp_path / "store.teacher").symlink_to(store.parent / "store.teacher")
    assert recheck(tmp_path / "store", recipe, samples=20).worst["logits"] < 0.01
    _swap_views(tmp_path / "store")
    with pytest.raises(StoreError, match=r"'logits' of \d+ of 20 examples differs from what the teacher says of them now, by up to 0\.\d+"):
        recheck(tmp_path / "store", recipe, samples=20)


def _swap_views(folder: Path) -> None:
    from dataclasses import replace

    from limbeck.store.manifest import read_manifest

    manifest = read_manifest(folder)
    shards = [replace(shard, view=1 - shard.view) for shard in manifest.shards]
    (folder / "manifest.json").write_text(replace(manifest, shards=tuple(shards)).text())


def test_a_store_of_something_else_is_refused(store):
    other = json.loads((store.parent / "r.yaml").read_text())
    with pytest.raises(StoreError, match=r"does not belong to the recipe: the teacher's weights"):
        recheck(store, {**other, "stages": {}, "teacher": {**other["teacher"], "weights": "random"}})
    with pytest.raises(StoreError, match=r"does not belong to the recipe: .*normalisation or augmentation"):
        recheck(store, {**other, "stages": {**other["stages"], "distil": {"data": {"transforms": ["noise"]}}}})
    with pytest.raises(StoreError, match="the stages of another recipe left their checkpoints here"):
        recheck(store, {**other, "data": {**other["data"], "transforms": ["noise"]}})


def test_the_command(store, capsys):
    assert main(["store", "verify", str(store), "--recipe", str(store.parent / "r.yaml"), "--samples", "8"]) == 0
    out = capsys.readouterr().out
    assert "everything is as it was written" in out
    assert "The teacher says the same of 8 examples, made anew; largest difference: logits" in out
    assert main(["store", "verify", str(store), "--recipe", str(store.parent / "r.yaml"), "--samples", "0"]) == 2
    assert "--samples must be at least 1, got 0" in capsys.readouterr().err
    assert (
        main(["store", "verify", str(store), "--recipe", str(store.parent / "r.yaml"), "--set", "stages.distil.data.transforms=noise"]) == 2
    )
    assert "does not belong to the recipe" in capsys.readouterr().err
