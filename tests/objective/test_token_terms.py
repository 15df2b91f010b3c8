"""Terms on tokens give what the same terms give on whole logits, value and gradient, however they are computed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from limbeck.errors import LimbeckError, ShapeMismatch, SignalMissing
from limbeck.losses.base import Loss
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.dkd import DKD
from limbeck.losses.hint import Hint
from limbeck.losses.kd import KD
from limbeck.losses.mse import MSE
from limbeck.losses.sinkd import SinKD
from limbeck.losses.soft_cross_entropy import SoftCrossEntropy
from limbeck.losses.topk_kd import TopkKD
from limbeck.objective import Counts, Objective, Ramp, Term
from limbeck.objective import token_terms as module
from limbeck.ops.projection import project
from limbeck.targets.calibrate import Calibrate
from limbeck.targets.logit_standardization import LogitStandardization
from limbeck.tokens import Hidden, Logits, Projection, Sampled, TopK
from limbeck.types import ROW_WEIGHTS, Needs, Signals

ROWS, WIDTH, VOCABULARY = 11, 4, 9


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES", 3 * 4 * VOCABULARY)  # three rows at a time


def tensor(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class World:
    """A student and a teacher, as hidden states and as logits."""

    def __init__(self, *, extra_rows: int = 0) -> None:
        self.hidden = tensor(ROWS, WIDTH, seed=0).requires_grad_()
        self.weight = tensor(VOCABULARY, WIDTH, seed=1).requires_grad_()
        self.bias = tensor(VOCABULARY, seed=2).requires_grad_()
        self.teacher = Hidden(tensor(ROWS, WIDTH + 2, seed=3), Projection(tensor(VOCABULARY + extra_rows, WIDTH + 2, seed=4), scale=0.5))
        self.labels = torch.randint(VOCABULARY, (ROWS,), generator=torch.Generator().manual_seed(5))

    def student(self) -> Signals:
        return Signals(tokens=Hidden(self.hidden, Projection(self.weight, self.bias)))

    def dense(self) -> tuple[Signals, Signals]:
        head = Projection(self.weight, self.bias)
        return Signals(project(self.hidden, head)), Signals(project(self.teacher.hidden, self.teacher.head)[:, :VOCABULARY])

    def gradients(self, total: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(total, [self.hidden, self.weight, self.bias]))


def objective(terms: Sequence[Term], student: Signals, teacher: Signals) -> Objective:
    made = Objective(terms)
    made.setup(student, {"teacher": teacher})
    return made


def assert_same(terms: Sequence[Term], *, world: World | None = None, weights: Tensor | None = None) -> None:
    world = world or World()
    mine, theirs = world.dense()
    counts = Counts(25.0, 25.0)
    dense = objective(terms, mine, theirs)
    extra = {} if weights is None else {ROW_WEIGHTS: weights}
    total, values = dense(replace(mine, extra=extra), {"teacher": theirs}, world.labels, counts)
    own, heard = world.student(), Signals(tokens=world.teacher)
    found, each = objective(terms, own, heard)(replace(own, extra=extra), {"teacher": heard}, world.labels, counts)
    torch.testing.assert_close(found, total, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(each, values, rtol=1e-10, atol=1e-12)
    for name, a, b in zip(("hidden", "weight", "bias"), world.gradients(found), world.gradients(total), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


def labels(weight: float = 0.3) -> Term:
    return Term("labels", CrossEntropy(), weight)


@pytest.mark.parametrize("divergence", ["forward", "reverse", "symmetric", "js", "tv", "skew_forward", "skew_reverse"])
def test_cross_entropy_and_a_divergence(divergence: str) -> None:
    assert_same([labels(), Term("logits", KD(temperature=2.0, divergence=divergence, mixture=0.3), 0.7)])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "terms",
    [
        [labels()],
        [Term("logits", KD(temperature=3.0), 0.7)],
        [
            labels(),
            Term("a", KD(temperature=2.0), 0.7),
            Term("b", KD(temperature=1.0, divergence="reverse"), 0.2),
            Term("c", CrossEntropy(), 2),
        ],
        [Term("smooth", CrossEntropy(label_smoothing=0.1), 0.5), labels()],
        [labels(), Term("dkd", DKD(alpha=1.0, beta=2.0), 0.4)],
        [labels(), Term("soft", SoftCrossEntropy(temperature=2.0)), Term("mse", MSE(), 0.1)],
        [labels(), Term("batch", SinKD(), 0.8)],
        [labels(), Term("top", TopkKD(top=3, temperature=2.0), 0.5)],
        [labels(), Term("z", KD(temperature=2.0), 0.5, targets=(LogitStandardization(),))],
        [labels(), Term("ramp", KD(temperature=2.0), Ramp("linear", 0.5, 1.0))],
    ],
    ids=lambda terms: "+".join(term.label for term in terms),
)
def test_any_terms(terms: list[Term]) -> None:
    assert_same(terms)


def test_rows_may_count_differently() -> None:
    weights = torch.linspace(0, 2, ROWS, dtype=torch.float64)
    assert_same([labels(), Term("logits", KD(temperature=2.0), 0.7), Term("dkd", DKD(), 0.4), Term("mse", MSE(), 0.4)], weights=weights)


def test_targets_that_weigh_tokens() -> None:
    assert_same([labels(), Term("sure", KD(temperature=2.0), 0.5, targets=(Calibrate(),))])


def test_rows_of_the_head_that_only_pad_count_nothing() -> None:
    assert_same([labels(), Term("logits", KD(temperature=2.0), 0.7), Term("dkd", DKD(), 0.4)], world=World(extra_rows=3))


def test_a_layer_beside_the_logits() -> None:
    world = World()
    mine, theirs = world.dense()
    layer = {"h": tensor(ROWS, 5, seed=7)}, {"h": tensor(ROWS, 5, seed=8)}
    terms = [labels(), Term("logits", KD()), Term("hint", Hint(), student=("h",))]
    counts = Counts(25.0, 25.0)
    whole = objective(terms, replace(mine, features=layer[0]), replace(theirs, features=layer[1]))
    own, heard = replace(world.student(), features=layer[0]), Signals(features=layer[1], tokens=world.teacher)
    found = objective(terms, own, heard)(own, {"teacher": heard}, world.labels, counts)
    expected = whole(replace(mine, features=layer[0]), {"teacher": replace(theirs, features=layer[1])}, world.labels, counts)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_teacher_of_logits() -> None:
    world = World()
    mine, theirs = world.dense()
    terms = [labels(), Term("logits", KD(temperature=2.0))]
    counts = Counts(11.0, 11.0)
    expected, _ = objective(terms, mine, theirs)(mine, {"teacher": theirs}, world.labels, counts)
    for heard in (theirs, Signals(tokens=Logits(theirs.logits))):
        found, _ = objective(terms, world.student(), heard)(world.student(), {"teacher": heard}, world.labels, counts)
        torch.testing.assert_close(found, expected)


def top(k: int, *, temperature: float = 1.0) -> TopK:
    log_p = tensor(ROWS, VOCABULARY, seed=9).log_softmax(1)
    values, ids = log_p.topk(k, 1)
    return TopK(ids, values, temperature)


def test_a_teacher_that_was_stored() -> None:
    world = World()
    heard = Signals(tokens=top(4, temperature=2.0))
    term = Term("logits", KD(temperature=2.0))
    total, _ = objective([term], world.student(), heard)(world.student(), {"teacher": heard}, world.labels, Counts(11.0, 11.0))
    assert total.isfinite()
    assert world.gradients(total)[0].abs().sum() > 0


def test_a_teacher_that_was_stored_at_another_temperature_is_refused() -> None:
    heard = Signals(tokens=top(4))
    world = World()
    made = objective([Term("logits", KD(temperature=2.0))], world.student(), heard)
    with pytest.raises(LimbeckError, match=r"objective.logits: the temperature is 2, and the teacher's probabilities were stored at 1"):
        made(world.student(), {"teacher": heard}, world.labels, Counts(11.0, 11.0))


def test_a_loss_that_makes_nothing_of_samples_says_so() -> None:
    heard = Signals(tokens=Sampled(torch.zeros(ROWS, 2, dtype=torch.int64), torch.full((ROWS, 2), 0.5)))
    world = World()
    made = objective([Term("dkd", DKD())], world.student(), heard)
    with pytest.raises(LimbeckError, match=r"objective.dkd: 'teacher' says samples .sampled., and this loss takes dense or hidden ones"):
        made(world.student(), {"teacher": heard}, world.labels, Counts(11.0, 11.0))


def test_a_teacher_that_says_nothing_is_told() -> None:
    world = World()
    made = objective([Term("logits", KD())], world.student(), Signals(tokens=world.teacher))
    with pytest.raises(SignalMissing, match="the teacher said nothing of the tokens"):
        made(world.student(), {"teacher": Signals()}, world.labels, Counts(11.0, 11.0))


@dataclass(eq=False, repr=False, kw_only=True)
class Scalar(Loss):
    """Forgets that a loss has a value for each token."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return (student.logits - teacher.logits).square().sum()


