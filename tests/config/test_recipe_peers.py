"""Peers in a recipe: short forms, inheritance, and the exact text of what can be wrong with them."""

# ruff: noqa: E501 - the texts are whole

from __future__ import annotations

from typing import Any

import pytest

from limbeck.config.load import load_recipe
from limbeck.errors import RecipeError
from limbeck.preflight import preflight

GOOD: dict[str, Any] = {
    "task": "classification",
    "data": "sklearn:digits",
    "student": {"model": "mlp", "args": {"hidden": [16]}},
    "models": {"wide": {"model": "mlp", "args": {"hidden": [24]}}, "maps": "convnet"},
    "peers": ["wide", "maps"],
    "objective": {"labels": "cross_entropy", "mutual": {"loss": "kd", "from": "peers"}},
}
TEACHER = {"model": "mlp", "args": {"hidden": [32]}, "weights": "random"}


def problems(changes: dict[str, Any]) -> list[str]:
    """What is said of the good recipe with some keys changed, by the first check that finds something."""
    recipe = {**GOOD, **changes}
    try:
        loaded = load_recipe({key: value for key, value in recipe.items() if value is not None})
    except RecipeError as error:
        return [f"{problem.key}: {problem.message}" for problem in error.problems]
    return [f"{problem.key}: {problem.message}" for problem in preflight(loaded, allow_code=False, device="cpu").problems]


def test_the_good_recipe_is_good():
    assert problems({}) == []
    assert problems({"teacher": TEACHER, "peers": {"teacher": {}, "wide": {"optimizer": "sgd"}}}) == []


@pytest.mark.parametrize("peers", ["wide", ["wide"], {"wide": {}}])
def test_short_forms(peers):
    recipe = load_recipe({**GOOD, "peers": peers}).recipe
    assert list(recipe.peers) == ["wide"]
    assert recipe.peers["wide"].objective is None


def test_terms_and_optimizers_of_peers_have_short_forms():
    own = {"objective": {"labels": "cross_entropy", "hint": {"loss": "hint", "from": "student", "student": "hidden1"}}, "optimizer": "sgd"}
    peer = load_recipe({**GOOD, "peers": {"wide": own}}).recipe.peers["wide"]
    assert peer.objective is not None
    assert peer.objective["labels"].loss == "cross_entropy"
    assert peer.objective["hint"].student == ["hidden1"]
    assert peer.optimizer is not None
    assert peer.optimizer.name == "sgd"


def test_only_stages_of_the_student_inherit_peers():
    stages = {
        "first": {"learner": "maps", "objective": {"labels": "cross_entropy"}},
        "second": {},
        "third": {"peers": ["wide"]},
        "last": {},
    }
    stages["last"] = {"peers": None, "objective": {"mutual": None}}
    recipe = load_recipe({**GOOD, "stages": stages}).recipe
    found = {name: list(stage.peers or {}) for name, stage in recipe.stages.items()}
    assert found == {"first": [], "second": ["wide", "maps"], "third": ["wide"], "last": []}


def test_a_list_replaces_and_a_mapping_merges():
    assert list(load_recipe(GOOD, set={"peers": ["maps"]}).recipe.peers) == ["maps"]
    assert list(load_recipe(GOOD, set={"peers.wide": None}).recipe.peers) == ["maps"]
    with pytest.raises(RecipeError, match=r"there is no peer 'wild' to remove. Did you mean 'wide'\?"):
        load_recipe(GOOD, set={"peers.wild": None})


