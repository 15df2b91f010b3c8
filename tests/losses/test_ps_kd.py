"""Progressive self-distillation: value by hand, an oracle over two epochs, when the store moves, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import LimbeckError, SignalMissing
from limbeck.losses.ps_kd import PSKD, refined_cross_entropy, refined_targets
from limbeck.types import IGNORE, Signals

LABELS = torch.tensor([0, 3, 5, 2])


def ready(examples=9, classes=6, **fields):
    loss = PSKD(**fields)
    loss.allocate(examples)
    loss.setup(Signals(torch.zeros(2, classes)), Signals())
    return loss.double()


def seen(logits, rows):
    return Signals(logits, extra={"index": torch.tensor(rows)})


def test_by_hand():
    """Half the label, half a past of (1/4, 3/4); the student says 1/2 and 1/2."""
    targets = refined_targets(torch.tensor([[0.25, 0.75]]), torch.tensor([0]), alpha=torch.tensor([[0.5]]))
    assert targets.tolist() == [[0.625, 0.375]]
    assert refined_cross_entropy(torch.zeros(1, 2), targets).item() == pytest.approx(math.log(2))


def test_every_example_has_its_share():
    past = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    assert refined_targets(past, torch.tensor([0, 1]), alpha=torch.tensor([[0.0], [0.5]])).tolist() == [[1.0, 0.0], [0.25, 0.75]]


def test_two_epochs(draw):
    first, second = draw(4, 6)
    first.requires_grad_()
    loss = ready(alpha=0.3)
    rows = [7, 0, 3, 4]
    got = loss(seen(first, rows), Signals(), LABELS)
    torch.testing.assert_close(got, torch.nn.functional.cross_entropy(first, LABELS))
    order = torch.tensor([2, 0, 3, 1])
    labels, past = LABELS[order], first.detach().softmax(-1)[order]
    got = loss(seen(second, [rows[i] for i in order]), Signals(), labels)
    targets = 0.7 * torch.nn.functional.one_hot(labels, 6) + 0.3 * past
    torch.testing.assert_close(got, -(targets * second.log_softmax(-1)).sum(-1).mean())


def test_only_training_moves_the_store(draw):
    first, _ = draw(4, 6)
    loss = ready()
    rows = [1, 2, 3, 4]
    loss(seen(first, rows), Signals(), LABELS)
    loss.eval()(seen(first.clone().requires_grad_(), rows), Signals(), LABELS)
    assert not loss.seen.any()
    assert not loss.past.any()
    loss.train()(seen(first.clone().requires_grad_(), rows), Signals(), LABELS)
    assert loss.seen.tolist() == [False, True, True, True, True, False, False, False, False]
    torch.testing.assert_close(loss.past[1:5], first.softmax(-1))
    assert not loss.past[5:].any()


def test_the_state_is_saved(draw):
    first, second = draw(4, 6)
    loss, other = ready(), ready()
    loss(seen(first.requires_grad_(), [1, 2, 3, 4]), Signals(), LABELS)
    assert {name: tuple(x.shape) for name, x in loss.state_dict().items()} == {"past": (9, 6), "seen": (9,)}
    other.load_state_dict(loss.state_dict())
    student = seen(second, [4, 1, 2, 5])
    assert loss(student, Signals(), LABELS) == other(student, Signals(), LABELS)


def test_the_past_has_no_gradient_and_the_share_is_scheduled(draw):
    first, second = (x.requires_grad_() for x in draw(4, 6))
    loss = ready(alpha=0.0)
    loss(seen(first, [1, 2, 3, 4]), Signals(), LABELS)
    loss.alpha = 0.5
    loss(seen(second, [1, 2, 3, 4]), Signals(), LABELS).backward()
    assert first.grad is None
    targets = 0.5 * torch.nn.functional.one_hot(LABELS, 6) + 0.5 * first.detach().softmax(-1)
    torch.testing.assert_close(second.grad, (second.detach().softmax(-1) - targets) / 4)


def test_unlabelled_examples_do_not_count(draw):
    first, _ = draw(4, 6)
    labels = LABELS.clone()
    labels[1] = IGNORE
    loss, rest = ready(), [0, 2, 3]
    got = loss(seen(first, [0, 1, 2, 3]), Signals(), labels)
    torch.testing.assert_close(got, torch.nn.functional.cross_entropy(first[rest], labels[rest]))
    one = torch.tensor([IGNORE, IGNORE, 5, IGNORE])
    torch.testing.assert_close(loss(seen(first, [0, 1, 2, 3]), Signals(), one), torch.nn.functional.cross_entropy(first[2], one[2]))
    assert loss(seen(first, [0, 1, 2, 3]), Signals(), labels.fill_(IGNORE)) == 0


def test_half_precision_is_kept_in_float32(draw):
    first, second = draw(4, 6)
    loss = ready().float()
    student = seen(first.bfloat16().requires_grad_(), [0, 1, 2, 3])
    loss(student, Signals(), LABELS)
    assert loss.past.dtype == torch.float32
    torch.testing.assert_close(loss.past[:4], first.bfloat16().float().softmax(-1))
    assert loss(seen(second.bfloat16(), [0, 1, 2, 3]), Signals(), LABELS).dtype == torch.float32


def test_the_store_keeps_its_precision_under_wider_logits(draw):
    first, _ = draw(4, 6)
    loss = ready().float()
    loss(seen(first.requires_grad_(), [0, 1, 2, 3]), Signals(), LABELS)
    torch.testing.assert_close(loss.past[:4], first.detach().softmax(-1).float())


def test_mistakes():
    with pytest.raises(LimbeckError, match=r"^PSKD keeps a prediction of every example; call allocate\(examples\) before setup\.$"):
        PSKD().setup(Signals(torch.zeros(1, 2)), Signals())
    loss = ready(classes=2)
    with pytest.raises(SignalMissing, match="this loss needs the signal 'index' of the batch"):
        loss(Signals(torch.zeros(1, 2)), Signals(), torch.tensor([0]))
    with pytest.raises(SignalMissing, match="this loss needs labels"):
        loss(seen(torch.zeros(1, 2), [0]), Signals())
    for bad, sign in ((-0.1, r">= 0"), (1.1, r"<= 1")):
        with pytest.raises(ValueError, match=rf"^PSKD\.alpha must be {sign}, got {bad}$"):
            PSKD(alpha=bad)


def test_default_and_needs():
    assert PSKD().alpha == 0.8
    assert PSKD.teaches
    needs = PSKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.extra) == (True, True, False, "none", ("index",))
    assert (needs.label_kinds, needs.global_batch) == (("class",), True)


def test_set_up_on_the_meta_device():
    loss = PSKD()
    loss.allocate(5)
    loss.setup(Signals(torch.zeros(2, 3, device="meta")), Signals())
    assert [x.device.type for x in loss.buffers()] == ["meta", "meta"]


def test_golden():
    check_parity("../teachers/ps_kd")
