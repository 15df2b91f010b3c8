"""A store serves every selection of its examples, and is refused before training where it belongs to another recipe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.belonging import check_origin, origin
from limbeck.config.load import load_recipe
from limbeck.data.base import DataRequest
from limbeck.data.load import load_data
from limbeck.data.selected import Selected
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.errors import LimbeckError, RecipeError
from limbeck.labelling import Labelling, label
from limbeck.recheck import recheck
from limbeck.session import Session
from limbeck.store.manage import parse_codec
from limbeck.store.manifest import StoreError, read_manifest
from tests.runs import SMALL, distill

FLIP = [{"crop": {"padding": 1}}, "noise"]
TEACH = {"learner": "teacher", "objective": {"labels": "cross_entropy"}, "train": {"epochs": 1}}


def recipe(**changes: Any) -> dict[str, Any]:
    data = {"source": "sklearn:digits", "limit": 120, "transforms": FLIP}
    own = {"baseline": False, "data": data, "train": {"epochs": 1, "batch_size": 40}}
    return {**SMALL, **own, "objective": {"logits": {"loss": "kd"}}, "stages": {"teach": TEACH, "distil": {}}, **changes}


def stored(path: Path, **changes: Any) -> dict[str, Any]:
    given = recipe(**changes)
    return {**given, "teacher": {**given["teacher"], "stored": str(path)}}


def selected(given: dict[str, Any], select: Any) -> dict[str, Any]:
    return {**given, "stages": {**given["stages"], "distil": {"data": {"select": select}}}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All candidates, two views."""
    path = tmp_path_factory.mktemp("stores") / "store"
    codec = dict([parse_codec("logits=dense:dtype=fp32")])
    given = selected(recipe(), {"method": "random", "fraction": 0.25})
    label(given, Labelling(path, codec, views=2, shard=50, every=True))
    return path


def opened(given: dict[str, Any], folder: Path) -> Session:
    return Session(load_recipe(given), folder, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)


def test_a_store_of_all_serves_every_selection(store, tmp_path):
    assert read_manifest(store).examples == 120
    for number, select in enumerate(({"method": "random", "fraction": 0.5}, {"method": "random", "fraction": 0.1}, None)):
        done = distill(selected(stored(store), select), out=tmp_path / str(number))
        assert done.results["status"] == "finished"


def test_what_is_read_is_what_the_teacher_says_of_the_selected_as_they_are_shown(store, tmp_path):
    whole = load_data(DataRequest("sklearn:digits", limit=120), kind=None, labels="class").train
    Selected(120, whole.fingerprint(), (3, 50, 51, 119)).write(tmp_path / "four.json")
    session = opened(selected(stored(store), str(tmp_path / "four.json")), tmp_path)
    session.build_models()
    phase = session.phases[-1]
    batch = session.data(phase.data).train.augmented(read_manifest(store).key.seed, 1).__getitems__([2, 0, 3])
    heard = session.teachers_of(phase)["teacher"].signals(batch).logits
    teaching = opened(recipe(), store.with_name("store.teacher"))
    teaching.build_models()
    teaching.run(True, phases=1)
    with torch.no_grad():
        said = teaching.call("teacher")(teaching.models["teacher"].module.eval(), batch).logits
    torch.testing.assert_close(heard, said, rtol=1e-4, atol=1e-5)


def test_an_example_is_augmented_alike_in_every_selection():
    request = DataRequest("sklearn:digits", limit=120, transforms=FLIP)
    few = load_data(
        DataRequest("sklearn:digits", limit=120, transforms=FLIP, label_fraction=0.3, unlabelled=False), kind=None, labels="class"
    )
    every = load_data(request, kind=None, labels="class").train.augmented(5, 2)
    assert few.train.among is not None
    shown = few.train.augmented(5, 2).__getitems__([0, 7]).inputs
    places = few.train.places[torch.tensor([0, 7])]
    assert places[1] > 7
    assert torch.equal(shown, every.__getitems__(places.tolist()).inputs)
    assert every.among is None


def test_all_and_the_selected_are_two_stores(store, tmp_path):
    given = selected(recipe(), {"method": "random", "fraction": 0.25})
    label(given, Labelling(tmp_path / "few", {}, views=2))
    assert read_manifest(tmp_path / "few").examples == 30
    distill(selected(stored(tmp_path / "few"), {"method": "random", "fraction": 0.25}), out=tmp_path / "run")
    with pytest.raises(StoreError, match=r"the number of training examples \(store 30, recipe 120\)"):
        distill(stored(tmp_path / "few"), out=tmp_path / "other")


def test_the_teacher_is_asked_again_about_all(store):
    found = recheck(store, selected(recipe(), {"method": "random", "fraction": 0.25}), samples=20)
    assert found.examples == 20
    assert found.worst["logits"] < 1e-5


