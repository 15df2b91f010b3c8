"""Bounds on mutual information as a loss: critics, baselines, batches of one, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.mi_bound import MIBound, levelled
from limbeck.ops.information import explicit_log_mean_exp_without, infonce, interpolated, log_mean_exp_without, tuba
from limbeck.types import Signals


def made(batch=5, **fields):
    torch.manual_seed(4)
    student, teacher = Signals.of(torch.randn(batch, 3, 2, 2).double()), Signals.of(torch.randn(batch, 6).double())
    loss = MIBound(**{"hidden": 8, "dim": 4, **fields})
    loss.setup(student, teacher)
    for p in loss.parameters():  # scores of some size
        p.data.mul_(4)
    return loss.double(), student, teacher


def test_levelled():
    maps = torch.randn(3, 4, 2, 2)
    got = levelled(maps)
    pooled = maps.mean((2, 3))
    torch.testing.assert_close(got, pooled / pooled.square().mean(1, keepdim=True).sqrt())
    assert not levelled(torch.zeros(2, 4)).any()


@pytest.mark.parametrize("critic", ["separable", "concatenated"])
@pytest.mark.parametrize("chunk", [2, 64])
def test_scores_by_loops(critic, chunk):
    loss, student, teacher = made(critic=critic, chunk=chunk)
    ours, theirs = levelled(student.feature), levelled(teacher.feature)
    got = loss.scores(ours, theirs)
    for i in range(5):
        for j in range(5):
            if critic == "separable":
                expected = loss.teacher_critic(theirs[i : i + 1])[0] @ loss.student_critic(ours[j : j + 1])[0]
            else:
                expected = loss.pair_critic(torch.cat([ours[j], theirs[i]])[None])[0, 0]
            torch.testing.assert_close(got[i, j], expected)


def test_each_bound_is_that_of_the_scores():
    for bound in ("alpha", "tuba", "nwj", "infonce"):
        for variant in ("paper", "official"):
            loss, student, teacher = made(bound=bound, alpha=0.3, variant=variant)
            scores = loss.scores(levelled(student.feature), levelled(teacher.feature))
            if bound in ("alpha", "tuba"):
                baseline = loss.baseline(levelled(teacher.feature))[:, 0]
            if bound == "alpha":
                others = (log_mean_exp_without if variant == "paper" else explicit_log_mean_exp_without)(scores)
                expected = interpolated(scores, baseline, others, alpha=0.3)  # pyright: ignore[reportPossiblyUnboundVariable]
            elif bound == "tuba":
                expected = tuba(scores, baseline)  # pyright: ignore[reportPossiblyUnboundVariable]
            else:
                expected = infonce(scores) if bound == "infonce" else tuba(scores, 1.0)
            assert torch.equal(loss(student, teacher), -expected)


def test_variants_differ_where_a_score_towers():
    losses = [made(variant=variant)[0] for variant in ("paper", "official")]
    _, student, teacher = made()
    for loss in losses:
        loss.teacher_critic[-1].weight.data.mul_(1e4)  # pyright: ignore[reportCallIssue]
    values = [loss(student, teacher).item() for loss in losses]
    assert values[0] != pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize("bound", ["alpha", "infonce", "nwj", "tuba"])
@pytest.mark.parametrize("critic", ["separable", "concatenated"])
def test_batch_of_one_is_zero(bound, critic):
    loss, student, teacher = made(batch=1, bound=bound, critic=critic)
    own = student.feature.requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert (value.item(), value.shape) == (0, ())
    assert not own.grad.any()  # pyright: ignore[reportOptionalMemberAccess]
    for p in loss.parameters():
        p.data.zero_()
    assert loss(student, teacher).item() == 0


@pytest.mark.parametrize("bound", ["alpha", "infonce", "nwj", "tuba"])
def test_batch_of_two_is_finite(bound):
    loss, student, teacher = made(batch=2, bound=bound)
    value = loss(student, teacher)
    value.backward()
    assert value.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_chunk_changes_neither_value_nor_gradient(chunk):
    values = []
    for fields in ({}, {"chunk": chunk}):
        loss, student, teacher = made(critic="concatenated", **fields)
        value = loss(student, teacher)
        value.backward()
        values.append((value.detach(), *[p.grad for p in loss.parameters()]))
    torch.testing.assert_close(values[0], values[1])


def test_the_critic_learns_to_tell_pairs():
    torch.manual_seed(0)
    teacher = torch.randn(64, 6)
    student = teacher[:, :3] + 0.1 * torch.randn(64, 3)
    for bound in ("alpha", "infonce", "nwj", "tuba"):
        loss = MIBound(bound=bound, hidden=32)
        loss.setup(Signals.of(student), Signals.of(teacher))
        optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)
        values = []
        for _ in range(60):
            value = loss(Signals.of(student), Signals.of(teacher))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(value.item())
        assert values[-1] < min(values[0], 0) - 0.5
        assert values[-1] > -2 * math.log(64)


def test_parameters_are_those_of_the_bound_and_the_critic():
    def shapes(**fields):
        return {name: tuple(p.shape) for name, p in made(**fields)[0].named_parameters() if name.endswith("weight")}

    separable = {
        f"{side}_critic.{i}.weight": shape
        for side, first in (("student", 3), ("teacher", 6))
        for i, shape in ((0, (8, first)), (2, (8, 8)), (4, (4, 8)))
    }
    baseline = {"baseline.0.weight": (8, 6), "baseline.2.weight": (8, 8), "baseline.4.weight": (1, 8)}
    pair = {"pair_critic.0.weight": (8, 9), "pair_critic.2.weight": (8, 8), "pair_critic.4.weight": (1, 8)}
    assert shapes() == shapes(bound="tuba") == {**separable, **baseline}
    assert shapes(bound="nwj") == shapes(bound="infonce") == separable
    assert shapes(critic="concatenated", bound="nwj") == pair


def test_autocast_does_not_touch_the_scores():
    loss, student, teacher = made()
    loss, student, teacher = loss.float(), Signals.of(student.feature.float()), Signals.of(teacher.feature.float())
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(student, teacher), expected)


@pytest.mark.parametrize("critic", ["separable", "concatenated"])
def test_parameters_are_on_the_device_of_the_signals(critic):
    loss = MIBound(critic=critic)
    loss.setup(Signals.of(torch.empty(2, 5, device="meta")), Signals.of(torch.empty(2, 3, device="meta")))
    assert {parameter.device.type for parameter in loss.parameters()} == {"meta"}


def test_needs_defaults_and_bounds():
    needs = MIBound().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (False, False, True, "one", "any")
    assert needs.global_batch
    loss = MIBound()
    assert (loss.bound, loss.alpha, loss.critic, loss.variant) == ("alpha", 0.5, "separable", "paper")
    assert (loss.hidden, loss.dim, loss.chunk) == (512, 32, 64)
    with pytest.raises(ValueError, match=r"^MIBound\.alpha must be <= 1, got 2$"):
        MIBound(alpha=2)


def test_golden():
    check_parity("distiller_mi_alpha", "distiller_tuba", "distiller_nwj")
