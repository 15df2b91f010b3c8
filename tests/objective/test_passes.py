"""Mixed inputs and weighed examples: the value of a term is the weighted mean that is promised, however the update is divided."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import pytest
import torch
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.losses.base import Loss, logits_of, required
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kd import KD
from limbeck.losses.mse import MSE
from limbeck.losses.sp import SP
from limbeck.objective import Counts, Objective, Term
from limbeck.ops.mixture import log_mixture
from limbeck.targets.base import Target
from limbeck.targets.calibrate import Calibrate
from limbeck.targets.logit_standardization import LogitStandardization
from limbeck.types import IGNORE, Mixed, Needs, Signals, labelled


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


STUDENT, TEACHER, PARTNER = draw(5, 4), 3 * draw(5, 4, seed=1), 3 * draw(5, 4, seed=2)
LABELS = torch.tensor([0, 1, 2, 3, 0])
MIXED = Mixed(torch.arange(5), torch.zeros(5), torch.tensor([3, 3, 1, 0, 0]), torch.tensor([0.25, 1.0, 0.5, 0.0, 0.7]))


def objective(*terms: Term) -> Objective:
    whole = Objective(list(terms))
    whole.setup(Signals(STUDENT), {"teacher": Signals(TEACHER)})
    return whole


def value(whole: Objective, labels=LABELS, mixed=MIXED, counts=None, teacher=None, student=STUDENT) -> Tensor:
    known = 5.0 if counts is None else None
    teacher = Signals(TEACHER) if teacher is None else teacher
    return whole(Signals(student), {"teacher": teacher}, labels, counts or Counts(known, known), None, mixed)[0]


def cross(labels: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(STUDENT, labels, reduction="none")


def test_labels_are_mixed_by_share():
    expected = (MIXED.share * cross(LABELS) + (1 - MIXED.share) * cross(MIXED.labels)).mean()
    torch.testing.assert_close(value(objective(Term("labels", CrossEntropy()))), expected)
    soft = MIXED.share[:, None] * torch.eye(4)[LABELS] + (1 - MIXED.share[:, None]) * torch.eye(4)[MIXED.labels]
    torch.testing.assert_close(expected, -(soft * STUDENT.log_softmax(1)).sum(1).mean())


def test_a_loss_without_labels_is_as_ever():
    term = objective(Term("kd", KD(temperature=2.0)))
    torch.testing.assert_close(value(term), value(term, mixed=None))


def test_unlabelled_parts_count_nothing():
    labels, partner = LABELS.clone(), MIXED.labels.clone()
    labels[0], partner[2], partner[0] = IGNORE, IGNORE, IGNORE
    mixed = Mixed(MIXED.partner, MIXED.epoch, partner, MIXED.share)
    own, other = MIXED.share * labelled(labels), (1 - MIXED.share) * labelled(partner)
    mass = float((own + other).sum())
    assert mass == pytest.approx(5 - 1 - 0.5)
    expected = (own * cross(LABELS) + other * cross(MIXED.labels)).sum() / mass
    found = value(objective(Term("labels", CrossEntropy())), labels, mixed, Counts(5.0, mass))
    torch.testing.assert_close(found, expected)
    nothing = value(objective(Term("labels", CrossEntropy())), torch.full_like(labels, IGNORE), None, Counts(5.0, 0.0))
    assert nothing == 0


def test_values_of_several_outputs_are_averaged_within_an_example():
    targets, partner = draw(5, 4, seed=4), draw(5, 4, seed=5)
    partner[3, 2] = torch.nan
    mixed = Mixed(MIXED.partner, MIXED.epoch, partner, torch.tensor([0.25, 1.0, 0.5, 0.5, 0.7]))
    loss = _Squares()
    own, other = ((STUDENT - labels).square().mean(1) for labels in (targets, partner))
    portions = mixed.share * own + (1 - mixed.share) * other
    expected = (portions[[0, 1, 2, 4]].sum() + 0.5 * own[3]) / 4.5
    torch.testing.assert_close(value(objective(Term("labels", loss)), targets, mixed, Counts(5.0, 4.5)), expected)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class _Squares(Loss):
    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, teacher=False)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return (logits_of(student) - required(labels)).square()


@final
@dataclass(eq=False, repr=False, kw_only=True)
class _Whole(Loss):
    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, teacher=False)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return logits_of(student).sum()


@final
@dataclass(eq=False, repr=False, kw_only=True)
class _Contrast(Loss):
    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, teacher=False, global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return logits_of(student).sum()


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Halves(Target):
    """Weights 0, 1/2, 1, 3/2, ... by the teacher's first logit; reads no labels."""

    weighs: ClassVar[bool] = True

    def weights(self, student: Signals, teacher: Signals, labels: Tensor | None) -> Tensor:
        return torch.arange(len(teacher.logits)) / 2 + teacher.logits[:, 0].abs()

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> tuple[Signals, Signals]:
        return student, teacher


