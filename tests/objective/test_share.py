"""Terms for one of several data sets: its examples, its outputs, its labels, and no others."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limbeck.errors import LimbeckError, ShapeMismatch, SignalMissing
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kd import KD
from limbeck.losses.mse import MSE
from limbeck.losses.sp import SP
from limbeck.objective import Counts, Objective, Term
from limbeck.objective.share import labels_of, rows_of, signals_of
from limbeck.types import IGNORE, Head, Mixed, Share, Signals, labelled

DIGIT, PLACE = Share(0, "class", 0, 3), Share(1, "real", 3, 5)
NAN = math.nan
LABELS = torch.tensor([[0.0, 2.0, 0.0], [1.0, 7.5, -1.0], [0.0, 0.0, 0.0], [1.0, NAN, NAN], [0.0, NAN, 0.0], [1.0, 0.5, 4.0]])
"""Examples 0, 2 and 4 are digits, the last of them unlabelled; 3 is an unlabelled place."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


STUDENT, ALL, OWN = draw(6, 5), draw(6, 5, seed=1), draw(6, 3, seed=2)


def value(
    *terms: Term, labels: Tensor | None = LABELS, teacher: Tensor = ALL, student: Tensor = STUDENT, rows=slice(None), kept=None
) -> Tensor:
    whole = Objective(list(terms))
    teachers = {"teacher": Signals(teacher)}
    whole.setup(Signals(student), teachers)
    own = labels[rows] if labels is not None else None
    count, known = 6.0, 4.0
    counts = Counts(count, known, kept=kept or {})
    return whole(Signals(student[rows]), {"teacher": Signals(teacher[rows])}, own, counts)[0]


def test_labels_as_the_losses_know_them():
    assert labels_of(DIGIT, LABELS).tolist() == [2, 0, 0, 0, IGNORE, 0]
    assert labels_of(DIGIT, LABELS).dtype == torch.int64
    expected = torch.tensor([[0, 0], [7.5, -1], [0, 0], [NAN, NAN], [0, 0], [0.5, 4]])
    torch.testing.assert_close(labels_of(PLACE, LABELS), expected, equal_nan=True)
    assert rows_of(PLACE, LABELS).tolist() == [0, 1, 0, 1, 0, 1]
    assert labelled(LABELS).tolist() == [True, True, True, False, False, True]
    assert PLACE.outputs == 2


def test_a_supervised_term_is_the_mean_over_its_own_labelled_examples():
    expected = torch.nn.functional.cross_entropy(STUDENT[[0, 2], :3], torch.tensor([2, 0]))
    torch.testing.assert_close(value(Term("digit", CrossEntropy(), share=DIGIT)), expected)
    gap = (STUDENT[[1, 5], 3:] - torch.tensor([[7.5, -1], [0.5, 4]])).square().mean()
    torch.testing.assert_close(value(Term("place", MSE(target="labels"), share=PLACE)), gap)


def test_a_taught_term_reads_unlabelled_examples_too():
    log_p, log_q = ALL[[0, 2, 4], :3].log_softmax(1), STUDENT[[0, 2, 4], :3].log_softmax(1)
    expected = (log_p.exp() * (log_p - log_q)).sum(1).mean()
    torch.testing.assert_close(value(Term("digit", KD(temperature=1.0), share=DIGIT)), expected)


def test_a_teacher_of_one_data_set_keeps_its_outputs():
    log_p, log_q = OWN[[0, 2, 4]].log_softmax(1), STUDENT[[0, 2, 4], :3].log_softmax(1)
    expected = (log_p.exp() * (log_p - log_q)).sum(1).mean()
    torch.testing.assert_close(value(Term("digit", KD(temperature=1.0), share=DIGIT), teacher=OWN), expected)


def test_only_the_head_of_the_data_set_is_moved():
    student = STUDENT.clone().requires_grad_()
    value(Term("place", MSE(), share=PLACE), student=student).backward()
    moved = student.grad.abs() > 0
    assert moved[[1, 3, 5], 3:].all()
    assert int(moved.sum()) == 6


