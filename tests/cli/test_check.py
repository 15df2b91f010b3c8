"""limbeck check: what a person who writes a recipe reads when something is wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from limbeck.cli.main import main

RECIPE = """task: classification
data: {source: "sklearn:digits", limit: 100}
teacher: {model: convnet, args: {channels: [8, 16]}, weights: random}
student: {model: convnet, args: {channels: [4, 8]}}
objective:
  labels: cross_entropy
  logits: {loss: kd, temperature: 2}
train: {epochs: 1}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIMBECK_DEBUG", raising=False)
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    return file


def check(*overrides: str, file: str = "recipe.yaml") -> int:
    return main(["check", file, *(word for text in overrides for word in ("--set", text))])


def test_a_good_recipe(recipe: Path, capsys: pytest.CaptureFixture[str]):
    assert check("objective.mid={loss: hint, student: stage1, teacher: stage2}") == 0
    assert capsys.readouterr().out.splitlines() == [
        "student: convnet, 438 parameters",
        "teacher: convnet, 1,442 parameters",
        "objective.mid: adapter {'kind': 'conv1x1', 'student': [4, 8, 8], 'teacher': [16, 4, 4]}",
        "recipe.yaml: no problems.",
    ]
    assert sorted(path.name for path in recipe.parent.iterdir()) == ["recipe.yaml"]


def test_what_the_first_mistake_of_a_newcomer_looks_like(recipe: Path, capsys: pytest.CaptureFixture[str]):
    recipe.write_text(RECIPE.replace("loss: kd, temperature: 2", "loss: kdd, temprature: 2").replace("epochs: 1", "epoch: 0"))
    assert check() == 2
    err = capsys.readouterr().err
    assert err.startswith("limbeck check: ")
    assert "problems in the recipe" in err
    assert "recipe.yaml:7:18: objective.logits.loss: no loss is called 'kdd'. Did you mean 'kd'" in err
    assert "recipe.yaml:8:9: train.epoch: unknown key of train (got 0). Did you mean 'epochs'?" in err
    # The caret stands under the value.
    excerpt = err.splitlines()
    line = next(i for i, text in enumerate(excerpt) if "loss: kdd" in text)
    assert excerpt[line].index("kdd") == excerpt[line + 1].index("^")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["task=clasification"], "task: no task is called 'clasification'. Did you mean 'classification'"),
        (["task=text_classification"], "data.source: sklearn:digits gives image data, the task needs text data"),
        (["student.model=resnt"], "student.model: no built-in model is called 'resnt'. Did you mean 'resnet'"),
        (["student.model=resnet18", "student.args=null"], "timm:NAME, torchvision:NAME or hf:NAME"),
        (["student.args.chanels=[4]"], "student.args.chanels: unknown key of model 'convnet'.* Did you mean 'channels'"),
        (["teacher.weights=none.pt"], "teacher.weights: expected a weights file, .* found 'none.pt', which does not exist"),
        (["teacher.weights=recipe.yaml"], "teacher.weights: expected a file ending in .safetensors"),
        (["teacher=null"], "objective.logits.loss: expected a teacher for loss 'kd', found none"),
        (["teacher.weights=null"], "recipe.yaml:3:10: teacher: convnet has no weights and no earlier stage trains it"),
        (["data.source=sklearn:digit"], "no data set of sklearn is called 'digit'. Did you mean 'digits'"),
        (["data.source=my.csv"], "data.source: expected a source that begins with .* Did you mean 'csv:my.csv'"),
        (["data.source=csv:nowhere.csv"], "data.source: expected a path that exists, found 'nowhere.csv', which does not"),
        (["data.transforms=[flop]"], r"data.transforms\[0\]: no transform is called 'flop'. Did you mean 'flip'"),
        (["data.transforms=[{crop: {pading: 2}}]"], "unknown key of transform 'crop'.* Did you mean 'padding'"),
        (["train.optimizer=adamm"], "train.optimizer.name: expected a torch optimizer .* found 'adamm'. Did you mean 'Adam'"),
        (["train.optimizer={name: sgd, momentun: 0.9}"], "unknown key of optimizer 'SGD'.* Did you mean 'momentum'"),
        (["train.schedule=cosin"], "found 'cosin'. Did you mean 'cosine'"),
        (["objective.logits.temperature=-1"], "objective.logits.temperature: expected a number > 0, found -1"),
        (["objective.logits.weight=x"], r"objective.logits.weight: expected a number, found 'x' \(text\)"),
        (["objective.logits.from=big"], "no teacher is called 'big'. Known: teacher"),
        (["objective.h={loss: hint}"], "expected the layer that loss 'hint' reads, found no `student:`"),
        (
            ["objective.h={loss: hint, student: stage9}"],
            "objective.h.student: .*no layer is called 'stage9'.* Did you mean 'stage2' or 'stage1'",
        ),
        (["stages.a={learner: nobody}"], "stages.a.learner: no model of this recipe is called 'nobody'. Known: student, teacher"),
        (["stages.a={repeat: 2, between: refresh}"], "no action is called 'refresh'. Did you mean 'refresh_teacher'"),
        (["train.epochs"], "expected KEY=VALUE such as `--set train.epochs=3`, found no '='"),
    ],
)
def test_common_mistakes(overrides: list[str], expected: str, recipe: Path, capsys: pytest.CaptureFixture[str]):
    assert check(*overrides) == 2
    err = capsys.readouterr().err
    assert re.search(expected, err), err
    assert "Traceback" not in err
    assert not any(word in err for word in ("pydantic", "KeyError", "NoneType"))