def test_a_loss_without_a_value_for_each_token_says_so() -> None:
    world = World()
    heard = Signals(tokens=world.teacher)
    made = objective([Term("bad", Scalar())], world.student(), heard)
    with pytest.raises(ShapeMismatch, match=r"objective.bad: expected a value for each token, found \[\]"):
        made(world.student(), {"teacher": heard}, world.labels, Counts(11.0, 11.0))


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_any_cut_into_forward_passes_gives_one_gradient(parts: int) -> None:
    """Sum over trained tokens divided by their number in the whole update, however uneven the parts are."""
    terms = [labels(), Term("logits", KD(temperature=2.0), 0.7), Term("dkd", DKD(), 0.4)]
    world = World()
    heard = Signals(tokens=world.teacher)
    whole, values = objective(terms, world.student(), heard)(world.student(), {"teacher": heard}, world.labels, Counts(11.0, 11.0))
    expected = world.gradients(whole)
    made = objective(terms, world.student(), heard)
    edges = [0, *sorted(torch.randperm(ROWS - 1, generator=torch.Generator().manual_seed(parts))[: parts - 1].add(1).tolist()), ROWS]
    sums, each = [torch.zeros_like(x) for x in expected], torch.zeros_like(values)
    for start, stop in itertools.pairwise(edges):
        own = Signals(tokens=Hidden(world.hidden[start:stop], Projection(world.weight, world.bias)))
        other = Signals(tokens=Hidden(world.teacher.hidden[start:stop], world.teacher.head))
        total, part = made(own, {"teacher": other}, world.labels[start:stop], Counts(11.0, 11.0))
        sums = [a + b for a, b in zip(sums, world.gradients(total), strict=True)]
        each = each + part
    torch.testing.assert_close(sums, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(each, values, rtol=1e-10, atol=1e-12)