def test_the_whole_is_the_sum_over_the_data_sets():
    """The loss of the paper, by hand: 0.8 of the teachers' and 0.2 of the labels', each a mean over its own examples."""
    teach = [Term("a", KD(temperature=1.0), 0.8, share=DIGIT), Term("b", MSE(), 0.8, share=PLACE)]
    labels = [Term("c", CrossEntropy(), 0.2, share=DIGIT), Term("d", MSE(target="labels"), 0.2, share=PLACE)]
    whole = value(*teach, *labels)
    torch.testing.assert_close(whole, torch.stack([value(term) for term in (*teach, *labels)]).sum())


def test_accumulation_changes_nothing():
    terms = [Term("digit", CrossEntropy(), share=DIGIT), Term("place", MSE(), share=PLACE)]
    whole = Objective(terms)
    whole.setup(Signals(STUDENT), {"teacher": Signals(ALL)})
    assert whole.weighs
    parts = [slice(0, 1), slice(1, 6)]  # the first holds no place
    masses = [whole.masses({"teacher": Signals(ALL[rows])}, LABELS[rows]) for rows in parts]
    kept = {label: torch.stack([mass[label] for mass in masses]).sum() for label in ("digit", "place")}
    assert kept == {"digit": 2, "place": 3}
    total = torch.stack([value(*terms, rows=rows, kept=kept) for rows in parts]).sum()
    torch.testing.assert_close(total, value(*terms))


def test_an_update_without_the_data_set_asks_nothing():
    student = STUDENT.clone().requires_grad_()
    found = value(Term("place", MSE(), share=PLACE), rows=slice(0, 1), student=student)
    found.backward()
    assert found == 0
    assert not student.grad.any()


def test_classifiers_are_cut_as_the_outputs_are():
    head = Head(draw(5, 7), draw(5, seed=3))
    found = signals_of(PLACE, Signals(STUDENT, head=head, views=(Signals(ALL),)))
    assert found.head is not None
    assert torch.equal(found.head.weight, head.weight[3:5])
    assert torch.equal(found.head.bias, head.bias[3:5])
    assert torch.equal(found.views[0].logits, ALL[:, 3:5])
    assert signals_of(PLACE, Signals(STUDENT, head=Head(draw(5, 7)))).head.bias is None
    absent = Signals(features={"a": STUDENT})
    assert signals_of(PLACE, absent).logits is None


def test_what_does_not_fit_is_said():
    with pytest.raises(
        ShapeMismatch, match="a model with 4 outputs was asked for the outputs 3 to 4 of a data set; expected the outputs of all"
    ):
        signals_of(PLACE, Signals(STUDENT[:, :4]))
    with pytest.raises(LimbeckError, match=r"objective.a: .* with each other and is for one data set of several"):
        _batch_quantity()
    with pytest.raises(SignalMissing, match=r"objective.a: this batch has no labels, which say what data set"):
        value(Term("a", MSE(), share=PLACE), labels=None)


def _batch_quantity() -> None:
    whole = Objective([Term("a", SP(), student=("x",), share=DIGIT)])
    said = Signals(STUDENT, {"x": STUDENT})
    whole.setup(said, {"teacher": said})
    whole(said, {"teacher": said}, LABELS, Counts(6.0, 4.0))


def test_mixed_inputs_count_by_their_own_data_sets():
    mixed = Mixed(torch.arange(6), torch.zeros(6), LABELS.flip(0), torch.tensor([0.25, 1.0, 0.5, 0.5, 1.0, 0.75]))
    whole = Objective([Term("digit", CrossEntropy(), share=DIGIT)])
    whole.setup(Signals(STUDENT), {})
    found = whole(Signals(STUDENT), {}, LABELS, Counts(6.0, 4.0), None, mixed)[0]
    own = torch.tensor([[0.25, 2], [0.5, 0]])
    partner = torch.tensor([[0.5, 0], [0.25, 2]])
    rows = [(0, own[0]), (2, own[1]), (3, partner[0]), (5, partner[1])]
    losses = [w * torch.nn.functional.cross_entropy(STUDENT[i : i + 1, :3], c.long()[None]) for i, (w, c) in rows]
    torch.testing.assert_close(found, sum(losses) / 1.5)
