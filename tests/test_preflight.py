"""The check against the real models: every problem at its place, before any weight is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.config.load import load_recipe
from limbeck.preflight import Preflight, preflight
from tests.text_models import save_text_model, sentences

SMALL: dict[str, Any] = {
    "task": "classification",
    "data": {"source": "sklearn:digits", "limit": 100},
    "teacher": {"model": "convnet", "args": {"channels": [8, 16]}, "weights": "random"},
    "student": {"model": "convnet", "args": {"channels": [4, 8]}},
    "objective": {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 2}},
    "train": {"epochs": 1},
}


def check(overrides: dict[str, Any], *, allow_code: bool = False) -> Preflight:
    return preflight(load_recipe(SMALL, set=overrides, allow_code=allow_code), allow_code=allow_code, device="cpu")


def told(overrides: dict[str, Any]) -> list[str]:
    """Problems as `key: message`, the key of the recipe first."""
    return [f"{problem.key}: {problem.message}" for problem in check(overrides).problems]


def hint(**keys: Any) -> dict[str, Any]:
    return {"objective.hint": {"loss": "hint", **keys}}


def test_a_good_recipe():
    found = check(hint(student="stage1", teacher="stage2"))
    assert found.problems == []
    assert found.notes == []
    assert found.inferred == {"objective.hint.adapter.kind": "conv1x1"}
    assert found.facts == [
        "student: convnet, 438 parameters",
        "teacher: convnet, 1,442 parameters",
        "objective.hint: adapter {'kind': 'conv1x1', 'student': [4, 8, 8], 'teacher': [16, 4, 4]}",
    ]
    assert found.plan == ["stage distil: trains student for 1 epochs on labels (cross_entropy), logits (kd), hint (hint)"]
    assert found.bytes_needed > 6 * 4 * (438 + 1442)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            hint(student="stage9", teacher="stage1"),
            "objective.hint.student: student convnet: tap 'stage9': no layer is called 'stage9'.* Did you mean 'stage2' or 'stage1'",
        ),
        (hint(student="stage1", teacher="stag2"), "objective.hint.teacher: teacher convnet: tap 'stag2'.* Did you mean 'stage2'"),
        (
            hint(student="stage1", teacher="head", adapter="conv1x1"),
            r"objective.hint: student 'stage1' and teacher 'head': adapter 'conv1x1' joins map -> map; .* \(2, 4, 8, 8\).* \(2, 10\)",
        ),
        (
            hint(student="stage1", teacher="stage2", adapter="none"),
            r"objective.hint: student \[2, 4, 8, 8\] and teacher \[2, 16, 4, 4\] must have the same shape here",
        ),
        ({"objective.at": {"loss": "at", "student": "head"}}, r"objective.at: attention needs maps or tokens, found .* \[2, 10\]"),
        ({"teacher.model": "mlp", "teacher.args": {"channels": None}, **hint(student="head", teacher="hiden1")}, "Did you mean 'hidden1'"),
        ({"train.monitor": "acc"}, r"train.monitor: expected a metric of classification \(accuracy, .*\), found 'acc'"),
        ({"train.precision": "fp16"}, "train.precision: fp16 needs a GPU, found the CPU. Use bf16 or fp32."),
        ({"train.batch_size": 2, "train.accumulate": 4}, "train.accumulate: expected at most batch_size .2., found 4"),
        ({"teacher.weights": None}, "teacher: convnet has no weights and no earlier stage trains it, so it has nothing to teach"),
        (
            {"student.normalize": {"mean": [0.5, 0.5], "std": [1.0, 1.0]}},
            r"student.model: the normalisation has 2 values, the input of shape \(2, 1, 8, 8\) has 1 channels",
        ),
        ({"data.source": "sklearn:digit"}, "data.source: no data set of sklearn is called 'digit'. Did you mean 'digits'"),
        ({"data.source": "sklearn:wine"}, r"student.model: convnet reads images"),
        ({"stages": {"a": {"trainable": ["stag1.*"]}}}, "stages.a.trainable: no parameter is called 'stag1"),
        (
            {"baseline": True, "stages": {"t": {"learner": "teacher", "objective": {"labels": "cross_entropy"}}}},
            "baseline: .* no stage trains",
        ),
    ],
)
def test_problems(overrides: dict[str, Any], expected: str):
    problems = told(overrides)
    assert len(problems) >= 1
    assert re.search(expected, problems[0]), problems
    assert len(set(problems)) == len(problems)


def test_a_term_of_a_stage_is_named_once():
    layers = {"loss": "hint", "student": "stage1", "teacher": "head", "adapter": "conv1x1"}
    (problem,) = check({"stages": {"a": {"objective": {"hint": layers}}}}).problems
    assert (problem.key, problem.message.partition(":")[0]) == ("stages.a.objective.hint", "student 'stage1' and teacher 'head'")


def test_all_problems_at_once_each_at_its_line(tmp_path: Path):
    file = tmp_path / "two.yaml"
    file.write_text(
        """task: classification
