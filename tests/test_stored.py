"""From a recipe to a store, and from the store to a student that learns as from the teacher itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.cli.main import main
from limbeck.config.load import load_recipe
from limbeck.engine.watch import Silent
from limbeck.errors import LimbeckError, RecipeError
from limbeck.labelling import Labelling, label, workshop
from limbeck.preflight import preflight
from limbeck.store.manage import parse_codec
from limbeck.store.manifest import StoreError
from limbeck.store.reader import StoreReader
from tests.runs import SMALL, distill


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose student will teach."""
    folder = tmp_path_factory.mktemp("teacher")
    distill({**SMALL, "stages": {}, "teacher": None, "objective": {"labels": "cross_entropy"}, "baseline": False}, out=folder / "run")
    return folder / "run"


def recipe(base: Path, **changes: Any) -> dict[str, Any]:
    student = json.loads(json.dumps(SMALL["student"]))
    return {
        **SMALL,
        "baseline": False,
        "stages": {},
        "teacher": {**(student if isinstance(student, dict) else {"model": student}), "weights": str(base)},
        "objective": {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 2}},
        **changes,
    }


def plain(**codecs: str) -> dict[str, Any]:
    return dict(parse_codec(f"{name}={text}") for name, text in codecs.items())


def test_a_student_learns_the_same_from_the_store(base, tmp_path):
    wish = Labelling(tmp_path / "store", plain(logits="dense:dtype=fp32"), shard=100, batch=32)
    manifest = label(recipe(base), wish)
    assert [shard.stop for shard in manifest.shards] == [*range(100, manifest.examples, 100), manifest.examples]
    live = distill(recipe(base), out=tmp_path / "live")
    stored = distill(recipe(base, teacher={"stored": str(tmp_path / "store")}), out=tmp_path / "stored", report=True)
    for a, b in zip(live.student.state_dict().values(), stored.student.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert "teacher" in live.results["models"]
    assert "teacher" not in stored.results["models"]
    assert stored.report.is_file()


def test_labelling_twice_does_nothing_and_going_on_does_the_rest(base, tmp_path):
    calls = []

    def interrupted() -> bool:
        calls.append(1)
        return len(calls) == 5

    wish = Labelling(tmp_path / "store", {}, shard=64, batch=32)
    with pytest.raises(LimbeckError, match=r"every whole shard in .* is kept"):
        label(recipe(base), wish, interrupted=interrupted)
    whole = sorted(path.name for path in (tmp_path / "store").glob("*.safetensors"))
    assert len(whole) == 2
    times = {name: (tmp_path / "store" / name).stat().st_mtime_ns for name in whole}
    first = label(recipe(base), wish)
    assert {name: (tmp_path / "store" / name).stat().st_mtime_ns for name in whole} == times
    assert label(recipe(base), wish) == first


def test_augmented_views_are_replayed_bit_by_bit(base, tmp_path):
    data = {"source": "sklearn:digits", "limit": 200, "transforms": [{"crop": {"padding": 1}}, "noise"]}
    mine = recipe(base, data=data)
    wish = Labelling(tmp_path / "store", plain(logits="dense:dtype=fp32"), views=2, shard=50)
    label(mine, wish)
    reader = StoreReader(tmp_path / "store")
    from limbeck.engine.backend import Backend
    from limbeck.engine.watch import Journal, Silent
    from limbeck.session import Session

    session = Session(load_recipe(mine), tmp_path, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    train = session.data().train
    teacher = session.models["teacher"].module.eval()
    for view in (0, 1):
        index = [7, 3, 120]
        batch = train.augmented(reader.manifest.key.seed, view).__getitems__(index)
        with torch.no_grad():
            live = session.call("teacher")(teacher, batch).logits
        torch.testing.assert_close(reader.read(torch.tensor(index), view, ["logits"]).logits, live, rtol=1e-4, atol=1e-5)
    a, b = (reader.read(torch.arange(9), view, ["logits"]).logits for view in (0, 1))
    assert not torch.allclose(a, b)
    result = distill(
        {**mine, "teacher": {"stored": str(tmp_path / "store")}, "train": {**mine["train"], "epochs": 3}}, out=tmp_path / "run"
    )
    assert result.results["status"] == "finished"


def test_a_store_of_other_data_is_refused(base, tmp_path):
    label(recipe(base), Labelling(tmp_path / "store", {}))
    other = recipe(base, teacher={"stored": str(tmp_path / "store")}, data={"source": "sklearn:digits", "limit": 150})
    with pytest.raises(StoreError, match=r"does not belong to the recipe: the training data .* the number of training examples"):
        distill(other, out=tmp_path / "a")
    changed = recipe(base, teacher={"stored": str(tmp_path / "store")}, data={**_data(), "transforms": ["noise"]})
    with pytest.raises(RecipeError, match="normalisation or augmentation"):
        distill(changed, out=tmp_path / "b")


def _data() -> dict[str, Any]:
    data = SMALL["data"]
    return data if isinstance(data, dict) else {"source": data}


def test_the_check_sees_what_a_store_holds(base, tmp_path):
    label(recipe(base), Labelling(tmp_path / "store", {}))
    good = recipe(base, teacher={"stored": str(tmp_path / "store")})
    assert preflight(load_recipe(good), allow_code=False).problems == []
    wants = recipe(base, teacher={"stored": str(tmp_path / "store")}, objective={"hint": {"loss": "hint", "student": "stage1"}})
    problems = preflight(load_recipe(wants), allow_code=False).problems
    assert "the objective reads 'stage1' of the teacher, the store holds 'logits'" in str(problems[0])
    none = recipe(base, teacher={"stored": str(tmp_path / "nothing")})
    assert "no manifest.json there" in str(preflight(load_recipe(none), allow_code=False).problems[0])
    with pytest.raises(RecipeError, match="expected the key 'path' in a teacher of kind 'stored', found nothing"):
        load_recipe(recipe(base, teacher={"kind": "stored"}))
    with pytest.raises(RecipeError, match=r"verfy.*Did you mean 'verify'"):
        load_recipe(recipe(base, teacher={"stored": "x", "verfy": True}))


def test_the_command(base, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(json.dumps(recipe(base)))
    assert main(["label", "r.yaml", "--out", "store", "--signal", "logits=topk:k=3"]) == 0
    out = capsys.readouterr().out
    assert "topk (k: 3, dtype: fp16, completion: tail, temperature: 1.0)" in out
    assert main(["run", "r.yaml", "--set", "teacher.stored=store", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["label", "r.yaml", "--out", "other", "--views", "2"]) == 2
    assert "the data are not augmented" in capsys.readouterr().err
    assert main(["label", "r.yaml", "--out", "other", "--signal", "stage9=dense"]) == 2
    assert "--signal names stage9; the recipe reads logits of the teacher" in capsys.readouterr().err


def test_labelling_moves_nothing_of_the_teacher(base, tmp_path, monkeypatch):
    """No parameter and no buffer of the teacher is another after labelling, bit by bit, and it is in evaluation mode."""
    from limbeck import session as sessions

    seen: list[Any] = []
    build = sessions.Session.build_models

    def spy(self: Any) -> None:
        build(self)
        model = self.models["teacher"].module
        seen.append((model, {name: value.clone() for name, value in model.state_dict().items()}))

    monkeypatch.setattr(sessions.Session, "build_models", spy)
    label(recipe(base), Labelling(tmp_path / "store", {}, shard=100, batch=32))
    model, before = seen[0]
    assert any("running_mean" in name for name in before)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not model.training


def test_a_store_at_an_address(base, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    url = f"memory://{tmp_path.name}/store"
    wish = Labelling(url, plain(logits="dense:dtype=fp32"), shard=100, batch=32)
    label(recipe(base), wish)
    label(recipe(base), Labelling(tmp_path / "store", wish.codecs, shard=100, batch=32))
    remote, local = (
        distill(recipe(base, teacher={"stored": a}), out=tmp_path / str(n)) for n, a in enumerate((url, str(tmp_path / "store")))
    )
    for a, b in zip(remote.student.state_dict().values(), local.student.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    messages = []

    class Ear(Silent):
        def message(self, text: str) -> None:
            messages.append(text)

    assert label(recipe(base), wish, listener=Ear()) == label(recipe(base), wish)
    assert f"{url}: this store is finished; nothing was written." in messages


def test_a_finished_store_of_something_else_is_not_taken_for_this_one(base, tmp_path):
    label(recipe(base), Labelling(tmp_path / "store", {}))
    other = recipe(base, data={**_data(), "limit": 150}, seed=5)
    with pytest.raises(StoreError, match=r"a finished store of something else lies here \(data, seed differ\)"):
        label(other, Labelling(tmp_path / "store", {}))


def test_the_teacher_is_trained_beside_its_store(tmp_path):
    trained = {
        **SMALL,
        "baseline": False,
        "stages": {"teach": {"learner": "teacher", "objective": {"labels": "cross_entropy"}}, "distil": {}},
    }
    label(trained, Labelling(tmp_path / "store", {}))
    assert sorted(path.suffix for path in (tmp_path / "store").iterdir()) == [".json", ".safetensors"]
    assert (tmp_path / "store.teacher" / "metrics.jsonl").is_file()
    assert workshop("s3://bucket/a/store") == Path("runs/store.teacher")


def test_the_teacher_of_another_recipe_is_not_taken_for_this_one(tmp_path):
    def run(epochs: int) -> None:
        teach = {"learner": "teacher", "objective": {"labels": "cross_entropy"}, "train": {"epochs": epochs}}
        stages = {"teach": teach, "distil": {}}
        wish = Labelling(tmp_path / "store", {}, shard=64, batch=32)
        label({**SMALL, "baseline": False, "stages": stages}, wish, interrupted=lambda: any((tmp_path / "store").glob("*.safetensors")))

    with pytest.raises(LimbeckError, match="every whole shard"):
        run(1)
    with pytest.raises(StoreError, match=r"store\.teacher: the stages of another recipe left their checkpoints here \(stages differ\)"):
        run(2)
    with pytest.raises(LimbeckError, match="every whole shard"):
        run(1)
