"""SKDMap: value by hand, whose rank counts, spans."""

from __future__ import annotations

import pytest
import torch

from limbeck.losses.kd import KD
from limbeck.losses.skd_map import SKDMap
from limbeck.ops.divergence import kl
from limbeck.types import IGNORE, Signals

STUDENT = torch.tensor([[1.0, 0.0, 2.0, -1.0], [0.5, 0.2, 0.0, 0.1]])
TEACHER = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]])


def call(labels: list[int], **fields: object) -> torch.Tensor:
    return SKDMap(**fields)(Signals(STUDENT), Signals(TEACHER), torch.tensor(labels))  # type: ignore[arg-type]


def test_the_weight_by_hand() -> None:
    """The second answer of the first teacher is right (1/2), and the fourth of the second (1/4)."""
    plain = KD(temperature=2.0)(Signals(STUDENT), Signals(TEACHER))
    torch.testing.assert_close(call([1, 0]), plain * 0.375)
    torch.testing.assert_close(call([1, 0], over="example"), plain * torch.tensor([0.5, 0.25]))
    torch.testing.assert_close(call([1, 0], top=2), plain * 0.25)
    torch.testing.assert_close(call([1, 0], top=1), plain * 0)
    torch.testing.assert_close(call([0, 3], top=1), plain)
    torch.testing.assert_close(call([1, 0], quality="mrr"), call([1, 0]))  # classes have no neighbours


def test_the_directions() -> None:
    forward, reverse, both = (call([0, 3], divergence=name) for name in ("forward", "reverse", "symmetric"))
    torch.testing.assert_close(forward, 4 * kl(TEACHER / 2, STUDENT / 2))
    torch.testing.assert_close(reverse, 4 * kl(STUDENT / 2, TEACHER / 2))
    torch.testing.assert_close(both, forward + reverse)
    torch.testing.assert_close(call([0, 3], temperature=1.0), kl(TEACHER, STUDENT))


def test_an_example_without_a_label_counts_nothing() -> None:
    plain = KD(temperature=2.0)(Signals(STUDENT), Signals(TEACHER))
    found = call([1, IGNORE])
    torch.testing.assert_close(found, torch.stack([plain[0] * 0.5, torch.tensor(0.0)]))
    assert call([IGNORE, IGNORE]).tolist() == [0.0, 0.0]
    ours = STUDENT.clone().requires_grad_()
    SKDMap()(Signals(ours), Signals(TEACHER), torch.tensor([IGNORE, IGNORE])).sum().backward()
    assert torch.equal(ours.grad, torch.zeros(2, 4))  # type: ignore[arg-type]


def test_defaults_and_bounds() -> None:
    loss = SKDMap()
    assert (loss.temperature, loss.divergence, loss.quality, loss.top, loss.near, loss.over) == (2.0, "forward", "map", 10, 5, "batch")
    for wrong in ({"temperature": 0.0}, {"top": 0}, {"near": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SKDMap(**wrong)  # type: ignore[arg-type]


def spans() -> tuple[Signals, Signals, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    student, teacher = (Signals(torch.randn(3, 2, 40, generator=generator)) for _ in range(2))
    return student, teacher, torch.tensor([[3, 9], [20, 22], [0, 39]])


def test_near_answers_of_spans_are_right() -> None:
    student, teacher, labels = spans()
    teacher.logits.zero_()
    for row, (first, last) in enumerate(labels.tolist()):
        teacher.logits[row, 0, max(first - 5, 0)] = 2.0  # five before is near
        teacher.logits[row, 1, max(last - 6, 0)] = 2.0  # six before is not
        teacher.logits[row, 1, last] = 1.0
    plain = KD(temperature=2.0)(student, teacher)
    assert plain.shape == (3, 2)
    torch.testing.assert_close(SKDMap(top=2)(student, teacher, labels), plain * 0.75)
    torch.testing.assert_close(SKDMap(top=2, near=0)(student, teacher, labels), plain * 0.25 + plain * (1 / 6))  # only 0 is 5 before 0
    torch.testing.assert_close(SKDMap(top=2, over="example")(student, teacher, labels), plain * 0.75)
    later = Signals(torch.zeros(1, 2, 40))
    later.logits[0, :, 14] = 1.0
    at = torch.tensor([[10, 10]])
    one = Signals(student.logits[:1])
    torch.testing.assert_close(SKDMap(top=1)(one, later, at), KD(temperature=2.0)(one, later))  # four behind is near
    assert SKDMap(top=1, near=1)(one, later, torch.tensor([[13, 13]])).tolist() == [[0.0, 0.0]]  # with one before none behind
    assert SKDMap(top=1, near=1)(one, later, torch.tensor([[15, 15]])).ne(0).all()
    at = torch.tensor([[9, 9]])
    assert SKDMap(top=1)(one, later, at).tolist() == [[0.0, 0.0]]  # five behind is not