def test_another_recipe_is_refused_before_anything_is_trained(store, tmp_path):
    other = {**recipe()["data"], "transforms": ["noise"]}
    with pytest.raises(RecipeError, match="normalisation or augmentation"):
        distill(stored(store, data=other, baseline=True), out=tmp_path / "a")
    assert not (tmp_path / "a" / "checkpoints").exists()
    file = next(store.glob("*.safetensors"))
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StoreError, match=f"{file.name}: its contents have changed"):
            distill(stored(store, baseline=True), out=tmp_path / "b")
    finally:
        file.write_bytes(content)
    assert not (tmp_path / "b" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": {"teach": {**TEACH, "train": {"epochs": 2}}, "distil": {}}}, "stages.teach.train.epochs 1 there, 2 here"),
        ({"teacher": {"model": "mlp", "args": {"hidden": [9]}}}, "models.teacher.args.hidden"),
        ({"stages": {"teach": {**TEACH, "objective": {"labels": "focal"}}, "distil": {}}}, '"cross_entropy" there, "focal" here'),
        (
            {"stages": {"teach": {**TEACH, "data": {"classes": [1, 2]}}, "distil": {}}},
            "stages.teach.data.classes nothing there, \\[1, 2\\] here",
        ),
    ],
)
def test_a_store_of_another_teacher_is_refused(store, tmp_path, changes, message):
    with pytest.raises(RecipeError, match=f"this store is of another teacher: .*{message}"):
        distill(stored(store, **changes), out=tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7},
        {"train": {"epochs": 2, "batch_size": 30}},
        {"student": {"model": "mlp", "args": {"hidden": [5]}}},
        {"stages": {"distil": {}}},
        {"stages": {"teach": {**TEACH, "train": {"epochs": 1, "log_every": 3}}, "distil": {}}},
    ],
)
def test_another_student_is_welcome(store, changes):
    recipe = load_recipe(stored(store, **changes)).recipe
    check_origin(read_manifest(store), recipe, "teacher", "here")


def test_a_finished_store_is_compared_with_the_whole_wish(store):
    whole = selected(recipe(), {"method": "random", "fraction": 0.25})
    codec = dict([parse_codec("logits=dense:dtype=fp32")])
    assert label(whole, Labelling(store, codec, views=2, every=True)) == read_manifest(store)
    for wish, message in (
        (Labelling(store, codec, views=3, every=True), "views differ"),
        (Labelling(store, dict([parse_codec("logits=topk:k=3")]), every=True), "signal logits differ"),
        (Labelling(store, codec, every=False), "data differ"),
    ):
        with pytest.raises(StoreError, match=message):
            label(whole, wish)
    layer = {**whole, "objective": {"hint": {"loss": "hint", "student": "stage1", "teacher": "stage1"}}}
    with pytest.raises(StoreError, match="signal stage1 differ"):
        label(layer, Labelling(store, {}, every=True))
    slower = {**whole, "train": {"epochs": 1, "batch_size": 20}}
    with pytest.raises(StoreError, match=r"stages.teach.train.batch_size 40 there, 20 here"):
        label(slower, Labelling(store, {}, every=True))


def test_assistants_and_members_are_part_of_the_origin():
    given = recipe(
        teachers={"helper": {"model": "mlp"}, "both": {"kind": "ensemble", "members": ["teacher", "helper"]}},
        stages={"teach": TEACH, "help": {"learner": "helper", "objective": {"logits": {"loss": "kd", "from": "teacher"}}}, "distil": {}},
    )
    found = json.loads(origin(load_recipe(given).recipe, "helper"))
    assert sorted(found["models"]) == ["helper", "teacher"]
    assert sorted(found["stages"]) == ["help", "teach"]
    assert sorted(json.loads(origin(load_recipe(given).recipe, "both"))["stages"]) == ["help", "teach"]
    assert json.loads(origin(load_recipe(given).recipe, "teacher"))["stages"].keys() == {"teach"}


def test_a_store_that_knows_no_origin_is_taken(store):
    from dataclasses import replace

    manifest = read_manifest(store)
    old = replace(manifest, key=replace(manifest.key, origin=""))
    changed = load_recipe(stored(store, teacher={"model": "mlp", "args": {"hidden": [9]}})).recipe
    check_origin(old, changed, "teacher", "here")
    with pytest.raises(LimbeckError):
        check_origin(manifest, changed, "teacher", "here")


def test_the_check_names_another_augmentation_and_another_teacher(store):
    from limbeck.preflight import preflight

    other = {**recipe()["data"], "transforms": ["noise"]}
    for changes, message in (
        ({"data": other}, "objective.*normalisation or augmentation|teacher: .*normalisation or augmentation"),
        ({"teacher": {"model": "mlp", "args": {"hidden": [9]}}}, "this store is of another teacher: models.teacher.args"),
    ):
        found = preflight(load_recipe(stored(store, **changes)), allow_code=False).problems
        assert len(found) == 1
        assert re.search(message, str(found[0]))
    assert preflight(load_recipe(stored(store)), allow_code=False).problems == []
