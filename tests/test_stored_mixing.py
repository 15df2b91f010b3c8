"""Mixed inputs with stored and with live teachers, from the recipe to the student; and what `limbeck check` says of them."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportAttributeAccessIssue=false

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.config.load import load_recipe
from limbeck.data.base import DataRequest
from limbeck.data.compose import Composition
from limbeck.data.load import load_data
from limbeck.data.loader import EpochPlan, train_loader
from limbeck.data.mixing.mixup import Mixup
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.errors import LimbeckError, RecipeError
from limbeck.labelling import Labelling, label
from limbeck.ops.mixture import log_mixture
from limbeck.preflight import preflight
from limbeck.session import Session
from limbeck.store.manage import parse_codec
from limbeck.store.reader import StoreReader
from limbeck.teachers.base import Setting, TeacherRequest
from limbeck.teachers.stored import StoredTeacher
from tests.runs import SMALL, digest, distill

DATA: dict[str, Any] = {"source": "sklearn:digits", "limit": 96, "transforms": ["resized_crop", "flip"]}
RECIPE: dict[str, Any] = {
    **SMALL,
    "data": DATA,
    "objective": {"labels": "cross_entropy", "logits": {"loss": "soft_cross_entropy", "targets": {"name": "calibrate", "low": 0.1}}},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four views of every example."""
    out = tmp_path_factory.mktemp("stored") / "store"
    label(RECIPE, Labelling(out, dict([parse_codec("logits=topk:k=4,dtype=fp32")]), views=4, shard=50))
    return out


def recipe(mix: Any = None, *, stored: Path | None = None, crops: int = 1, **changes: Any) -> dict[str, Any]:
    data = {**DATA, **({"mix": mix} if mix is not None else {}), "crops": crops}
    teacher = {"stored": str(stored)} if stored is not None else SMALL["teacher"]
    return json.loads(json.dumps({**RECIPE, "data": data, "teacher": teacher, **changes}))


def problems(raw: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in preflight(load_recipe(raw), allow_code=False).problems]


def open_teacher(store: Path, *, taps: tuple[str, ...] = (), **fields: Any) -> StoredTeacher:
    teacher = StoredTeacher(path=str(store), **fields)
    teacher.open(Setting(TeacherRequest(taps, True, torch.device("cpu")), lambda model, batch: model))
    return teacher


def test_a_stored_teacher_mixes_what_it_says_of_the_two(store):
    train = load_data(DataRequest("sklearn:digits", limit=96, transforms=["resized_crop", "flip"]), kind=None, labels="class").train
    teacher = open_teacher(store)
    reader = StoreReader(store)
    composition = Composition(2, Mixup(), 5, replay=teacher.replay)
    for batch in train_loader(train, EpochPlan(96, batch_size=32, crops=2, epoch=3), composition=composition):
        own, other = (
            reader.read(index, view, ["logits"]).logits
            for index, view in ((batch.index, batch.epoch), (batch.mixed.partner, batch.mixed.epoch))
        )
        said = teacher.signals(batch)
        torch.testing.assert_close(said.logits, log_mixture(own, other, batch.mixed.share))
        mixture = batch.mixed.share[:, None] * own.softmax(1) + (1 - batch.mixed.share)[:, None] * other.softmax(1)
        torch.testing.assert_close(said.logits.softmax(1), mixture)
        assert torch.equal(said.parts[0].logits, own)
        assert torch.equal(said.parts[1].logits, other)