data: sklearn:digits
teacher: {model: convnet, weights: random}
student: convnet
objective:
  labels: cross_entropy
  one: {loss: hint, student: stag1, teacher: stage1}
  two: {loss: hint, student: stage1, teacher: stage7}
train: {precision: fp16}
"""
    )
    found = preflight(load_recipe(file), allow_code=False, device="cpu")
    places = [(problem.where.rsplit("/")[-1], problem.key) for problem in found.problems]
    assert places == [
        ("two.yaml:9:20", "train.precision"),
        ("two.yaml:7:30", "objective.one.student"),
        ("two.yaml:8:47", "objective.two.teacher"),
    ]
    assert "^" in found.problems[0].excerpt


def test_a_student_that_cannot_be_built_is_one_problem_with_a_baseline_too():
    """The student alone is the same model; this was once a KeyError."""
    problems = told({"baseline": True, "student": {"model": "resnet", "args": {"channels": None, "depth": 21}}})
    assert len(problems) == 1
    assert "depth must be one of 8, 14, 18, 20" in problems[0]


def test_an_input_that_a_model_refuses_is_a_problem_and_told_once():
    pytest.importorskip("timm")
    problems = told({"student": {"model": "timm:vit_tiny_patch16_224", "args": {"channels": None}}})
    assert len(problems) == 1
    assert problems[0].startswith("student.model: ")
    assert "cannot take inputs of shape (1, 8, 8): Input height (8) doesn't match model (224)" in problems[0]


def test_a_model_on_a_hub_is_a_note(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = check({"student": {"model": "hf:someone/nothing", "args": {"channels": None}}})
    assert found.problems == []
    assert len(found.notes) == 1
    assert "student.model: the configuration of hf:someone/nothing is not on this machine" in found.notes[0]
    assert "A run fetches it" in found.notes[0]


def test_local_code_is_named_and_runs_only_when_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_nets_of_preflight.py").write_text(
        "from pathlib import Path\n"
        "from torch import nn\n"
        "Path('imported').touch()\n"
        "def build(*, num_outputs, input_shape):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_outputs))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    overrides = {"student": {"model": "my_nets_of_preflight:build", "args": {"channels": None}}}
    found = check(overrides)
    assert found.problems == []
    assert any("my_nets_of_preflight:build" in note and "--allow-code" in note for note in found.notes)
    assert not (tmp_path / "imported").exists()
    allowed = check(overrides, allow_code=True)
    assert (allowed.problems, allowed.notes) == ([], [])
    assert "student: my_nets_of_preflight:build, 650 parameters" in allowed.facts


def test_nothing_is_allocated_or_read(tmp_path: Path):
    """Weights that are damaged are found by the run; the check does not open them, and large models cost nothing."""
    pytest.importorskip("timm")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"nothing")
    before = torch.get_rng_state()
    teacher = {"model": "timm:vit_huge_patch14_224", "args": {"channels": None, "img_size": 14}, "weights": str(damaged)}
    found = check({"data.size": 14, "teacher": teacher})
    assert found.problems == []
    count = next(fact.split(", ", 1)[1] for fact in found.facts if fact.startswith("teacher: timm:vit_huge"))
    assert int(count.removesuffix(" parameters").replace(",", "")) > 600e6
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        ({"model": "timm:vit_tiny_patch16_224"}, r"teacher.model: timm:vit_tiny_patch16_224 cannot take inputs of shape \(1, 8, 8\)"),
        ({"model": "convnet", "normalize": {"mean": [0.5, 0.5], "std": [1.0, 1.0]}}, "teacher.model: the normalisation has 2 values"),
    ],
)
def test_a_teacher_that_cannot_run_is_told_at_its_place(teacher: dict[str, Any], expected: str):
    if "timm" in str(teacher):
        pytest.importorskip("timm")
    assert re.match(expected, told({"teacher": {**teacher, "args": {"channels": None}, "weights": "random"}})[0])
    stage = {"a": {"teacher": {**teacher, "args": {"channels": None}, "weights": "random"}}}
    assert re.match(f"stages.a.{expected}", told({"stages": stage})[0])


def test_a_teacher_of_other_classes_may_lend_its_features():
    other = {"teacher.args": {"channels": [8, 16], "num_outputs": 3}}
    assert "10 outputs, teacher gives 3" in told(other)[0]
    assert told({**other, "objective": {"labels": "cross_entropy", "at": {"loss": "at", "student": "stage1"}, "logits": None}}) == []


def test_all_models_read_the_tokens_of_one_tokenizer(tmp_path: Path):
    pytest.importorskip("transformers")
    (tmp_path / "texts.csv").write_text("text,label\n" + "\n".join(f"{text},{label}" for text, label in sentences(40)))
    student = save_text_model(tmp_path / "student", hidden=16, layers=1)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 10}
    recipe = {
        "task": "text_classification",
        "data": {"source": f"csv:{tmp_path / 'texts.csv'}", "max_length": 16},
        "student": {"model": f"hf:{student}", "weights": "pretrained"},
        "teacher": {"model": "hf:bert", "args": sizes, "weights": "random"},
        "objective": {"labels": "cross_entropy", "logits": "kd"},
    }
    problems = preflight(load_recipe(recipe), allow_code=False, device="cpu").problems
    assert [problem.key for problem in problems] == ["teacher.model"]
    assert re.match(r"hf:bert knows 10 tokens, the tokenizer .*student has 18\. All models", problems[0].message)
    (tmp_path / "empty").mkdir()
    problems = preflight(load_recipe(recipe, set={"data.tokenizer": str(tmp_path / "empty")}), allow_code=False, device="cpu").problems
    assert [problem.key for problem in problems] == ["data.tokenizer"]
    assert "It holds nothing." in problems[0].message


def test_steps_and_actions_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_parts_of_preflight.py").write_text("class Part: ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    stages = {"a": {"train": {"step": "my_parts_of_preflight:Part"}, "repeat": 2, "between": "my_parts_of_preflight:Part"}}
    assert len(check({"stages": stages}).notes) == 2
    step, action = check({"stages": stages}, allow_code=True).problems
    assert (step.key, action.key) == ("stages.a.train.step", "stages.a.between")
    assert "'my_parts_of_preflight:Part' is no step: it must be a class that extends limbeck.engine.steps.base.Step." in step.message
    assert "'my_parts_of_preflight:Part' is no action: it must be" in action.message


ASKING = "tests.engine.asking:"


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (
            {"loss": "hint", "student": "stage1", "targets": "logit_standardization"},
            r"objective.own.targets: logit_standardization changes logits, and the student gave none; remove it from this term\.$",
        ),
        ({"loss": "mse", "student": "stage1", "targets": "logit_standardization"}, "objective.own.targets: logit_standardization changes"),
        ({"loss": "cross_entropy", "targets": "logit_standardization"}, ".* and the teacher gave none; remove it from this term"),
        (
            {"loss": f"{ASKING}Masked"},
            r"objective.own: a loss needs the signal 'mask', which the data do not give; they give none beside inputs and labels\.$",
        ),
    ],
)
def test_what_a_term_asks_for_and_is_not_there(term: dict[str, Any], expected: str):
    problems = [f"{problem.key}: {problem.message}" for problem in check({"objective.own": term}, allow_code=True).problems]
    assert len(problems) == 1, problems
    assert re.match(expected, problems[0]), problems


def test_a_term_with_targets_is_fine_where_its_loss_reads_logits():
    targets = ["logit_standardization", {"name": "logit_standardization", "variant": "official"}]
    for loss in ({"loss": "kd"}, {"loss": "mse"}, {"loss": "dkd"}):
        assert told({"objective.own": {**loss, "targets": targets}}) == []


@pytest.mark.parametrize("name", ["Bank", "Classifiers"])
def test_indices_rotations_and_classifiers_are_there(name: str):
    layer = {"student": "head:input"} if name == "Classifiers" else {}
    found = check({"objective.own": {"loss": f"{ASKING}{name}", **layer}}, allow_code=True)
    assert (found.problems, found.notes) == ([], [])


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_model_without_a_classifier_is_named(side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_headless_net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, *, num_outputs, input_shape):\n"
        "        super().__init__()\n"
        "        self.net = nn.Conv2d(1, num_outputs, 3)\n"
        "    def forward(self, x):\n"
        "        return self.net(x).mean((-2, -1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    layers = {"student": "head:input", "teacher": "head:input", side: "net"}
    model = {"model": "my_headless_net:Net", "args": {"channels": None}}
    overrides = {side: {**model, "weights": "random"}, "objective.own": {"loss": f"{ASKING}Classifiers", **layers}}
    problems = [f"{problem.key}: {problem.message}" for problem in check(overrides, allow_code=True).problems]
    assert len(problems) == 1, problems
    assert problems[0] == (
        f"objective.own: {side} my_headless_net:Net: Net has no linear layer, so its classifier cannot be found; this loss needs one."
    )


def test_rotations_need_images():
    overrides = {
        "data": {"source": "sklearn:wine", "limit": None},
        "student": {"model": "mlp", "args": {"channels": None}},
        "teacher": {"model": "mlp", "args": {"channels": None}, "weights": "random"},
        "objective.own": {"loss": f"{ASKING}Classifiers", "student": "head:input"},
    }
    problems = {problem.message for problem in check(overrides, allow_code=True).problems}
    assert problems == {"a loss on rotated images needs square images (batch, channels, size, size), found [2, 13]."}


def test_a_setup_that_reads_contents_is_a_note():
    found = check({"objective.own": {"loss": f"{ASKING}Reading"}}, allow_code=True)
    assert found.problems == []
    assert len(found.notes) == 1
    assert found.notes[0].startswith("objective.own: its setup needs more than shapes, so it was not checked: ")