@pytest.mark.parametrize("reference", ["timm:resnet19", "torchvision:resnet19"])
def test_unknown_models_of_libraries(reference: str, recipe: Path, capsys: pytest.CaptureFixture[str]):
    library = reference.partition(":")[0]
    pytest.importorskip(library)
    assert check(f"teacher.model={reference}") == 2
    assert f"teacher.model: no {library} model is called 'resnet19'. Did you mean 'resnet18'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.yaml", None, "missing.yaml:1:1: expected a recipe file, found none"),
        ("folder", "", "folder:1:1: expected a recipe file, found a folder"),
        ("empty.yaml", "", "empty.yaml:1:1: "),
        ("table.csv", "a,b\n1,2\n", "table.csv:1:1: expected a mapping of keys such as `task: classification`"),
        ("tabs.yaml", "task:\n\tclassification\n", "tabs.yaml:2:1: .*tab"),
        ("twice.yaml", "task: classification\ntask: regression\n", "twice.yaml:2:1: "),
        ("open.yaml", "task: [classification\n", "open.yaml:"),
        ("bytes.yaml", b"\xff\xfe\x00\x01", "bytes.yaml:"),
    ],
)
def test_files_that_are_no_recipe(
    name: str,
    content: str | bytes | None,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    if name == "folder":
        (tmp_path / name).mkdir()
    elif isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        (tmp_path / name).write_text(content)
    assert check(file=name) == 2
    assert re.search(expected, capsys.readouterr().err)


def test_near_names_of_files(recipe: Path, capsys: pytest.CaptureFixture[str]):
    assert check(file="recipee.yaml") == 2
    assert "Did you mean 'recipe.yaml'?" in capsys.readouterr().err


def test_a_missing_package_says_how_to_install_it(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert check("teacher.model=timm:resnet18", "teacher.args=null") == 2
    err = capsys.readouterr().err
    assert "needs timm, which is not installed. Install it: pip install 'limbeck[vision]'" in err


def test_code_of_ones_own_is_announced(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "my_nets_of_check.py").write_text("raise SystemExit('this ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert check("student={model: 'my_nets_of_check:small', args: null}") == 0
    out = capsys.readouterr().out
    assert "note: my_nets_of_check:small is code of your own; `limbeck run` needs --allow-code." in out


def test_a_run_can_be_checked_by_its_folder(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "runs").mkdir()
    recipe.rename(tmp_path / "runs" / "recipe.yaml")
    assert check(file="runs") == 0
    assert "runs: no problems." in capsys.readouterr().out
    assert main(["resolve", "runs"]) == 0
    assert "# recipe.yaml:2" in capsys.readouterr().out


def test_a_plan_without_a_run(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "recipe.yaml", "--dry-run", "--set", "baseline=true", "--set", "train.steps=7"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-3:] == [
        "stage alone: trains alone for 7 updates on labels (cross_entropy)",
        "stage distil: trains student for 7 updates on labels (cross_entropy), logits (kd)",
        "recipe.yaml: no problems.",
    ]
    assert not (tmp_path / "runs").exists()
    assert main(["run", "recipe.yaml", "--dry-run", "--set", "train.stps=7"]) == 2