def test_crops_are_replayed_bit_by_bit(store):
    """The teacher, asked about the inputs of a training with four crops an image, says what the store holds."""
    recipe_now = load_recipe(recipe(crops=4))
    session = Session(recipe_now, store.parent, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    reader, model = StoreReader(store), session.models["teacher"].module.eval()
    codec = reader.manifest.signals["logits"].build()
    composition = Composition(4, None, 5, replay=(reader.manifest.key.seed, 4))
    batches = list(train_loader(session.data().train, EpochPlan(96, batch_size=32, crops=4), composition=composition))
    for batch in batches:
        with torch.no_grad():
            live = session.call("teacher")(model, batch).logits
        stored = reader.read(batch.index, batch.epoch, ["logits"]).logits
        torch.testing.assert_close(codec.decode(codec.encode(live, batch.index), (10,)), stored, rtol=1e-4, atol=1e-5)
    assert sorted(batches[0].epoch.tolist()) == sorted([0, 1, 2, 3] * 8)


def test_the_recipe_says_how_labels_are_completed(store):
    train = load_data(DataRequest("sklearn:digits", limit=96), kind=None, labels="class").train
    batch = train.augmented(0, 1).__getitems__([3, 5])
    whole = open_teacher(store).signals(batch)
    hard = open_teacher(store, completion="hard", keep=1).signals(batch)
    assert torch.equal(whole.logits.argmax(1), hard.logits.argmax(1))
    torch.testing.assert_close(hard.logits.softmax(1).amax(1), torch.ones(2))
    assert whole.parts == ()
    with pytest.raises(LimbeckError, match="keeps 4 probabilities an example, `keep` asks for 5"):
        open_teacher(store, keep=5)
    assert "the store keeps 4 probabilities" in problems(recipe(stored=store, teacher={"stored": str(store), "keep": 5}))[0]


MIXES: list[Any] = ["mixup", {"kind": "cutmix", "per": "update"}, {"kind": "selfmix", "share": 0.5}, {"kind": "switch", "switch": 0.3}]


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("kind", ["live", "stored"])
def test_students_learn_from_mixed_inputs(mix, kind, store, tmp_path):
    raw = recipe(mix, stored=store if kind == "stored" else None, crops=2)
    assert problems(raw) == []
    result = distill(raw, out=tmp_path / "run", device="cpu")
    assert all(torch.isfinite(p).all() for p in result.student.parameters())


def test_accumulation_and_workers_change_nothing(store, tmp_path):
    """Labels for a part of the examples, a teacher that leaves some out, mixing across micro-batches."""
    plain = {"student": {"model": "mlp", "args": {"hidden": [16]}}}
    train = {**SMALL["train"], "epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}}

    def weights(**changes: Any) -> list[torch.Tensor]:
        raw = recipe("mixup", stored=store, **plain, train={**train, **changes})
        raw["data"]["label_fraction"] = 0.5
        result = distill(raw, out=tmp_path / str(len(list(tmp_path.iterdir()))), device="cpu")
        return list(result.student.state_dict().values())

    whole = weights()
    for other in (weights(accumulate=3), weights(workers=2)):
        for a, b in zip(whole, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_same_twice_and_another_seed_differs(store, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        distill(recipe("switch", seed=seed), out=tmp_path / name, device="cpu")
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_labelling_knows_no_mixing(store, tmp_path):
    """A store is of single views, whatever the student does with them."""
    raw = recipe("mixup")
    out = tmp_path / "store"
    label(raw, Labelling(out, dict([parse_codec("logits=topk:k=4,dtype=fp32")]), views=4, shard=50))
    ours, theirs = StoreReader(out), StoreReader(store)
    assert ours.manifest.key == theirs.manifest.key
    index = torch.arange(96)
    assert torch.equal(ours.read(index, 2, ["logits"]).logits, theirs.read(index, 2, ["logits"]).logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix": "mixpu"}, r"data\.mix(\.kind)?: .*Did you mean 'mixup'"),
        ({"mix": {"kind": "mixup", "alhpa": 1.0}}, r"data\.mix\.alhpa: .*Did you mean 'alpha'"),
        ({"mix": {"kind": "cutmix", "alpha": 0}}, r"data\.mix\.alpha: expected a number (greater than|>) 0"),
        ({"mix": {"kind": "cutmix", "share": 1.5}}, r"data\.mix\.share: expected a number"),
        ({"crops": 0}, r"data\.crops: expected"),
    ],
)
def test_wrong_keys_are_found_at_once(changes, message):
    raw = recipe()
    raw["data"] |= changes
    with pytest.raises(RecipeError, match=message):
        load_recipe(raw)


def test_the_check_finds_what_does_not_fit(store, tmp_path):
    bare = recipe("selfmix")
    del bare["data"]["transforms"]
    assert (
        "data.mix: selfmix mixes two augmentations of one example, and the data are not augmented; add data.transforms" in problems(bare)[0]
    )
    bare = recipe(crops=2)
    del bare["data"]["transforms"]
    assert "data.crops: 2 augmentations of each example were asked for, and the data are not augmented" in problems(bare)[0]
    assert "data.crops: expected a divisor of train.batch_size (32), which counts every crop, found 3" in problems(recipe(crops=3))[0]
    many = recipe(crops=8, stored=store)
    assert "the store of 'teacher' holds 4; label with --views 8 or more" in problems(many)[0]
    table = recipe("cutmix", data={"source": "sklearn:wine", "mix": "cutmix"}, student="mlp", teacher={"model": "mlp", "weights": "random"})
    assert problems(table) == ["recipe: data.mix: cutmix is for image data, the data are tabular."]
    viewed = recipe("cutmix", data={"source": "npz:both.npz", "mix": "cutmix", "views": {"words": {"array": "words"}}})
    rng = np.random.default_rng(0)
    arrays = {"x": rng.random((60, 8, 8, 1), np.float32), "words": rng.random((60, 5)), "y": np.arange(60) % 3}
    np.savez(tmp_path / "both.npz", **arrays)
    viewed["data"]["source"] = f"npz:{tmp_path}/both.npz"
    assert problems(viewed) == ["recipe: data.mix: cutmix is for image data, and the view 'words' shows tabular data."]
    memory = recipe("mixup", objective={"past": {"loss": "ps_kd"}})
    assert "objective.past: this loss keeps something for every example, and data.mix gives it inputs" in problems(memory)[0]
    order = [{"name": "logit_standardization"}, {"name": "calibrate"}]
    late = recipe(objective={"logits": {"loss": "kd", "targets": order}})
    assert "a target that weighs examples must be the first of `targets`" in problems(late)[0]
    batchwise = recipe(objective={"d": {"loss": "dist", "targets": "calibrate"}, "labels": "cross_entropy"})
    assert "compares the examples of a batch with each other and has targets that weigh examples" in problems(batchwise)[0]


def test_the_check_knows_what_a_store_can_mix(tmp_path):
    layers = {"hint": {"loss": "hint", "student": "stage1"}, "labels": "cross_entropy"}
    raw = recipe(objective=layers)
    label(raw, Labelling(tmp_path / "store", {}))
    mixed = recipe("mixup", stored=tmp_path / "store", objective=layers)
    assert "objective.hint: stored layers of two examples cannot be mixed as their inputs are" in problems(mixed)[0]
    with pytest.raises(LimbeckError, match="stored layers cannot be mixed"):
        open_and_ask(tmp_path / "store")
    label(recipe(), Labelling(tmp_path / "single", {}))
    alone = recipe("selfmix", stored=tmp_path / "single")
    assert "selfmix needs two views of every example, the store of 'teacher' holds one; label with --views 2" in problems(alone)[0]


def open_and_ask(store: Path) -> None:
    train = load_data(DataRequest("sklearn:digits", limit=96, transforms=["flip"]), kind=None, labels="class").train
    teacher = StoredTeacher(path=str(store))
    teacher.open(Setting(TeacherRequest(("stage1",), False, torch.device("cpu")), lambda model, batch: model))
    composition = Composition(1, Mixup(), 5, replay=teacher.replay)
    teacher.signals(next(iter(train_loader(train, EpochPlan(96, batch_size=32), composition=composition))))


def test_a_stored_teacher_of_another_view_is_mixed_as_the_live_one_is(tmp_path):
    """The teacher sees the clean images, the student augmented ones; its answers about both are mixed by the student's share."""
    data = {**DATA, "views": {"clean": {}}}
    seen = {**SMALL["teacher"], "view": "clean"}
    given = recipe("mixup", data=data, teacher=seen, objective={"logits": {"loss": "soft_cross_entropy"}})
    label(given, Labelling(tmp_path / "store", dict([parse_codec("logits=dense:dtype=fp32")])))
    given["data"]["mix"] = "mixup"
    listening = {**given, "teacher": {"stored": str(tmp_path / "store"), "view": "clean"}}
    assert problems(given) == problems(listening) == []
    for name, raw in (("live", given), ("stored", listening)):
        assert distill(raw, out=tmp_path / name, device="cpu").results["status"] == "finished"
    assert digest(tmp_path / "live") != digest(tmp_path / "stored")  # the one hears of mixed images, the other mixes what it hears
