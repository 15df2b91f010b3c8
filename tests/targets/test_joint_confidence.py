"""The surest of both models: by hand, ties, what agreement changes, refusals, and in a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.engine.test_resume import lines
from tests.runs import SMALL, distill

from limbeck.errors import LimbeckError, RecipeError, ShapeMismatch, SignalMissing
from limbeck.losses.mse import MSE
from limbeck.objective import Counts, Objective, Term
from limbeck.targets.base import Target
from limbeck.targets.joint_confidence import JointConfidence, joint_confidence, surest
from limbeck.types import Signals

STUDENT = torch.tensor([[0.8, 0.2], [0.1, 0.9], [0.5, 0.5], [0.7, 0.3]]).log()
TEACHER = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.5, 0.5], [0.9, 0.1]]).log()


def test_by_hand():
    """Two sure models that contradict each other are as unsure as one that does not know."""
    torch.testing.assert_close(joint_confidence(STUDENT, TEACHER + 3), torch.tensor([0.7, 0.5, 0.5, 0.8]))
    for pair in ((STUDENT.half(), TEACHER), (STUDENT, TEACHER.half()), (STUDENT.half(), TEACHER.half())):
        assert joint_confidence(*pair).dtype == torch.float32
    sharp = torch.tensor([[0.0, 9.0]]).half()  # of which half precision knows the probability to 3 digits
    expected = (sharp.float().softmax(-1) + STUDENT[1:2].exp())[:, 1] / 2
    for pair in ((sharp, STUDENT[1:2]), (STUDENT[1:2], sharp)):
        torch.testing.assert_close(joint_confidence(*pair), expected, rtol=0, atol=1e-6)


def test_the_largest_are_kept_with_all_equals():
    scores = torch.tensor([0.3, 0.9, 0.5, 0.5, 0.1])
    assert surest(scores, 0.2).tolist() == [False, True, False, False, False]
    assert surest(scores, 0.21).tolist() == [False, True, True, True, False]
    assert surest(scores, 0.8).tolist() == [True, True, True, True, False]
    assert surest(scores, 1.0).all()
    assert surest(scores, 0.01).sum() == 1


def test_weights_follow_both_and_have_no_gradient():
    student = Signals(STUDENT.clone().requires_grad_())
    weights = JointConfidence(share=0.25).weights(student, Signals(TEACHER), None)
    assert weights.tolist() == [0, 0, 0, 1]
    assert weights.dtype == torch.float32
    with pytest.raises(SignalMissing, match="and the student gave none"):
        JointConfidence().weights(Signals(), Signals(TEACHER), None)
    assert not weights.requires_grad
    assert JointConfidence(share=0.25).weights(Signals(TEACHER), Signals(TEACHER), None).tolist() == [0, 1, 0, 1]
    assert JointConfidence().weights(student, Signals(TEACHER), None).tolist() == [1, 0, 0, 1]
    pair = student, Signals(TEACHER)
    assert JointConfidence()(*pair) == pair


def test_a_term_on_layers_is_the_mean_of_the_kept():
    """The logits come with the layer, though the loss does not read them; the mean is over the forward pass."""
    term = Term("layer", MSE(), student=("a",), teacher=("a",), targets=(JointConfidence(),))
    assert term.reads_logits
    assert not Term("layer", MSE(), student=("a",), teacher=("a",)).reads_logits
    objective = Objective([term])
    assert objective.needs_student_logits()
    assert objective.needs_teacher_logits("teacher")
    assert not objective.weighs
    torch.manual_seed(0)
    mine, theirs = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    student, teachers = Signals(STUDENT, {"a": mine}), {"teacher": Signals(TEACHER, {"a": theirs})}
    objective.setup(student, teachers)
    assert objective.masses(teachers, None) == {}
    for adapter in objective.adapters.values():
        adapter.requires_grad_(False)
    total, values = objective(student, teachers, None, Counts(8.0, 8.0))  # half of the update
    plan = objective._plan
    assert plan is not None
    ours, goal = plan[0].route(student, teachers)
    each = MSE()(ours, goal)
    torch.testing.assert_close(values[0], (each[0] + each[3]).detach() / 2 * 4 / 8)
    total.backward()
    moved = torch.zeros(4, 3) if mine.grad is None else mine.grad.abs()
    assert moved[[1, 2]].sum() == 0
    assert moved[[0, 3]].sum() > 0


def test_defaults_and_refusals():
    assert JointConfidence().share == 0.5
    assert not JointConfidence.reads_labels
    with pytest.raises(ValueError, match=r"^JointConfidence\.share must be <= 1, got 2$"):
        JointConfidence(share=2)
    with pytest.raises(LimbeckError, match=r"^joint_confidence: a share of 0 leaves no example; expected a share above 0\.$"):
        JointConfidence(share=0.0)
    for pair, who in (((Signals(), Signals(TEACHER)), "student"), ((Signals(STUDENT), Signals()), "teacher")):
        with pytest.raises(SignalMissing, match=rf"judges the logits of both models, and the {who} gave none; remove it from this term\.$"):
            JointConfidence()(*pair)
    message = r"^joint_confidence: student \[4, 2\] and teacher \[4, 3\] must answer for the same classes; remove it from this term\.$"
    with pytest.raises(ShapeMismatch, match=message):
        JointConfidence()(Signals(STUDENT), Signals(torch.zeros(4, 3)))


def test_in_a_run(tmp_path: Path) -> None:
    """A share of 1 changes nothing but rounding; half of the examples have another loss."""
    found = []
    for share in (None, 1.0, 0.5):
        logits = {"loss": "kd", "temperature": 2, **({} if share is None else {"targets": {"name": "joint_confidence", "share": share}})}
        recipe = {**SMALL, "objective": {"labels": "cross_entropy", "logits": logits}}
        run = distill(recipe, out=tmp_path / str(share), device="cpu")
        found.append([line["values"]["logits"] for line in lines(run.folder) if line["kind"] == "train"])
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
    assert found[2][0] != pytest.approx(found[0][0], rel=1e-3)


def test_a_term_without_a_teacher_is_refused(tmp_path: Path) -> None:
    recipe = {**SMALL, "objective": {"labels": {"loss": "cross_entropy", "targets": "joint_confidence"}, "logits": "kd"}}
    with pytest.raises(RecipeError, match=r"objective\.labels\.targets: .*the teacher gave none"):
        distill(recipe, out=tmp_path / "run", device="cpu")


class Plain(Target):
    def forward(self, student, teacher, labels=None):
        return student, teacher


def test_a_transform_reads_and_weighs_nothing_unless_it_says_so():
    assert (Target.reads_labels, Target.weighs, Target.watches_student) == (False, False, False)


def test_weights_must_be_there_where_they_are_announced():
    with pytest.raises(LimbeckError, match=r"^Plain says that it weighs examples and has no method `weights`\.$"):
        Plain().weights(Signals(), Signals(), None)