def test_weights_make_a_weighted_mean():
    whole = objective(Term("kd", KD(temperature=1.0), targets=(Halves(),)))
    weights = torch.arange(5) / 2 + TEACHER[:, 0].abs()
    each = KD(temperature=1.0)(Signals(STUDENT), Signals(TEACHER))
    expected = (weights * each).sum() / weights.sum()
    torch.testing.assert_close(value(whole, mixed=None), expected)
    masses = whole.masses({"teacher": Signals(TEACHER)}, LABELS)
    assert list(masses) == ["kd"]
    torch.testing.assert_close(masses["kd"], weights.sum())
    torch.testing.assert_close(value(whole, mixed=None, counts=Counts(5.0, 5.0, kept=masses)), expected)
    torch.testing.assert_close(value(whole), expected)  # mixing changes nothing that reads no labels
    assert whole.weighs
    assert not objective(Term("kd", KD())).weighs


def test_forward_passes_add_up():
    whole = objective(
        Term("kd", KD(temperature=1.0), targets=(Calibrate(low=0.5, hard=0.7, easy=0.97),)), Term("labels", CrossEntropy(), weight=0.5)
    )
    cuts = (slice(0, 2), slice(2, 5))
    parts = [Mixed(*(getattr(MIXED, name)[cut] for name in ("partner", "epoch", "labels", "share"))) for cut in cuts]
    kept = {
        "kd": sum(whole.masses({"teacher": Signals(TEACHER[cut])}, LABELS[cut], part)["kd"] for cut, part in zip(cuts, parts, strict=True))
    }
    counts = Counts(5.0, 5.0, kept=kept)
    total = sum(value(whole, LABELS[cut], part, counts, Signals(TEACHER[cut]), STUDENT[cut]) for cut, part in zip(cuts, parts, strict=True))
    torch.testing.assert_close(total, value(whole, counts=counts))
    torch.testing.assert_close(total, value(whole))


def test_what_is_left_out_gives_no_gradient():
    whole = objective(Term("kd", KD(temperature=1.0), targets=(Calibrate(low=0.6, hard=0.6),)))
    sure = TEACHER.softmax(1).amax(1) >= 0.6
    assert 0 < int(sure.sum()) < 5
    student = STUDENT.clone().requires_grad_()
    value(whole, mixed=None, student=student).backward()
    assert ((student.grad != 0).any(1) == sure).all()
    expected = KD(temperature=1.0)(Signals(STUDENT[sure]), Signals(TEACHER[sure])).mean()
    torch.testing.assert_close(value(whole, mixed=None), expected)
    none = objective(Term("kd", KD(), targets=(Calibrate(low=1.0, hard=1.0),)))
    assert value(none, mixed=None) == 0
    assert value(none, mixed=None, counts=Counts(5.0, 5.0, kept={"kd": torch.tensor(0.0)})) == 0


