"""Selections in a recipe and by the command, and weights tied to the share that is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from limbeck import assemble
from limbeck.cli.main import main
from limbeck.config.data_schema import SelectSpec
from limbeck.config.load import load_recipe
from limbeck.config.term_schema import TermSpec
from limbeck.data.selected import Selected, read_selected
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.errors import LimbeckError, RecipeError
from limbeck.labelling import Labelling, label
from limbeck.objective.schedules import between
from limbeck.preflight import preflight
from limbeck.selecting import select
from limbeck.session import Session
from limbeck.settling import settled
from limbeck.store.manifest import read_manifest
from tests.runs import SMALL, digest, distill

FULL = {"source": "sklearn:digits", "limit": 200}


def recipe(select: Any, **changes: Any) -> dict[str, Any]:
    return {**SMALL, "data": {**FULL, "select": select}, **changes}


def opened(tmp_path: Path, given: dict[str, Any]) -> Session:
    session = Session(load_recipe(given), tmp_path, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    return session


def test_lines_between_points():
    points = [[0.1, 1.0], [0.5, 0.6], [1.0, 0.5]]
    for at, value in ((0.05, 1.0), (0.1, 1.0), (0.3, 0.8), (0.5, 0.6), (0.75, 0.55), (1.0, 0.5), (2.0, 0.5)):
        assert between(points, at) == pytest.approx(value)
    assert between([[0.5, 3.0]], 0.1) == between([[0.5, 3.0]], 0.9) == 3.0


def test_a_weight_may_be_tied_to_the_share_that_is_kept(tmp_path):
    objective = {"labels": {"loss": "cross_entropy", "weight": {"kept": [[0.2, 0.0], [0.4, 0.5]]}}, "logits": {"loss": "kd", "weight": 0.7}}
    session = opened(tmp_path, recipe({"method": "random", "fraction": 0.3}, objective=objective))
    phase = settled(session, session.phases[0])
    assert {name: assemble.weight_of(term) for name, term in phase.objective.items()} == {"labels": pytest.approx(0.25), "logits": 0.7}
    assert len(session.data(phase.data).train) == 60
    term = TermSpec.model_validate(objective["labels"])
    assert [assemble.weight_of(term, kept) for kept in (0.2, 0.4, 1.0)] == [0.0, 0.5, 0.5]
    assert assemble.weight_of(term) == 0.5
    stage = session.stage(session.phases[0], 0, 0)
    stage.context.learner.objective.set_progress(0.5)
    assert stage.context.learner.objective.weights == {"labels": pytest.approx(0.25), "logits": 0.7}
    untouched = opened(tmp_path, recipe(None))
    assert settled(untouched, untouched.phases[0]) is untouched.phases[0]


@pytest.mark.parametrize("method", ["el2n", "grand", "uncertainty", "herding", "confidence"])
def test_the_teacher_judges_the_candidates(tmp_path, method):
    session = opened(tmp_path, recipe({"method": method, "fraction": 0.1}))
    phase = settled(session, session.phases[0])
    found = read_selected(Path(phase.data.select.manifest))  # pyright: ignore
    assert len(found.indices) == 20
    assert len(found.scores) == found.examples == 200
    assert found.method == {"method": method, "fraction": 0.1}
    if method != "herding":
        return
    examples = session.data(recipe_data(session)).train
    module = session.models["teacher"].module.eval()
    features: list[Any] = []
    module.get_submodule("head").register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].detach()))
    session.call("teacher")(module, examples.__getitems__(list(range(200))))
    from limbeck.data.selection.herding import herd

    assert found.indices == tuple(sorted(herd(features[0].double())[:20].tolist()))


def recipe_data(session: Session) -> Any:
    return session.recipe.data.model_copy(update={"select": None})


def test_scores_are_those_of_the_teacher_on_the_examples_as_they_are(tmp_path):
    data = {**FULL, "transforms": ["noise"], "select": {"method": "confidence", "top": 7, "teacher": "teacher"}}
    session = opened(tmp_path, {**SMALL, "data": data})
    module = session.models["teacher"].module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = read_selected(Path(settled(session, session.phases[0]).data.select.manifest))  # pyright: ignore
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    module.eval()
    with torch.no_grad():
        said = session.call("teacher")(module, session.data(recipe_data(session)).train.__getitems__(list(range(200)))).logits
    expected = said.double().softmax(1).amax(1)
    assert found.scores == pytest.approx(expected.tolist(), rel=1e-5)
    assert found.indices == tuple(sorted(expected.argsort(descending=True)[:7].tolist()))


def test_a_model_of_a_few_epochs_may_judge(tmp_path):
    select = {"method": "forgetting", "fraction": 0.5, "epochs": 3}
    session = opened(tmp_path, recipe(select))
    found = read_selected(Path(settled(session, session.phases[0]).data.select.manifest))  # pyright: ignore
    assert set(found.scores) <= {0.0, 1.0, 3.0}
    assert 3.0 in found.scores
    assert "scorer" not in session.models
    again = opened(tmp_path / "again", recipe(select))
    assert read_selected(Path(settled(again, again.phases[0]).data.select.manifest)) == found  # pyright: ignore
    el2n = opened(
        tmp_path / "el2n", recipe({"method": "el2n", "fraction": 0.5, "epochs": 1}, teacher=None, objective={"l": "cross_entropy"})
    )
    scores = read_selected(Path(settled(el2n, el2n.phases[0]).data.select.manifest)).scores  # pyright: ignore
    assert 0 < float(np.mean([score or 0.0 for score in scores])) < 1.42


def test_unlabelled_candidates_are_chosen_and_all_others_kept(tmp_path):
    data = {**FULL, "label_fraction": 0.25, "select": {"method": "per_class", "top": 2, "among": "unlabelled"}}
    session = opened(tmp_path, {**SMALL, "data": data})
    phase = settled(session, session.phases[0])
    whole, part = session.data(recipe_data(session)).train, session.data(phase.data).train
    found = read_selected(Path(phase.data.select.manifest))  # pyright: ignore
    labelled = [i for i, value in enumerate(whole.labels.tolist()) if value >= 0]
    assert set(labelled) < set(found.indices)
    assert all(found.scores[i] is None for i in labelled)
    assert 0 < len(part) - len(labelled) <= 20


def test_a_pool_is_chosen_from_and_held_out_images_are_left_out(tmp_path):
    session = opened(tmp_path, {**SMALL, "data": FULL})
    held = session.data().test.__getitems__([4, 9]).inputs[:, 0].numpy()
    x = np.concatenate([np.random.default_rng(0).random((8, 8, 8), dtype=np.float32), held])
    np.savez(tmp_path / "pool.npz", x=x, y=np.zeros(10, dtype=int))
    select = {"method": "random", "top": 10, "among": "pool", "apart": 0}
    pooled = opened(tmp_path, {**SMALL, "data": {**FULL, "pool": f"npz:{tmp_path / 'pool.npz'}", "select": select}})
    found = read_selected(Path(settled(pooled, pooled.phases[0]).data.select.manifest))  # pyright: ignore
    assert found.indices == tuple(range(208))
    assert found.scores[208:] == (None, None)


def test_no_candidate_left_is_told(tmp_path):
    session = opened(tmp_path, recipe({"method": "random", "top": 3, "among": "pool"}))
    with pytest.raises(LimbeckError, match=r"no candidate is left to choose from \(among: pool\)"):
        settled(session, session.phases[0])
    table = {**SMALL, "task": "regression", "data": {"source": "sklearn:diabetes", "select": {"method": "confidence", "top": 3}}}
    table |= {"student": {"model": "mlp"}, "teacher": {"model": "mlp", "weights": "random"}, "objective": {"l": "mse"}}
    session = opened(tmp_path, {**table, "objective": {"l": {"loss": "regression_kd"}}})
    with pytest.raises(LimbeckError, match="'confidence' is for one class an example, and the task is regression"):
        settled(session, session.phases[0])


def test_a_run_selects_and_goes_on_with_the_same_choice(tmp_path):
    given = recipe({"method": "el2n", "fraction": 0.5}, baseline=True)
    first = distill(given, out=tmp_path / "a")
    (file,) = (tmp_path / "a" / "selections").iterdir()
    assert len(read_selected(file).indices) == 100
    assert {stage["name"]: stage["updates"] for stage in first.results["stages"]} == {"alone": 6, "distil": 6}
    assert {stage["name"]: stage["train"] for stage in first.results["stages"]} == {"alone": 100, "distil": 100}
    assert first.results["data"]["train"] == 200
    stored = distill(recipe(str(file), baseline=True), out=tmp_path / "b")
    assert digest(stored.folder) == digest(first.folder)
    assert not (tmp_path / "b" / "selections").exists()
    assert [stage["train"] for stage in stored.results["stages"]] == [100, 100]
    whole = distill(recipe(None, baseline=True), out=tmp_path / "c")
    assert digest(whole.folder) != digest(first.folder)
    assert [stage["train"] for stage in whole.results["stages"]] == [200, 200]


def test_a_choice_that_is_there_is_not_made_again(tmp_path):
    session = opened(tmp_path, recipe({"method": "random", "fraction": 0.5}))
    path = Path(settled(session, session.phases[0]).data.select.manifest)  # pyright: ignore
    old = read_selected(path)
    Selected(old.examples, old.data, (1, 2, 3)).write(path)
    assert len(session.data(settled(session, session.phases[0]).data).train) == 3


def test_a_store_holds_what_is_selected(tmp_path):
    given = recipe({"method": "random", "fraction": 0.5})
    label(given, Labelling(tmp_path / "store", {}))
    assert read_manifest(tmp_path / "store").examples == 100
    label(given, Labelling(tmp_path / "store", {}))
    distill({**given, "teacher": {"stored": str(tmp_path / "store")}}, out=tmp_path / "run")


def test_the_command_writes_what_a_recipe_reads(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = recipe("kept.json")
    Path("r.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
    assert main(["check", "r.yaml"]) == 2
    assert "there is no such selection. Write it with `limbeck select RECIPE --out" in " ".join(capsys.readouterr().err.split())
    assert main(["select", "r.yaml", "--method", "herding", "--fraction", "0.1", "--field", "balanced=true"]) == 0
    assert "kept.json: 20 of 200 training examples (10.0%), chosen by herding" in capsys.readouterr().out
    assert json.loads(Path("kept.json").read_text())["method"] == {"method": "herding", "fraction": 0.1, "balanced": True}
    assert main(["check", "r.yaml"]) == 0
    assert main(["select", "r.yaml", "--method", "random", "--top", "5", "--out", "few.json"]) == 0
    assert len(read_selected(Path("few.json")).indices) == 5
    capsys.readouterr()
    for words, message in (
        (["--method", "hrding", "--top", "5"], "no selection is called 'hrding'. Did you mean 'herding'?"),
        (["--method", "random", "--top", "5", "--field", "sed=3"], "sed: unknown key of selection 'random' (got 3). Did you mean 'seed'?"),
        (["--method", "random", "--top", "5", "--field", "sed"], "--field sed: expected KEY=VALUE, such as balanced=true."),
        (["--method", "random", "--fraction", "1.5"], "--fraction: expected a number <= 1, found 1.5."),
        (["--method", "forgetting", "--top", "5"], "expected `epochs` for 'forgetting'"),
        (
            ["--method", "el2n", "--top", "5", "--teacher", "techer"],
            "no model of this recipe is called 'techer'. Did you mean 'teacher'?",
        ),
    ):
        assert main(["select", "r.yaml", *words]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    Path("plain.yaml").write_text(yaml.safe_dump(recipe(None)))
    assert main(["select", "plain.yaml", "--method", "random", "--top", "5"]) == 2
    assert "no file to write: name it with --out" in " ".join(capsys.readouterr().err.split())


def test_the_command_trains_the_teacher_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = {"teacher": {"learner": "teacher", "objective": {"l": "cross_entropy"}}, "distil": {}}
    untrained = recipe(None)
    trained = recipe(None, teacher={**SMALL["student"]}, stages=stages, train={**SMALL["train"], "epochs": 20})
    for name, given in (("untrained", untrained), ("trained", trained)):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
        assert main(["select", f"{name}.yaml", "--method", "el2n", "--fraction", "0.5", "--out", f"{name}.json"]) == 0
    means = [np.mean([score or 0.0 for score in read_selected(Path(f"{name}.json")).scores]) for name in ("untrained", "trained")]
    assert means[1] < 0.95 * means[0]


def problems(select: Any, **changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe(select, **changes))
    return "\n".join(f"{problem.key}: {problem.message}" for problem in caught.value.problems)


def test_mistakes_in_a_selection_are_found_by_the_check():
    assert problems({}) == "data.select: expected either a manifest or a method, found neither."
    assert problems({"manifest": "a", "method": "random"}) == "data.select: expected either a manifest or a method, found both."
    assert problems({"method": "random"}) == "data.select: expected either `fraction` or `top`, found neither."
    assert problems({"method": "random", "fraction": 0.1, "top": 3}) == "data.select: expected either `fraction` or `top`, found both."
    text = problems({"method": "randm", "fraction": 0.1})
    assert text == "data.select.method: no selection is called 'randm'. Did you mean 'random' or 'grand'?"
    text = problems({"method": "uncertainty", "fraction": 0.1, "mesure": "margin"})
    assert text == "data.select.mesure: unknown key of selection 'uncertainty' (got 'margin'). Did you mean 'measure'?"
    assert "data.select.measure: expected 'entropy', 'least_confidence' or 'margin'" in problems(
        {"method": "uncertainty", "fraction": 0.1, "measure": "margn"}
    )
    assert "expected `epochs` for 'forgetting', which watches a model while it is trained" in problems({"method": "forgetting", "top": 3})
    text = problems({"method": "random", "top": 3, "teacher": "techer"})
    assert text == "data.select.teacher: no model of this recipe is called 'techer'. Did you mean 'teacher'?"
    assert "data.pool.source" in problems(None, data={**FULL, "pool": "sklern:digits"})
    assert "data.pool.args.x: unknown key" in problems(None, data={**FULL, "pool": {"source": "sklearn:digits", "args": {"x": 1}}})
    assert "no transform is called 'crp'" in problems(None, data={**FULL, "test_transforms": ["crp"]})


def weight(points: Any) -> str:
    return problems(None, objective={"l": {"loss": "cross_entropy", "weight": {"kept": points}}})


def test_mistakes_in_a_tied_weight_are_found_by_the_check():
    assert weight([[0.5, 1.0], [0.5, 2.0]]) == (
        "objective.l.weight.kept[1][0]: expected a share above 0.5 and at most 1, found 0.5: the points ascend."
    )
    assert "found 1.5: the points ascend" in weight([[0.1, 1.0], [1.5, 2.0]])
    assert "expected a share above 0 and at most 1, found 0" in weight([[0, 1.0]])
    assert "expected a number >= 0, found -1.0" in weight([[0.1, -1.0]])
    assert "expected 2 values, found 1" in weight([[0.1]])
    assert "expected a list" in weight(0.3)


def test_the_check_reads_the_manifest(tmp_path):
    Selected(150, "x", (1,)).write(tmp_path / "s.json")
    (problem,) = preflight(load_recipe(recipe(str(tmp_path / "s.json"))), allow_code=False).problems
    assert "it was made for 150 training examples, and the data have 200." in problem.message


OTHERS = {
    "mean": ({"kind": "ensemble", "members": ["teacher", "wide"]}, "ensemble"),
    "kept": ({"stored": "somewhere"}, "stored"),
    "slow": ({"kind": "ema"}, "ema"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_teacher_without_a_model_is_refused_before_the_run(name):
    spec, kind = OTHERS[name]
    wide = {"model": "mlp", "weights": "random"}
    given = recipe({"method": "confidence", "fraction": 0.5, "teacher": name}, teachers={"wide": wide, name: spec})
    with pytest.raises(RecipeError) as caught:
        load_recipe(given)
    (problem,) = caught.value.problems
    assert problem.key == "data.select.teacher"
    assert problem.message == (
        f"a selection asks one model, and '{name}' is a teacher of kind '{kind}', which has none of its own when the stage begins. "
        "Name 'student' or 'wide' or 'teacher' with `teacher`, or train a model for the purpose with `epochs`."
    )


def test_the_teacher_that_is_asked_where_none_is_named_has_a_model_too():
    ema = {"kind": "ema"}
    with pytest.raises(RecipeError, match=r"data\.select: a selection asks one model, and 'teacher' is a teacher of kind 'ema'"):
        load_recipe(recipe({"method": "el2n", "fraction": 0.5}, teacher=ema))
    for fine in ({"method": "random", "fraction": 0.5}, {"method": "el2n", "fraction": 0.5, "epochs": 1}):
        load_recipe(recipe(fine, teacher=ema))
    load_recipe(recipe({"method": "el2n", "fraction": 0.5, "teacher": "student"}, teacher=ema))
    frozen = {**SMALL["teacher"], "kind": "frozen"}
    load_recipe(recipe({"method": "herding", "fraction": 0.5, "teacher": "wide"}, teachers={"wide": frozen}))


def test_the_command_refuses_a_teacher_without_a_model_before_anything_is_trained(tmp_path, monkeypatch):
    """Also one that only the command names."""
    teach = {"learner": "teacher", "objective": {"labels": "cross_entropy"}, "train": {"epochs": 10_000}}
    both = {"kind": "ensemble", "members": ["teacher", "wide"]}
    teachers = {"wide": {"model": "mlp", "weights": "random"}, "both": both}
    given = {**recipe(None), "stages": {"teach": teach, "distil": {}}, "teachers": teachers}
    for name, message in (
        ("both", "--teacher both: a selection asks one model, and 'both' is a teacher of kind 'ensemble'"),
        ("wid", "Did you mean 'wide'"),
    ):
        wish = SelectSpec(method="el2n", fraction=0.5, teacher=name)
        with pytest.raises(LimbeckError, match=message):
            select(given, wish, tmp_path / "kept.json")
