"""The exact texts of files that cannot be read, overrides, bases, and whole messages."""

# ruff: noqa: E501 - the texts are whole

from __future__ import annotations

from pathlib import Path

import pytest
from recipe_problems import problems, recipe

from limbeck.config.load import load_recipe
from limbeck.errors import RecipeError

TEXTS = {
    "dup": ("task: a\ndata: x\ntask: b\n", ["3:1: task: duplicate key; it is first given in line 1."]),
    "merge": (
        "a: &a {x: 1}\nb: {<<: *a}\n",
        ["2:5: b.<<: merge keys are not part of YAML 1.2. Use `extends: FILE` to build on another recipe."],
    ),
    "tag": (
        "task: !!python/object:os.system x\n",
        ["1:7: task: expected a plain value, found the tag '!!python/object:os.system'. Recipes use no tags; remove it."],
    ),
    "tab": ("task: a\ntrain:\n\tepochs: 3\n", ["3:1: expected spaces, found a tab. YAML is indented and spaced with spaces only."]),
    "quote": ("task: @x\n", ["1:7: expected a value, found '@'. Text that begins with it must stand between quotes."]),
    "colon": (
        "task: a: b\n",
        ["1:8: expected no further ':' here, found one. Check the indentation, or put text that holds ': ' between quotes."],
    ),
    "nocolon": ("task: a\nstudent\n", ["2:1: expected `key: value`, found no ':'."]),
    "bracket": ("task: [a\nb: 3\n", ["2:2: expected ',' or the end of what the bracket in line 1 opens, found ':'."]),
    "alias": ("task: *x\n", ["1:7: task: expected an alias of an anchor above, found '*x', which no '&x' defines."]),
    "recursive": ("task: &x [*x]\n", ["1:11: task[0]: the alias '*x' stands inside of its own anchor '&x'."]),
    "empty": ("", ["1:1: expected a mapping of keys such as `task: classification`, found an empty file."]),
    "comment": ("# nothing\n", ["1:1: expected a mapping of keys such as `task: classification`, found an empty file."]),
    "listroot": ("- a\n", ["1:1: expected a mapping of keys such as `task: classification`, found a list."]),
    "docs": ("task: a\n---\ntask: b\n", ["2:1: expected one document, found a second one. Remove the `---` before it."]),
    "complex": ("? [a]\n: b\n", ["1:3: expected a name as key, found a list."]),
    "bigint": ("seed: 99999999999999999999999\n", ["1:7: seed: expected a whole number of at most 64 bits, found a larger one."]),
    "surrogate": ('task: "\\ud800"\n', ["1:7: task: expected valid text, found half of a surrogate pair."]),
    "escape": ('task: "\\UFFFFFFFF"\n', ["1:10: expected the code of a character after the backslash, found a number that is none."]),
    "control": ("task: a\x01b\n", ["1:8: expected printable text, found the character U+0001."]),
    "unclosed": ("task: [a, b\n", ["2:1: expected ',' or the end of what the bracket in line 1 opens, found the end of the file."]),
    "unquoted": ("task: 'a\n", ["1:7: expected a closing quote, found the end of the file."]),
    "indent": ("train:\n  epochs: 3\n seed: 1\n", ["3:2: expected the indentation of the block that begins in line 1, found another one."]),
    "keyless": (": 3\n", ["1:1: expected a name as key, found nothing before the ':'."]),
    "flowmap": ("train: {a: 1, b\nseed: 3\n", ["2:5: expected ',' or the end of what the bracket in line 1 opens, found ':'."]),
    "extends": (
        "extends: nowhere.yaml\n",
        ["1:10: extends: expected the path of a recipe, found 'nowhere.yaml', which does not exist. Did you mean 'r.yaml'?"],
    ),
    "extends2": ("extends: 3\n", ["1:10: extends: expected the path of a recipe or a list of them, found 3."]),
    "extends3": ("extends: r.yaml\n", ["1:10: extends: expected recipes that do not extend each other, found a circle: r.yaml -> r.yaml."]),
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.values(), ids=TEXTS)
def test_texts(text, expected):
    assert problems(text) == expected


def test_the_good_recipe_is_good():
    Path("r.yaml").write_text(recipe({}))
    assert load_recipe("r.yaml").recipe.train.epochs == 3


