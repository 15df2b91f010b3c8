"""DarkRank: values by hand, oracles by loops and by the definition, what the order does not see, messages."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from limbeck.losses.darkrank import DarkRank, nearest, orders_kl, powers
from limbeck.types import Signals


def probability(scores: list[float]) -> float:
    """That answers are drawn in this order, by the definition."""
    worth = [math.exp(x) for x in scores]
    return math.prod(worth[m] / sum(worth[m:]) for m in range(len(worth)))


def sorted_others(teacher: torch.Tensor, i: int, candidates: int) -> list[int]:
    others = sorted((j for j in range(len(teacher)) if j != i), key=lambda j: torch.dist(teacher[i], teacher[j]).item())
    return others[:candidates]


def by_loops(student: torch.Tensor, teacher: torch.Tensor, *, transfer: str, alpha: float, beta: float, candidates: int) -> float:
    values = []
    for i in range(len(student)):
        ours, theirs = (
            [-alpha * torch.dist(x[i], x[j]).item() ** beta for j in sorted_others(teacher, i, candidates)] for x in (student, teacher)
        )
        if transfer == "hard":
            values.append(-math.log(probability(ours)))
        else:
            pairs = zip(itertools.permutations(theirs), itertools.permutations(ours), strict=True)
            values.append(sum(probability(list(t)) * math.log(probability(list(t)) / probability(list(s))) for t, s in pairs))
    return sum(values) / len(values)


def test_value_by_hand():
    """Three points on a line. The teacher's nearest are 1, 2 / 0, 2 / 1, 0; the student's squared distances 1, 4 / 1, 9 / 9, 4."""
    teacher, student = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [1.0], [-2.0]])
    loss = DarkRank(alpha=2.0, beta=2.0, normalise=False)
    expected = [math.log1p(math.exp(2 * (near - far))) for near, far in ((1, 4), (1, 9), (9, 4))]
    assert loss(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(sum(expected) / 3)


@pytest.mark.parametrize("candidates", [1, 2, 4, 7])
@pytest.mark.parametrize("transfer", ["hard", "soft"])
def test_by_loops(draw, transfer, candidates):
    (student,), (teacher,) = draw(6, 3, count=1), draw(6, 2, 2, count=1)
    options = {"transfer": transfer, "alpha": 0.7, "beta": 1.5, "candidates": candidates}
    expected = by_loops(student, teacher.flatten(1), **options)
    assert DarkRank(**options, normalise=False, chunk=4)(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(expected)
    lengths = [x / torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (student, teacher.flatten(1))]
    assert DarkRank(**options)(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(by_loops(*lengths, **options))


def test_nearest_of_some_rows():
    points = torch.tensor([[0.0], [2.0], [3.0], [7.0]])
    assert nearest(points, slice(1, 3), candidates=2).tolist() == [[2, 0], [1, 0]]
    assert nearest(points, slice(0, 4), candidates=9).tolist() == [[1, 2, 3], [2, 0, 3], [1, 0, 3], [2, 1, 0]]


def test_an_example_is_not_its_own_neighbour_even_where_others_coincide_with_it():
    assert sorted(nearest(torch.zeros(3, 2), slice(1, 2), candidates=5)[0].tolist()) == [0, 2]


def test_near_neighbours_are_exact_far_from_the_origin():
    """Squares of the coordinates leave nothing of such differences in float32."""
    points = torch.tensor([[0.0], [0.25], [0.75], [1.75]])
    for transfer in ("hard", "soft"):
        loss = DarkRank(transfer=transfer, alpha=0.5, normalise=False)
        here, there = (loss(Signals.of(points.flip(0) + x), Signals.of(2 * points + x)) for x in (0.0, 4096.0))
        torch.testing.assert_close(here, there)


def test_powers_of_distances():
    squares = torch.tensor([4.0, 0.0, 9.0], requires_grad=True)
    value = powers(squares, beta=1.0)
    assert value.tolist() == [2.0, 0.0, 3.0]
    value.sum().backward()
    assert squares.grad is not None
    assert squares.grad.tolist() == pytest.approx([1 / 4, 0.0, 1 / 6])
    assert powers(squares, beta=3.0).tolist() == [8.0, 0.0, 27.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_first(draw, dtype):
    student, teacher = (x.to(dtype) for x in draw(6, 8))
    for loss in (DarkRank(), DarkRank(alpha=0.1, normalise=False)):
        got = loss(Signals.of(student), Signals.of(teacher))
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, loss(Signals.of(student.float()), Signals.of(teacher.float())))


def test_the_probabilities_of_all_orders_are_compared(draw):
    """With two candidates it is the divergence of one coin; equal scores cost nothing."""
    student, teacher = draw(5, 2)
    first, second = (x.softmax(-1) for x in (student, teacher))
    torch.testing.assert_close(orders_kl(student, teacher), torch.nn.functional.kl_div(first.log(), second, reduction="none").sum(-1))
    assert orders_kl(teacher, teacher).tolist() == [0.0] * 5
    torch.testing.assert_close(orders_kl(student[0], teacher[0]), orders_kl(student, teacher)[0])


def test_only_the_order_of_the_teacher_counts_for_hard_and_more_for_soft(draw):
    (student,), (teacher,) = draw(8, 3, count=1), draw(8, 4, count=1, seed=5)
    wider = 1.7 * teacher
    for loss, equal in ((DarkRank(normalise=False), True), (DarkRank(transfer="soft", normalise=False), False)):
        values = [loss(Signals.of(student), Signals.of(x)).item() for x in (teacher, wider)]
        assert (values[0] == pytest.approx(values[1])) == equal


def test_a_clear_order_costs_nothing_and_its_reverse_much():
    teacher = torch.tensor([[0.0], [1.0], [2.4], [4.4]])
    loss = DarkRank(normalise=False)
    assert loss(Signals.of(20 * teacher), Signals.of(teacher)).item() == pytest.approx(0, abs=1e-6)
    assert loss(Signals.of(teacher.flip(0) ** 2), Signals.of(teacher)).item() > 100
    assert DarkRank(transfer="soft")(Signals.of(teacher), Signals.of(3 * teacher)).item() == pytest.approx(0, abs=1e-6)


def test_the_soft_transfer_of_the_authors_code(draw):
    """Its score is minus the squared distance of embeddings of length sqrt(3.5), squared; it has the teacher's entropy on top."""
    student, teacher = draw(5, 3)
    ours, theirs = ((3.5**0.5 * torch.nn.functional.normalize(x)).tolist() for x in (student, teacher))
    total = 0.0
    for i in range(5):
        squares = [[sum((a - b) ** 2 for a, b in zip(x[i], other, strict=True)) for other in x] for x in (ours, theirs)]
        order = sorted(range(5), key=lambda j: squares[1][j])[1:5]
        for ranks in itertools.permutations(order):
            p, q = (probability([-(row[j] ** 2) for j in ranks]) for row in (squares[1], squares[0]))
            total += p * math.log(p / q)
    loss = DarkRank(transfer="soft", alpha=12.25, beta=4)
    assert loss(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(total / 5)


def test_two_examples_have_no_order():
    student = torch.tensor([[0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    for transfer in ("hard", "soft"):
        value = DarkRank(transfer=transfer)(Signals.of(student), Signals.of(torch.eye(2)))
        value.backward()
        assert value.item() == 0
        assert student.grad is not None
        assert student.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_defaults_and_mistakes():
    loss = DarkRank()
    assert (loss.transfer, loss.alpha, loss.beta, loss.candidates, loss.normalise, loss.chunk) == ("hard", 3.0, 3.0, 4, True, 1024)
    with pytest.raises(ValueError, match=r"^DarkRank\.candidates must be <= 7 where transfer is 'soft', got 8$"):
        DarkRank(transfer="soft", candidates=8)
    assert (DarkRank(candidates=8).candidates, DarkRank(transfer="soft", candidates=7).candidates) == (8, 7)
    with pytest.raises(ValueError, match=r"^DarkRank\.candidates must be > 0, got 0$"):
        DarkRank(candidates=0)
    with pytest.raises(ValueError, match=r"^DarkRank\.beta must be >= 1, got 0\.5$"):
        DarkRank(beta=0.5)


def test_needs():
    needs = DarkRank().needs
    assert (needs.features, needs.match, needs.global_batch, needs.logits, needs.labels) == ("one", "any", True, False, False)
