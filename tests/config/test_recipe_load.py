"""Composition, stages, shorthands, provenance and the resolved recipe."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from recipe_problems import problems, recipe

from limbeck.config.load import LoadedRecipe, load_recipe
from limbeck.errors import RecipeError


def load(text: str, **arguments: object) -> LoadedRecipe:
    Path("r.yaml").write_text(text)
    return load_recipe("r.yaml", **arguments)  # type: ignore[arg-type]


def origins(loaded: LoadedRecipe) -> dict[str, str]:
    """Stripped line without comment to comment."""
    pairs = [line.split("  # ") for line in loaded.resolved().splitlines() if "  # " in line]
    return {line.strip(): origin for line, origin in pairs}


def test_bases_merge_in_order_and_null_removes():
    Path("base").mkdir()
    Path("base/a.yaml").write_text(
        recipe({"train": "{epochs: 1, clip: 1.0, batch_size: 8}", "data": '{source: "sklearn:digits", transforms: [flip, noise]}'})
    )
    Path("base/b.yaml").write_text("train: {epochs: 2}\nobjective: {logits: {temperature: 2}}\n")
    loaded = load(
        "extends: [base/a.yaml, base/b.yaml]\n"
        "train: {clip: null, batch_size: 16}\nteacher: null\nobjective: {logits: null, labels: {weight: 2}}\ndata: {transforms: [vflip]}\n"
    )
    assert loaded.recipe.train.epochs == 2
    assert loaded.recipe.train.clip is None
    assert loaded.recipe.train.batch_size == 16
    assert loaded.recipe.teacher is None
    assert list(loaded.recipe.objective) == ["labels"]
    assert loaded.recipe.objective["labels"].weight == 2.0
    assert loaded.recipe.data.transforms == ["vflip"]
    assert loaded.locate("train.epochs").where == f"{Path('base/b.yaml')}:1:17"
    assert loaded.locate("task").where == f"{Path('base/a.yaml')}:2:7"


def test_base_of_a_base_is_relative_to_it():
    Path("one/two").mkdir(parents=True)
    Path("one/two/top.yaml").write_text(recipe({}))
    Path("one/mid.yaml").write_text("extends: two/top.yaml\nseed: 1\n")
    loaded = load("extends: one/mid.yaml\nabout: {notes: y}\n")
    assert loaded.recipe.seed == 1
    assert loaded.recipe.about.title == "x"


def test_circle_through_several_files():
    Path("a.yaml").write_text("extends: b.yaml\n")
    Path("b.yaml").write_text("extends: r.yaml\n")
    with pytest.raises(RecipeError, match=r"b\.yaml:1:10: extends: .* found a circle: r\.yaml -> a\.yaml -> b\.yaml -> r\.yaml\."):
        load("extends: a.yaml\n")


def test_a_diamond_is_no_circle():
    Path("top.yaml").write_text(recipe({}))
    Path("a.yaml").write_text("extends: top.yaml\nseed: 1\n")
    Path("b.yaml").write_text("extends: top.yaml\nbaseline: true\n")
    loaded = load("extends: [a.yaml, b.yaml]\n")
    assert (loaded.recipe.seed, loaded.recipe.baseline) == (1, True)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        (
            {"train": "{schedule: linear, optimizer: sgd, ema: 0.9, early_stop: 3}"},
            lambda r: (
                (r.train.schedule.name, r.train.optimizer.name, r.train.ema.decay, r.train.early_stop.patience) == ("linear", "sgd", 0.9, 3)
            ),
        ),
        ({"train": "{mixture: 20}"}, lambda r: r.train.mixture.every == 20),
        ({"student": '"timm:resnet18"'}, lambda r: r.student.model == "timm:resnet18"),
        ({"teachers": "{big: resnet}"}, lambda r: r.teachers["big"].model == "resnet"),
        ({"models": "{critic: {model: mlp, optimizer: adam}}"}, lambda r: r.models["critic"].optimizer.name == "adam"),
        (
            {"objective": "{hint: {loss: hint, student: a, teacher: b, adapter: conv1x1}}"},
            lambda r: (
                (r.objective["hint"].student, r.objective["hint"].teacher, r.objective["hint"].adapter.kind) == (["a"], ["b"], "conv1x1")
            ),
        ),
        (
            {"objective": "{logits: {loss: kd, targets: logit_standardization}}"},
            lambda r: [target.name for target in r.objective["logits"].targets] == ["logit_standardization"],
        ),
        (
            {"objective": "{logits: {loss: kd, targets: {name: logit_standardization, variant: official}}}"},
            lambda r: (
                [(target.name, target.model_extra) for target in r.objective["logits"].targets]
                == [("logit_standardization", {"variant": "official"})]
            ),
        ),
        (
            {"objective": "{logits: {loss: kd, targets: [logit_standardization, {name: logit_standardization, epsilon: 1e-3}]}}"},
            lambda r: [target.model_extra for target in r.objective["logits"].targets] == [{}, {"epsilon": 1e-3}],
        ),
        ({"objective": "{logits: {loss: kd, targets: null}}"}, lambda r: r.objective["logits"].targets == []),
        ({"data": "{source: sklearn:digits, transforms: flip}"}, lambda r: r.data.transforms == ["flip"]),
        ({"track": "wandb"}, lambda r: r.track == ["wandb"]),
        ({"stages": "{a: {trainable: head.*}}"}, lambda r: r.stages["a"].trainable == ["head.*"]),
        ({"stages": "{a: null}"}, lambda r: r.stages["a"].train.epochs == 3),
        ({"student": "{model: mlp, normalize: {mean: [0.5], std: [1]}}"}, lambda r: r.student.normalize.std == [1.0]),
    ],
)
def test_shorthands(changes, check):
    loaded = load(recipe(changes))
    assert check(loaded.recipe)
    Path("again.yaml").write_text(loaded.resolved())
    assert load_recipe("again.yaml").recipe == loaded.recipe


def test_targets_are_replaced_as_a_whole_and_written_only_where_there_are_some():
    Path("base.yaml").write_text(recipe({"objective": "{logits: {loss: kd, targets: logit_standardization}, labels: cross_entropy}"}))
    stages = (
        "{a: {objective: {logits: {targets: {name: logit_standardization, variant: official}}}}, b: {objective: {logits: {targets: []}}}}"
    )
    loaded = load(f"extends: base.yaml\nstages: {stages}\n")
    found = {name: stage.objective["logits"].targets for name, stage in loaded.recipe.stages.items()}
    assert [target.model_extra for target in found["a"]] == [{"variant": "official"}]
    assert found["b"] == []
    assert loaded.resolved().count("targets:") == 3
    Path("again.yaml").write_text(loaded.resolved())
    assert load_recipe("again.yaml").recipe == loaded.recipe
    assert "targets" not in load(recipe({})).resolved()


def test_a_scalar_shorthand_replaces_and_a_mapping_merges():
    Path("base.yaml").write_text(recipe({"train": "{optimizer: {name: sgd, lr: 0.1, momentum: 0.9}, schedule: {name: step, gamma: 0.5}}"}))
    train = load("extends: base.yaml\ntrain: {optimizer: adamw, schedule: {warmup: 0.1}}\n").recipe.train
    assert (train.optimizer.name, train.optimizer.lr, train.optimizer.model_extra) == ("adamw", 1e-3, {})
    assert (train.schedule.name, train.schedule.gamma, train.schedule.warmup) == ("step", 0.5, 0.1)


STAGES = recipe(
    {
        "train": "{epochs: 9, clip: 1.0, optimizer: {name: sgd, momentum: 0.9}}",
        "objective": "{labels: {loss: cross_entropy, weight: 0.5}, logits: kd, hint: {loss: hint, student: a}}",
        "stages": """
  warm: {learner: teacher, objective: {labels: cross_entropy}, train: {epochs: 3}}
  first: {objective: {hint: null, labels: {weight: 2}}, train: {clip: null, optimizer: {momentum: null, lr: 0.5}}}
  last:
""",
    }
)


def test_stages_are_complete():
    recipe_ = load(STAGES).recipe
    warm, first, last = recipe_.stages.values()
    assert (warm.train.epochs, warm.train.clip) == (3, 1.0)
    assert list(warm.objective) == ["labels"]
    assert warm.objective["labels"].weight == 1.0
    assert (first.train.epochs, first.train.clip) == (9, None)
    assert (first.train.optimizer.lr, first.train.optimizer.model_extra) == (0.5, {})
    assert list(first.objective) == ["labels", "logits"]
    assert first.objective["labels"].weight == 2.0
    assert last.objective == recipe_.objective
    assert last.teacher == recipe_.teacher
    assert last.data == recipe_.data
    assert list(recipe_.phases()) == ["warm", "first", "last"]
    phases = load(recipe({})).recipe.phases()
    assert list(phases) == ["distil"]
    assert phases["distil"].train.epochs == 3


def test_resolved_stages_load_again():
    loaded = load(STAGES)
    Path("again.yaml").write_text(loaded.resolved())
    assert load_recipe("again.yaml").recipe == loaded.recipe
    assert origins(loaded)["hint: null"] == "r.yaml:10"


def test_hyper_parameters_and_their_schedules():
    term = load(
        recipe({"objective": "{logits: {loss: kd, temperature: {schedule: cosine, start: 8, end: 1}}, hint: {loss: dkd}}"})
    ).recipe.objective
    assert "temperature" not in term["logits"].options
    ramp = term["logits"].schedules["temperature"]
    assert (ramp.schedule, ramp.start, ramp.end, ramp.begin, ramp.until) == ("cosine", 8.0, 1.0, 0.0, 1.0)
    assert set(term["hint"].options) >= {"alpha", "beta", "temperature"}


def test_overrides():
    loaded = load(
        recipe({}),
        set=[
            "train.epochs=7",
            "train.schedule=linear",
            "objective.logits=null",
            "objective.new={loss: kd, temperature: 2}",
            "teacher.weights=random",
            "data.transforms=[flip, vflip]",
        ],
    )
    assert loaded.recipe.train.epochs == 7
    assert loaded.recipe.train.schedule.name == "linear"
    assert list(loaded.recipe.objective) == ["labels", "new"]
    assert loaded.recipe.data.transforms == ["flip", "vflip"]
    assert loaded.locate("train.epochs").where == "--set train.epochs=7"
    assert origins(loaded)["epochs: 7"] == "--set"
    same = load(
        recipe({}),
        set={
            "train.epochs": 7,
            "train.schedule": "linear",
            "objective.logits": None,
            "objective.new": {"loss": "kd", "temperature": 2},
            "teacher.weights": "random",
            "data.transforms": ("flip", "vflip"),
        },
    )
    assert same.recipe == loaded.recipe


def test_origins():
    Path("base").mkdir()
    Path("recipes").mkdir()
    Path("base/digits.yaml").write_text(recipe({}))
    Path("recipes/r.yaml").write_text("extends: ../base/digits.yaml\nseed: 4\n")
    found = origins(load_recipe("recipes/r.yaml", set=["train.clip=0.5"]))
    assert found["seed: 4"] == "r.yaml:2"
    assert found["epochs: 3"] == "../base/digits.yaml:7"
    assert found["clip: 0.5"] == "--set"
    assert found["batch_size: 64"] == "default"


def test_inferred_values():
    loaded = load(recipe({"objective": "{hint: {loss: hint, student: a, teacher: b}}"}))
    more = loaded.with_inferred({"objective.hint.adapter": {"kind": "conv1x1"}, "student.normalize": {"mean": [0.5], "std": [0.25]}})
    assert more.recipe.objective["hint"].adapter.kind == "conv1x1"
    assert origins(more)["kind: conv1x1"] == "inferred"
    assert origins(more)["mean: [0.5]"] == "inferred"
    assert origins(more)["epochs: 3"] == "r.yaml:7"
    assert loaded.recipe.objective["hint"].adapter.kind == "auto"
    Path("again.yaml").write_text(more.resolved())
    assert load_recipe("again.yaml").recipe == more.recipe


def test_problem_found_later():
    loaded = load(recipe({"objective": "\n  hint: {loss: hint, student: [layr2], teacher: layer3}"}))
    assert str(loaded.problem("objective.hint.student[0]", "no layer is called 'layr2'.")) == (
        "r.yaml:7:32: objective.hint.student[0]: no layer is called 'layr2'.\n"
        "      hint: {loss: hint, student: [layr2], teacher: layer3}\n"
        "                                   ^"
    )
    assert loaded.problem(("objective", "hint", "weight"), "too large").where == "r.yaml:7:3"
    assert loaded.problem("train.schedule.name", "x").where == "r.yaml:8:1"


def test_python_mapping():
    values = {
        "task": "classification",
        "data": "sklearn:digits",
        "student": {"model": "mlp", "args": {"hidden": (8,)}},
        "objective": {"labels": "cross_entropy"},
    }
    loaded = load_recipe(values, set={"seed": 3})
    assert loaded.path is None
    assert loaded.recipe.seed == 3
    assert loaded.problem("student.args.hidden", "x").where == "recipe"
    assert origins(loaded)["hidden: [8]"] == "given"
    assert values["student"] == {"model": "mlp", "args": {"hidden": (8,)}}


CODE = '''
from dataclasses import dataclass
from limbeck.losses.base import Loss
from limbeck.types import Needs, Positive

raise_if_imported = open("imported", "w")
raise_if_imported.close()

@dataclass(eq=False, repr=False, kw_only=True)
class Mine(Loss):
    """Mine."""
    power: Positive = 2.0
    @property
    def needs(self):
        return Needs(logits=True)
    def forward(self, student, teacher, labels=None):
        return (student.logits - teacher.logits).abs().sum(-1) ** self.power
'''


def test_local_code_runs_only_where_allowed(monkeypatch):
    Path("my_recipe_code.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    text = recipe({"student": "my_recipe_code:make", "objective": "{mine: {loss: 'my_recipe_code:Mine', power: -1, zzz: 3}}"})
    loaded = load(text)
    assert loaded.code == ["my_recipe_code:make", "my_recipe_code:Mine"]
    assert loaded.recipe.objective["mine"].options == {"power": -1, "zzz": 3}
    assert not Path("imported").exists()
    assert problems(text, allow_code=True) == [
        "6:56: objective.mine.power: expected a number > 0, found -1.",
        "6:60: objective.mine.zzz: unknown key of loss 'my_recipe_code:Mine' (got 3)."
        " Known: adapter, from, layers, loss, only, power, student, targets, teacher, weight.",
    ]
    assert Path("imported").exists()


TARGET = '''
from dataclasses import dataclass
from limbeck.targets.base import Target

open("imported", "w").close()

@dataclass(eq=False, repr=False, kw_only=True)
class Sharper(Target):
    """Mine."""
    factor: float
    def forward(self, student, teacher):
        return student, teacher
'''


def test_a_local_target_runs_only_where_allowed(monkeypatch):
    Path("my_target_code.py").write_text(TARGET)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    text = recipe({"objective": "{logits: {loss: kd, targets: {name: 'my_target_code:Sharper', zzz: 3}}}"})
    assert load(text).code == ["my_target_code:Sharper"]
    assert not Path("imported").exists()
    assert problems(text, allow_code=True) == [
        "6:41: objective.logits.targets[0]: expected the argument 'factor' of target 'my_target_code:Sharper', found nothing.",
        "6:74: objective.logits.targets[0].zzz: unknown key of target 'my_target_code:Sharper' (got 3). Known: factor, name.",
    ]
    assert Path("imported").exists()
    wrong = recipe({"objective": "{logits: {loss: kd, targets: 'my_target_code:dataclass'}}"})
    assert problems(wrong, allow_code=True) == [
        "6:41: objective.logits.targets[0].name: the target 'my_target_code:dataclass' cannot be used: "
        "'my_target_code:dataclass' is no target: it must be a class that extends limbeck.targets.base.Target."
    ]


def test_relative_paths(monkeypatch):
    """Beside the file that names them, beside the recipe, then in the working directory."""
    Path("base/data").mkdir(parents=True)
    Path("base/data/table.csv").write_text("a,b\n1,2\n")
    Path("recipes").mkdir()
    Path("recipes/w.pt").write_text("")
    Path("base/b.yaml").write_text(recipe({"data": '{source: "csv:data/table.csv", args: {target: b}}'}))
    Path("recipes/r.yaml").write_text("extends: ../base/b.yaml\nteacher: {model: convnet, weights: w.pt}\n")
    loaded = load_recipe("recipes/r.yaml")
    assert loaded.find("data/table.csv", "data.source").samefile("base/data/table.csv")
    assert loaded.find("w.pt", "teacher.weights") == Path.cwd() / "recipes/w.pt"
    assert loaded.find("nowhere") is None
    Path("runs/one").mkdir(parents=True)
    kept = Path("runs/one/recipe.yaml")
    kept.write_text(loaded.resolved(kept.parent))
    again = load_recipe(kept)
    assert again.recipe.data.source == "csv:../../base/data/table.csv"
    assert again.recipe.teacher.weights == "../../recipes/w.pt"
    monkeypatch.chdir("runs")
    assert load_recipe("one/recipe.yaml").recipe == again.recipe


def test_command():
    Path("r.yaml").write_text(recipe({}))
    code = (
        "import argparse, sys; from limbeck.cli import resolve as c; p = argparse.ArgumentParser(); "
        "c.configure(p); sys.exit(c.main(p.parse_args()))"
    )
    done = subprocess.run([sys.executable, "-c", code, "r.yaml", "--set", "seed=5"], capture_output=True, text=True, check=True)
    assert "seed: 5                                       # --set" in done.stdout


def test_a_whole_recipe_is_laid_over_another_from_the_command_line():
    Path("over").mkdir()
    Path("over/data.yaml").write_text('extends: more.yaml\ndata: {source: "csv:t.csv", limit: 7}\ntrain: {epochs: 5}\n')
    Path("over/more.yaml").write_text("seed: 3\ntrain: {epochs: 4, batch_size: 9}\n")
    Path("over/t.csv").write_text("a,label\n1,x\n")
    text = recipe({"data": '{source: "sklearn:digits", limit: 20, size: 4}', "train": "{epochs: 1, clip: 1.0}"})
    loaded = load(text, set=["train.clip=2.0", "extends=over/data.yaml", "train.epochs=6"])
    found = loaded.recipe
    assert (found.data.source, found.data.limit, found.data.size, found.seed) == ("csv:t.csv", 7, 4, 3)
    assert (found.train.epochs, found.train.batch_size, found.train.clip) == (6, 9, 2.0)
    assert loaded.find("t.csv", "data.source") == Path("over/t.csv").resolve()  # beside the file that names it
    assert load(text, set={"extends": ["over/more.yaml", "over/data.yaml"]}).recipe.train.epochs == 5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("over.yml", "expected the path of a recipe, found 'over.yml', which does not exist. Did you mean 'over.yaml' or 'r.yaml'?"),
        ("3", "expected the path of a recipe or a list of them, found 3."),
    ],
)
def test_what_cannot_be_laid_over_is_told_at_the_override(value: str, message: str):
    Path("over.yaml").write_text("seed: 1\n")
    assert problems(recipe({}), set=[f"extends={value}"]) == [f"--set extends={value}: extends: {message}"]


def test_a_problem_of_what_is_laid_over_stands_there():
    Path("over.yaml").write_text("seed: 1\ntrain: {epoch: 2}\n")
    with pytest.raises(RecipeError, match=r"\nover\.yaml:2:9: train\.epoch: unknown key"):
        load(recipe({}), set={"extends": "over.yaml"})


@pytest.mark.parametrize("split", [{"valid": 0.1}, {"folds": 4, "fold": 2}])
def test_a_resolved_recipe_says_only_what_its_cut_reads(split: dict[str, Any], tmp_path: Path) -> None:
    recipe = {
        "task": "classification",
        "data": {"source": "sklearn:digits", "split": split},
        "student": "mlp",
        "objective": {"a": "cross_entropy"},
    }
    loaded = load_recipe({**recipe, "stages": {"one": {"data": {"limit": 9}}, "two": {}}})
    file = tmp_path / "recipe.yaml"
    file.write_text(loaded.resolved(tmp_path))
    assert load_recipe(file).recipe == loaded.recipe


@pytest.mark.parametrize("scheme", ["hf", "llama2c"])
def test_models_in_files_are_found_from_another_folder(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "large.bin").mkdir(parents=True)
    for name in ("recipes", "run/inner"):
        (tmp_path / name).mkdir(parents=True)
    model = f"{scheme}:../models/large.bin"
    given = {"task": "classification", "data": "sklearn:digits", "student": "mlp", "teacher": model, "objective": {"a": "kd"}}
    (tmp_path / "recipes" / "mine.yaml").write_text(yaml.safe_dump(given))
    monkeypatch.chdir(tmp_path / "recipes")
    loaded = load_recipe("mine.yaml")
    again = tmp_path / "run" / "inner" / "recipe.yaml"
    again.write_text(loaded.resolved(again.parent))
    monkeypatch.chdir(tmp_path)
    teacher = load_recipe(again).recipe.teacher
    assert teacher is not None
    assert teacher.model == f"{scheme}:../../models/large.bin"