def test_whole_text():
    """Title, place, key, message, excerpt and caret."""
    Path("recipes").mkdir()
    Path("recipes/dkd.yaml").write_text(
        recipe({"objective": "\n  logits: {loss: dkd, weight: 0.5, beta: 8, temprature: 4}\n  extra:  {loss: ddk, weight: -1}"})
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe("recipes/dkd.yaml", set=["train.epochs=0"])
    assert (
        str(caught.value)
        == """4 problems in the recipe

recipes/dkd.yaml:7:45: objective.logits.temprature: unknown key of loss 'dkd' (got 4). Did you mean 'temperature'?
      logits: {loss: dkd, weight: 0.5, beta: 8, temprature: 4}
                                                ^

recipes/dkd.yaml:8:18: objective.extra.loss: no loss is called 'ddk'. Did you mean 'dkd'?
      extra:  {loss: ddk, weight: -1}
                     ^

recipes/dkd.yaml:8:31: objective.extra.weight: expected a number >= 0, found -1.
      extra:  {loss: ddk, weight: -1}
                                  ^

--set train.epochs=0: train.epochs: expected a number > 0, found 0."""
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=x", "--set train.epochs=x: train.epochs: expected a whole number, found 'x' (text)."),
        ("trian.epochs=3", "--set trian.epochs=3: trian: unknown key of the recipe (got a mapping). Did you mean 'train'?"),
        ("trian=null", "--set trian=null: trian: unknown key of the recipe (got nothing). Did you mean 'train'?"),
        ("objective.logit=null", "--set objective.logit=null: objective.logit: there is no term 'logit' to remove. Did you mean 'logits'?"),
        ("train.epochs", "--set train.epochs: expected KEY=VALUE such as `--set train.epochs=3`, found no '='."),
        ("=3", "--set =3: expected a key before the '='."),
        (
            "train..epochs=3",
            "--set train..epochs=3: expected KEY=VALUE with a dotted key such as `train.epochs=3`, found the key 'train..epochs'.",
        ),
        ("train=[1", "--set train=[1: expected ',' or the end of what the bracket in line 1 opens, found the end of the file."),
        ("track.0=x", "--set track.0=x: track.0: expected a key of a mapping; track is a list, which can only be set as a whole."),
    ],
)
def test_overrides(override, expected):
    assert problems(recipe({"track": "[wandb]"}), set=[override]) == [expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"train.epochs": 0}, "--set train.epochs=0: train.epochs: expected a number > 0, found 0."),
        (
            {"train.epochs": object},
            "--set train.epochs=<class 'object'>: train.epochs: expected a plain value (text, number, list, mapping), found an object of type 'type'.",
        ),
    ],
)
def test_overrides_from_python(values, expected):
    assert expected in problems(recipe({}), set=values)


def test_no_utf8():
    assert problems(b"task: a\nabout: {title: \xff}\n") == ["2:16: expected UTF-8 text, found the byte 0xff. Save the file as UTF-8."]


def test_too_large():
    assert problems("#" * 1_000_001) == ["1:1: expected a recipe of at most 1000000 bytes, found 1000001."]


def test_too_deep():
    assert problems("a: " + "[" * 100 + "]" * 100) == ["1:54: expected at most 50 levels of nesting, found more."]


def test_billion_laughs():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert problems("\n".join(lines)) == ["5:10: expected at most 20000 values (aliases counted in full), found more."]


def test_folder_and_missing_file():
    Path("folder").mkdir()
    Path("quick.yaml").write_text("")
    for name, expected in [
        ("folder", "folder:1:1: expected a recipe file, found a folder."),
        ("quik.yaml", "quik.yaml:1:1: expected a recipe file, found none. Did you mean 'quick.yaml'?"),
        ("nowhere/x.yaml", "nowhere/x.yaml:1:1: expected a recipe file, found none. There is no folder 'nowhere'."),
    ]:
        with pytest.raises(RecipeError) as caught:
            load_recipe(name)
        assert str(caught.value.problems[0]) == expected


def test_unreadable_file(monkeypatch):
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(RecipeError, match=r"r\.yaml:1:1: the recipe cannot be read: Permission denied\."):
        load_recipe("r.yaml")


def test_problem_in_a_base_is_shown_in_the_base():
    Path("base.yaml").write_text(recipe({"train": "{epoch: 3}"}))
    Path("r.yaml").write_text("extends: base.yaml\nseed: x\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml")
    assert sorted(str(problem).split("\n    ")[0] for problem in caught.value.problems) == [
        "base.yaml:7:9: train.epoch: unknown key of train (got 3). Did you mean 'epochs'?",
        "r.yaml:2:7: seed: expected a whole number, found 'x' (text).",
    ]


def test_inherited_value_of_stages_is_reported_once():
    assert problems(recipe({"train": "{epochs: 0}", "stages": "{a: {}, b: {}}"})) == ["7:17: train.epochs: expected a number > 0, found 0."]


def test_mapping_from_python():
    with pytest.raises(RecipeError) as caught:
        load_recipe(
            {"task": "classification", "data": "sklearn:digits", "student": "mlp", "objective": {"labels": "cros_entropy"}, "train": {1: 2}}
        )
    assert [str(problem) for problem in caught.value.problems] == ["recipe: train: expected text as key, found 1."]
    circle: dict[str, object] = {}
    circle["about"] = circle
    with pytest.raises(RecipeError, match=r"recipe: about\.about\.about: expected at most 50 levels of nesting, found more"):
        load_recipe(circle)


def test_long_and_wide_lines():
    """The excerpt is a window around the caret; wide characters take two columns."""
    with pytest.raises(RecipeError) as caught:
        load_recipe({}, set=[])
    Path("r.yaml").write_text(recipe({"about": "{title: 日本, papr: x}"}))
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml")
    line, caret = caught.value.problems[0].excerpt.split("\n")
    assert line == "    about: {title: 日本, papr: x}"
    assert caret.index("^") == line.index("papr") + 2
    Path("r.yaml").write_text(recipe({"about": "{title: " + "x" * 500 + ", papr: x, notes: " + "y" * 500 + "}"}))
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml")
    line, caret = caught.value.problems[0].excerpt.split("\n")
    assert len(line) <= 104
    assert line[caret.index("^") :].startswith("papr")
