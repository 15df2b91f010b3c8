"""Arms become recipes: changes, grids, lists of losses, other recipes; problems stand at their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from limbeck.config.load import LoadedRecipe, load_recipe
from limbeck.config.study_schema import StudySpec
from limbeck.config.variants import Variant, laid
from limbeck.errors import RecipeError
from limbeck.run import differences
from limbeck.study.arms import Arms, _variants, arms_of, seeds_of
from limbeck.study.conduct import Wish, plan
from tests.study.small import STAGED, write

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
STUDIES = [file for file in sorted(RECIPES.rglob("*.yaml")) if "\nstudy:" in file.read_text()]


def arms(folder: Path, own: Any, **more: Any) -> Any:
    return arms_of(load_recipe(write(folder, {"arms": own}, **more)))


def messages(folder: Path, study: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(RecipeError) as caught:
        plan(load_recipe(write(folder, study)), Wish())
    return [(problem.where.partition(":")[2], problem.key, problem.message) for problem in caught.value.problems]


def test_without_arms_there_is_the_recipe_itself():
    found = arms_of(load_recipe(STAGED))
    assert [(arm.name, arm.changes) for arm in found.found] == [("distilled", {})]
    assert found.problems == found.notes == []


def test_changes_are_laid_over_the_recipe_and_null_removes(tmp_path: Path):
    found = arms(tmp_path, {"same": {}, "alone": {"objective.logits": None}, "soft": {"objective.logits.temperature": 8, "seed": 3}}).found
    same, alone, soft = (arm.loaded.recipe for arm in found)
    assert list(same.objective) == ["labels", "logits"]
    assert list(alone.objective) == ["labels"]
    assert list(alone.stages["distil"].objective or {}) == ["labels"]
    assert soft.objective["logits"].options["temperature"] == 8
    assert soft.seed == 3
    assert [arm.changes for arm in found] == [{}, {"objective.logits": None}, {"objective.logits.temperature": 8, "seed": 3}]
    assert all(arm.loaded.recipe.study is None for arm in found)


def test_a_grid_is_written_out_and_its_arms_are_called_by_what_differs(tmp_path: Path):
    own = {"t": {"grid": {"objective.logits.temperature": [1, 4.5], "train.optimizer": ["sgd", {"name": "adamw", "lr": 1}]}, "seed": 9}}
    found = arms(tmp_path, own).found
    assert [arm.name for arm in found] == [
        "t,temperature=1,optimizer=sgd",
        "t,temperature=1,optimizer=_name__adamw__lr__1_",
        "t,temperature=4.5,optimizer=sgd",
        "t,temperature=4.5,optimizer=_name__adamw__lr__1_",
    ]
    assert [arm.loaded.recipe.objective["logits"].options["temperature"] for arm in found] == [1, 1, 4.5, 4.5]
    assert [arm.loaded.recipe.train.optimizer.name for arm in found] == ["sgd", "adamw"] * 2
    assert {arm.loaded.recipe.seed for arm in found} == {9}


def test_keys_of_a_grid_with_the_same_end_are_shown_in_full(tmp_path: Path):
    own = {"t": {"grid": {"objective.logits.weight": [0.5], "objective.labels.weight": [2]}}}
    assert [arm.name for arm in arms(tmp_path, own).found] == ["t,objective.logits.weight=0.5,objective.labels.weight=2"]


def test_losses_take_the_place_of_a_term_and_keep_its_weight(tmp_path: Path):
    objective = {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 2, "weight": 0.7}}
    found = arms(tmp_path, {"from": "losses", "names": ["dkd", "kd"], "alone": {"objective.logits": None}}, objective=objective).found
    assert [arm.name for arm in found] == ["dkd", "kd", "alone"]
    terms = [arm.loaded.recipe.objective["logits"] for arm in found[:2]]
    assert [(term.loss, term.weight) for term in terms] == [("dkd", 0.7), ("kd", 0.7)]
    assert terms[1].options.get("temperature") != 2


def test_losses_of_a_family_without_those_that_do_not_fit(tmp_path: Path):
    found = arms(tmp_path, {"from": "losses", "tags": "logits", "without": ["kd"]})
    names = [arm.name for arm in found.found]
    assert {"dkd", "dist", "nkd"} <= set(names)
    assert "kd" not in names
    assert "hint" not in names
    assert found.problems == []
    assert any(note.startswith("bernoulli_kd is left out: expected a loss for labels of kind 'class'") for note in found.notes)


def test_layers_are_kept_for_losses_that_read_them(tmp_path: Path):
    objective = {"labels": "cross_entropy", "inner": {"loss": "hint", "student": "head", "teacher": "head"}}
    found = arms(tmp_path, {"f": {"from": "losses", "names": ["pkt", "kd"], "label": "inner"}}, objective=objective)
    assert found.problems == []
    terms = {arm.name: arm.loaded.recipe.objective["inner"] for arm in found.found}
    assert (terms["pkt"].student, terms["pkt"].teacher) == (["head"], ["head"])
    assert (terms["kd"].student, terms["kd"].teacher) == ([], [])


def test_an_arm_may_be_another_recipe_or_one_that_is_laid_over(tmp_path: Path):
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**STAGED, "objective": {"labels": "cross_entropy"}}))
    (tmp_path / "over.yaml").write_text("train: {epochs: 7}")
    own = {"other": "other.yaml", "more": {"recipe": "other.yaml", "train.epochs": 5}, "over": {"extends": "over.yaml"}}
    found = arms_of(load_recipe(write(tmp_path, {"arms": own}), set=["train.batch_size=8"]), ["train.batch_size=8"]).found
    assert [(list(arm.loaded.recipe.objective), arm.loaded.recipe.train.epochs) for arm in found] == [
        (["labels"], 2),
        (["labels"], 5),
        (["labels", "logits"], 7),
    ]
    assert {arm.loaded.recipe.train.batch_size for arm in found} == {8}


def test_seeds_are_a_number_or_a_list(tmp_path: Path):
    spec = load_recipe(write(tmp_path, 3)).recipe.study
    listed = load_recipe(write(tmp_path, [4, 1, 4])).recipe.study
    assert spec is not None
    assert listed is not None
    assert (seeds_of(spec), seeds_of(listed)) == ([0, 1, 2], [4, 1])


def test_all_problems_of_all_arms_are_told_at_once_each_at_its_line(tmp_path: Path):
    study = {
        "seeds": 2,
        "arms": {
            "typo": {"objective.logits.temprature": 3},
            "gone": {"objective.hint": None},
            "low": {"train.epochs": 0},
            "lost": {"recipe": "smal.yaml"},
            "both": {"from": "losses", "grid": {"seed": [1]}},
            "none": {"from": "losses"},
            "where": {"from": "losses", "names": "kd", "label": "logit"},
            "stray": {"tags": ["logits"]},
        },
    }
    found = {key: (where, message) for where, key, message in messages(tmp_path, study)}
    lines = (tmp_path / "small.yaml").read_text().splitlines()
    line = {name: 1 + next(i for i, text in enumerate(lines) if text.strip().startswith(name)) for name in study["arms"]}
    assert found["study.arms.typo: objective.logits.temprature"][1].endswith("Did you mean 'temperature'?")
    assert found["study.arms.typo: objective.logits.temprature"][0].startswith(f"{line['typo'] + 1}:")
    assert found["study.arms.gone: objective.hint"][1] == "there is no term 'hint' to remove."
    assert found["study.arms.low: train.epochs"][1] == "expected a number > 0, found 0."
    assert found["study.arms.lost: recipe"][1] == (
        "expected the path of a recipe, found 'smal.yaml', which does not exist. Did you mean 'small.yaml'?"
    )
    assert found["study.arms.both"] == (f"{line['both']}:5", "expected either 'grid' or 'from', found both.")
    assert found["study.arms.none"][1] == (
        "expected `tags` (families of losses, such as [logits]) or `names` beside `from: losses`, found neither."
    )
    assert found["study.arms.where"][1] == (
        "expected a term called 'logit' in the objective, in whose place losses are put, found none. Did you mean 'logits'?"
    )
    assert found["study.arms.stray"][1] == "'tags' belongs to `from: losses`, found it without `from`."
    assert len(found) == 8


def test_how_claims_are_written_is_told_beside_the_problems_of_arms(tmp_path: Path):
    study = {"arms": {"typo": {"objective.logits.temprature": 3}}, "claims": ["nobody.accuracy > alone.accuracy", "typo.accuracy >"]}
    assert [key for _, key, _ in messages(tmp_path, study)] == ["study.arms.typo: objective.logits.temprature", "study.claims[1]"]


def test_the_same_problem_of_several_arms_is_told_once(tmp_path: Path):
    found = messages(tmp_path, {"arms": {"t": {"grid": {"objective.logits.weight": [1, 2, 3]}, "train.epochs": 0}}})
    assert [(key, message) for _, key, message in found] == [
        ("study.arms.t,weight=1: train.epochs (and 2 other arms)", "expected a number > 0, found 0.")
    ]


def test_two_arms_of_one_name_are_refused(tmp_path: Path):
    found = messages(tmp_path, {"arms": {"kd": {}, "f": {"from": "losses", "names": ["kd"]}}})
    assert [message for *_, message in found] == ["two arms are called 'kd': 'kd' and 'f'. Give one another name."]


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("distilled.accuracy > alon.accuracy", "column 22: no arm is called 'alon'. Did you mean 'alone'?"),
        ("distilled.size_bytes > 0.5", "column 1: size_bytes is called bytes."),
        ("distilled.accurracy > 0.5", "column 1: no metric of this task is called 'accurracy'. Did you mean 'accuracy'?"),
        (
            "distilled.before.accuracy > 0.5",
            "column 1: no metric of this task is called 'before.accuracy'. Did you mean 'before.metrics.accuracy'?",
        ),
        (
            "distilled.techer.accuracy > 0",
            "column 1: no metric or model of the arm 'distilled' is called 'techer'. Did you mean 'teacher'?",
        ),
    ],
)
def test_claims_are_checked_with_their_column(tmp_path: Path, claim: str, message: str):
    arms = {"distilled": {}, "alone": {"objective.logits": None}}
    ((_, key, found),) = messages(tmp_path, {"arms": arms, "claims": [claim]})
    assert key == "study.claims[0]"
    assert found.startswith(message)


@pytest.mark.parametrize(
    "claim",
    [
        "distilled.agreement.top1 > 0",
        "distilled.before.metrics.accuracy > distilled.before.agreement.top1 - 2",
        "distilled.teacher.ece < 1",
        "distilled.last.accuracy >= distilled.valid.nll - 9",
        "spearman(*.accuracy, *.ece) < 2",
        "distilled.step_time < 9 * alone.seconds",
    ],
)
def test_claims_that_name_what_is_measured_pass(tmp_path: Path, claim: str):
    study = {"arms": {"distilled": {}, "alone": {"objective.logits": None}}, "claims": claim}
    assert plan(load_recipe(write(tmp_path, study)), Wish()).claims == [claim]


def test_a_baseline_and_a_codec_that_do_not_exist(tmp_path: Path):
    found = messages(tmp_path, {"arms": {"distilled": {}}, "baseline": "distiled", "label": "topp:k=5"})
    assert [(key, message.partition(" Known")[0]) for _, key, message in found] == [
        ("study.baseline", "no arm is called 'distiled'. Did you mean 'distilled'?"),
        ("study.label", "the codec 'topp' of the store cannot be used: no codec is called 'topp'. Did you mean 'topk'?"),
    ]


def test_a_recipe_with_the_student_alone_claims_that_it_is_beaten():
    assert plan(load_recipe({**STAGED, "baseline": True}), Wish()).claims == ["distilled.accuracy > alone.accuracy"]
    assert plan(load_recipe(STAGED), Wish()).claims == []
    diabetes = Path(__file__).parents[2] / "recipes" / "regression" / "diabetes.yaml"
    assert plan(load_recipe(diabetes), Wish()).claims == ["distilled.rmse < alone.rmse"]


def test_a_resolved_recipe_keeps_its_study(tmp_path: Path):
    study = {"arms": {"alone": {"objective.logits": None}, "t": {"grid": {"objective.logits.temperature": [1, 2]}}, "same": {}}}
    loaded = load_recipe(write(tmp_path, study))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "again.yaml").write_text(loaded.resolved(tmp_path / "inner"))
    again = load_recipe(tmp_path / "inner" / "again.yaml")
    assert again.recipe == loaded.recipe
    assert [arm.name for arm in arms_of(again).found] == ["alone", "t,temperature=1", "t,temperature=2", "same"]


def test_claims_may_name_what_evaluate_adds(tmp_path: Path):
    claims = [
        "distilled.accuracy_gap < 1",
        "distilled.worst_accuracy > 0",
        "distilled.equalised_odds_gap + distilled.parity_gap < 2",
        "distilled.corrupted_accuracy > 0",
        "distilled.train_accuracy < 9",
        "distilled.gap > 0",
    ]
    asked = {"evaluate.groups": "block", "evaluate.corruptions": ["noise"], "evaluate.fidelity": True}
    assert [key for _, key, _ in messages(tmp_path, {"arms": {"distilled": asked}, "claims": claims})] == ["study.claims[5]"]
    found = messages(tmp_path, {"arms": {"distilled": {}}, "claims": claims})
    assert [key for _, key, _ in found] == [f"study.claims[{i}]" for i in (0, 1, 2, 2, 3, 4, 5)]


def test_paths_in_the_arms_of_a_resolved_recipe_hold_from_elsewhere(tmp_path: Path):
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**STAGED, "objective": {"labels": "cross_entropy"}}))
    (tmp_path / "over.yaml").write_text("seed: 3\n")
    arms = {"o": "other.yaml", "e": {"extends": "over.yaml"}, "l": {"extends": ["over.yaml"], "train.epochs": 4}}
    loaded = load_recipe(write(tmp_path, {"arms": arms}))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "again.yaml").write_text(loaded.resolved(tmp_path / "inner"))
    found = arms_of(load_recipe(tmp_path / "inner" / "again.yaml"))
    assert found.problems == []
    assert [(arm.loaded.recipe.seed, arm.loaded.recipe.train.epochs) for arm in found.found] == [(0, 2), (3, 2), (3, 4)]


def variants(loaded: LoadedRecipe) -> list[Variant]:
    return [variant for _, variant, _ in _variants(loaded, loaded.recipe.study or StudySpec(), Arms())]


@pytest.mark.parametrize("file", STUDIES, ids=[file.stem for file in STUDIES])
def test_arms_are_the_same_over_what_lies_in_the_folder(file: Path, tmp_path: Path):
    """Of every recipe with a study that is shipped and whose data are here."""
    try:
        loaded = load_recipe(file)
    except RecipeError as error:
        pytest.skip(f"cannot be read here: {error.problems[0].message}")
    copy = tmp_path / "recipe.yaml"
    copy.write_text(loaded.resolved(tmp_path, defaults=False))
    again = load_recipe(copy)
    assert differences(again, loaded) == []
    own, theirs = variants(again), variants(loaded)
    assert [variant.name for variant in own] == [variant.name for variant in theirs]
    for mine, other in zip(own, theirs, strict=True):
        assert differences(laid(again, mine, ()), laid(loaded, other, ())) == []