OWN = {"labels": "cross_entropy"}
WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown": (
        {"peers": ["wied"]},
        [
            "peers.wied: no possible peer is called 'wied'. Did you mean 'wide'? `peers` are names under `models`, or teachers with a model of their own."
        ],
    ),
    "itself": (
        {"peers": ["student", "wide"]},
        ["peers.student: 'student' is what this stage trains. `peers` are names under `models`, or teachers with a model of their own."],
    ),
    "nobody": (
        {"peers": None},
        ["objective.mutual.from: expected peers in this stage, found none. Add `peers: [NAME]` beside `objective`."],
    ),
    "not_a_peer": (
        {"peers": ["maps"], "objective": {**OWN, "m": {"loss": "kd", "from": "wide"}}},
        ["objective.m.from: expected the peer 'wide' in this stage, found none. Add `peers: [wide]` beside `objective`."],
    ),
    "hears_itself": (
        {"peers": ["wide"], "objective": {**OWN, "m": {"loss": "kd", "from": "wide"}}},
        [
            "peers.wide: 'wide' shares the objective of the stage, whose term 'm' listens to 'wide' itself. "
            "Let the term listen to `peers`, or give 'wide' an `objective` of its own."
        ],
    ),
    "own_term_hears_itself": (
        {"peers": {"wide": {"objective": {"m": {"loss": "kd", "from": "wide"}}}}},
        ["peers.wide.objective.m.from: expected a teacher other than the learner, found 'wide', which is what this stage trains."],
    ),
    "misspelt": (
        {"peers": {"wide": {"objective": {"m": {"loss": "kd", "from": "studnet"}}}}},
        ["peers.wide.objective.m.from: no teacher is called 'studnet'. Did you mean 'student'?"],
    ),
    "unsaid": (
        {"objective": {**OWN, "m": "kd"}},
        ["objective.m.loss: expected `from` to say which teacher (wide, maps, peers), found nothing."],
    ),
    "no_terms": (
        {"peers": {"wide": {"objective": {}}}},
        [
            "peers.wide.objective: expected at least one term, such as `objective: {labels: cross_entropy}`, found none; only stages of the student inherit the recipe's."
        ],
    ),
    "optimizer": (
        {"peers": {"wide": {"optimizer": "sdg"}}},
        ["peers.wide.optimizer.name: expected a torch optimizer (any case) or timm:NAME, found 'sdg'. Did you mean 'SGD'?"],
    ),
    "reserved": (
        {"models": {**GOOD["models"], "peers": "mlp"}},
        ["models.peers: expected a name other than 'peers', which stands for all peers of a stage."],
    ),
    "key": ({"peers": {"wide": {"objectiv": {}}}}, ["peers.wide.objectiv: "]),
    "no_model": (
        {"teachers": {"slow": {"kind": "ema"}}, "peers": ["slow"]},
        ["peers.slow: a teacher of kind 'ema' has no model of its own, so it cannot learn."],
    ),
    "outputs": ({"models": {"wide": {"model": "mlp", "args": {"num_outputs": 3}}}, "peers": ["wide"]}, ["models.wide.model: "]),
    "layer": (
        {"peers": {"wide": {"objective": {"h": {"loss": "hint", "from": "student", "student": "hiden1"}}}}, "objective": OWN},
        ["peers.wide.objective.h.student: student mlp: ", "peers.wide.objective.h.student: teacher mlp: "],
    ),
    "layer_of_the_other": (
        {"peers": ["maps"], "objective": {**OWN, "h": {"loss": "hint", "from": "peers", "student": "hidden1"}}},
        ["objective.h.student: teacher convnet: ", "objective.h.student: student convnet: "],
    ),
}


@pytest.mark.parametrize(("changes", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong(changes, expected):
    found = problems(changes)
    assert len(found) == len(expected), found
    for one, text in zip(found, expected, strict=True):
        assert one.startswith(text) if text.endswith(": ") else one == text


def test_what_would_be_trained():
    plan = preflight(load_recipe(GOOD), allow_code=False, device="cpu").plan
    assert plan == ["stage distil: trains student with wide and maps for 10 epochs on labels (cross_entropy), mutual (kd)"]


def test_a_resolved_recipe_has_the_terms_of_its_peers(tmp_path: Any):
    """A peer's own objective, at the top and in a stage, reads back as it was."""
    own = {"wide": {"objective": {"labels": {"loss": "cross_entropy", "label_smoothing": 0.1}, "back": {"loss": "kd", "from": "student"}}}}
    for changes in ({"peers": own}, {"stages": {"both": {"peers": own}}, "peers": None}):
        recipe = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
        loaded = load_recipe({**recipe, "objective": {"labels": "cross_entropy"}})
        (tmp_path / "again.yaml").write_text(loaded.resolved())
        assert load_recipe(tmp_path / "again.yaml").recipe == loaded.recipe