def test_stored_parts_are_calibrated_each_by_itself():
    """So the gradient is that of a cross-entropy with the mixture of calibrated soft labels."""
    calibrate = Calibrate(low=0.5, hard=0.7, easy=0.97)
    whole = objective(Term("kd", KD(temperature=1.0), targets=(calibrate,)))
    said = Signals(log_mixture(TEACHER, PARTNER, MIXED.share), parts=(Signals(TEACHER), Signals(PARTNER)))
    total, mass = torch.zeros(()), 0.0
    for logits, labels, share in ((TEACHER, LABELS, MIXED.share), (PARTNER, MIXED.labels, 1 - MIXED.share)):
        weight = calibrate.weights(Signals(), Signals(logits), labels) * share
        _, theirs = calibrate(Signals(STUDENT), Signals(logits), labels)
        total = total + (weight * KD(temperature=1.0)(Signals(STUDENT), theirs)).sum()
        mass += float(weight.sum())
    assert 0 < mass < 5
    torch.testing.assert_close(value(whole, teacher=said), total / mass)
    torch.testing.assert_close(whole.masses({"teacher": said}, LABELS, MIXED)["kd"], torch.tensor(mass))


def test_other_targets_and_losses_hear_the_mixture():
    said = Signals(log_mixture(TEACHER, PARTNER, MIXED.share), parts=(Signals(TEACHER), Signals(PARTNER)))
    for term in (Term("kd", KD()), Term("kd", KD(), targets=(LogitStandardization(),))):
        whole = objective(term)
        torch.testing.assert_close(value(whole, teacher=said), value(whole, teacher=Signals(said.logits)))


def test_a_loss_on_a_layer_can_be_weighed():
    student, teacher = Signals(STUDENT, {"a": draw(5, 3, 2)}), Signals(TEACHER, {"a": draw(5, 3, 2, seed=8)})
    whole = Objective([Term("mse", MSE(), student=("a",), adapter="none", targets=(Halves(),))])
    whole.setup(student, {"teacher": teacher})
    weights = torch.arange(5) / 2 + TEACHER[:, 0].abs()
    each = (student.features["a"] - teacher.features["a"]).square().flatten(1).mean(1)
    found = whole(student, {"teacher": teacher}, None, Counts(5.0, 5.0))[0]
    torch.testing.assert_close(found, (weights * each).sum() / weights.sum())


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (
            Term("whole", _Whole()),
            "objective.whole: this loss has one value for the whole batch, and the examples of this one do not count",
        ),
        (
            Term("sp", SP(), student=("a",), targets=(Halves(),)),
            "objective.sp: this loss compares the examples of a batch with each other and has targets that weigh examples",
        ),
    ],
)
def test_what_has_no_value_for_an_example_is_refused(term, message):
    whole = Objective([term])
    signals = Signals(STUDENT, {"a": STUDENT})
    whole.setup(signals, {"teacher": signals})
    with pytest.raises(LimbeckError, match=message):
        whole(signals, {"teacher": signals}, LABELS, Counts(5.0, 5.0), None, MIXED)


def test_a_quantity_of_the_batch_that_reads_labels_is_refused():
    whole = objective(Term("supcon", _Contrast()))
    value(whole, mixed=None)
    with pytest.raises(LimbeckError, match=r"objective.supcon: .* with each other and reads labels, which mixed inputs have two of"):
        value(whole)


def test_a_weighing_target_comes_first():
    Term("kd", KD(), targets=(Halves(), LogitStandardization()))
    with pytest.raises(LimbeckError, match=r"objective\.kd: a target that weighs examples must be the first of `targets`"):
        Term("kd", KD(), targets=(LogitStandardization(), Halves()))
    with pytest.raises(LimbeckError, match="LogitStandardization says that it weighs examples and has no method `weights`"):
        LogitStandardization().weights(Signals(), Signals(TEACHER), None)
