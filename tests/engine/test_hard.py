"""The step of hard augmentations: who learns when, what the augmentor seeks, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.config.load import load_recipe
from limbeck.engine.backend import Backend
from limbeck.engine.steps.hard import Hard
from limbeck.engine.watch import Journal, Silent
from limbeck.errors import LimbeckError, ModelError
from limbeck.models.builtin.affine_augmentor import AffineAugmentor
from limbeck.objective import Counts
from limbeck.ops.divergence import kl
from limbeck.session import Session
from tests.engine.test_doors import _killed_is_whole, _last
from tests.engine.test_resume import lines
from tests.runs import PLAIN, SMALL, distill

ARGS = {"spread": 0.2, "freeze": 1e9, "wake": 1e9}


def recipe(optimizer: Any = None, step: str = "hard", **args: Any) -> dict[str, Any]:
    augmentor = {
        "model": "affine_augmentor",
        "normalize": "none",
        "optimizer": optimizer or {"name": "sgd", "lr": 0.1},
        "args": {**ARGS, **args},
    }
    objective = {"logits": {"loss": "kd", "temperature": 1}}
    train = {**SMALL["train"], "step": step, "optimizer": {"name": "sgd", "lr": 0.1}}
    return {**SMALL, "models": {"augmentor": augmentor}, "objective": objective, "train": train}


def stage(tmp_path: Path, given: dict[str, Any]) -> tuple[Any, Any]:
    session = Session(load_recipe(given), tmp_path, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    made = session.stage(session.phases[0], 0, 0)
    made.step.setup()
    return session, made


def test_images_are_shifted_by_draws_of_their_own():
    augmentor = AffineAugmentor(num_outputs=10, input_shape=(1, 8, 8), spread=1e-6)
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(augmentor(x), x, atol=1e-4, rtol=0)
    with torch.no_grad():
        augmentor.mean.copy_(torch.tensor([0.25, 0.0]))  # a quarter of half of eight pixels: one
    torch.testing.assert_close(augmentor(x)[..., :-1], x[..., 1:], atol=1e-4, rtol=0)
    wide = AffineAugmentor(num_outputs=10, input_shape=(1, 8, 8), spread=0.5)(x[:1].repeat(2, 1, 1, 1))
    assert not torch.allclose(wide[0], wide[1])
    with pytest.raises(ModelError, match="expected spread above 0"):
        AffineAugmentor(num_outputs=10, input_shape=(1, 8, 8), freeze=0.5)


def test_it_rests_and_wakes_by_the_ratio():
    augmentor = AffineAugmentor(num_outputs=2, input_shape=(1, 8, 8))
    states = []
    for ratio in (2.0, 2.1, 1.5, 1.0, 0.9, 1.9):
        augmentor.settle(ratio)
        states.append(bool(augmentor.active))
    assert states == [True, False, False, False, True, True]
    assert "active" in augmentor.state_dict()


def test_the_augmentor_goes_down_its_own_loss_and_nothing_else_moves(tmp_path):
    session, made = stage(tmp_path, recipe(disagree=0.7, stay=1.3))
    batch = made.train.__getitems__(list(range(16)))
    augmentor, learner = session.models["augmentor"].module, made.context.learner
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    teacher = {name: value.clone() for name, value in session.models["teacher"].module.state_dict().items()}
    old = [p.detach().clone() for p in augmentor.parameters()]
    torch.manual_seed(5)
    both = made.step._make_harder([batch], Counts(16.0, 16.0))
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in learner.parameters())
    assert all(torch.equal(value, teacher[name]) for name, value in session.models["teacher"].module.state_dict().items())
    moved = [(a - b.detach()) / 0.1 for a, b in zip(old, augmentor.parameters(), strict=True)]
    for parameter, value in zip(augmentor.parameters(), old, strict=True):
        parameter.data.copy_(value)
    torch.manual_seed(5)
    hard = type(batch)(augmentor(batch.inputs), None, batch.index)
    student, frozen = session.models["student"].module.eval(), session.models["teacher"].module.eval()
    said, taught, plain = (
        session.call(n)(m, b).logits for n, m, b in (("student", student, hard), ("teacher", frozen, hard), ("teacher", frozen, batch))
    )
    disagreement, change = kl(taught, said).mean(), kl(plain, taught).mean()
    torch.testing.assert_close(both, torch.stack([disagreement, change]).detach(), rtol=1e-4, atol=1e-6)
    gradients = torch.autograd.grad(1.3 * change - 0.7 * disagreement, list(augmentor.parameters()))
    for got, expected in zip(moved, gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)


def test_a_resting_augmentor_does_not_move(tmp_path):
    session, made = stage(tmp_path, recipe(freeze=0.0, wake=0.0))
    augmentor = session.models["augmentor"].module
    batch = [made.train.__getitems__(list(range(8)))]
    made.step.update(batch, Counts(8.0, 8.0))
    assert not bool(augmentor.get_buffer("active"))
    old = [p.detach().clone() for p in augmentor.parameters()]
    values = made.step.update(batch, Counts(8.0, 8.0))
    assert all(torch.equal(a, b) for a, b in zip(old, augmentor.parameters(), strict=True))
    assert values.shape == (3,)
    assert made.step.labels == ("logits", "disagreement", "change")


def test_without_the_teachers_consistency_the_shift_grows_without_bound(tmp_path):
    spreads = {}
    for stay in (0.0, 30.0):
        given = recipe({"name": "adam", "lr": 0.05}, stay=stay)
        run = distill({**given, "train": {**given["train"], "epochs": 6}}, out=tmp_path / str(stay))
        from limbeck.engine.checkpoint import latest, load

        point = latest(run.folder / "checkpoints")
        assert point is not None
        own = load(point)[0]["player-augmentor"]
        spreads[stay] = float(own["mean"].abs().max() + own["log_spread"].exp().max())
    assert spreads[0.0] > 0.3
    assert spreads[0.0] > 2 * spreads[30.0]


def test_what_it_needs_is_told(tmp_path):
    given = recipe()
    with pytest.raises(LimbeckError, match="the step 'hard' needs a model called 'augmentor' with an optimizer"):
        stage(tmp_path, {**given, "models": {}})
    ema = {**given, "teacher": {"kind": "ema"}}
    made = stage(tmp_path, ema)[1]
    with pytest.raises(LimbeckError, match="EMATeacher gives no gradient to its inputs; use a teacher of kind 'frozen'"):
        made.step.update([made.train.__getitems__([0, 1])], Counts(2.0, 2.0))
    given["models"]["augmentor"]["model"] = PLAIN["model"]
    given["models"]["augmentor"]["args"] = {}
    with pytest.raises(LimbeckError, match="affine_augmentor"):
        stage(tmp_path, given)


def test_the_student_alone_learns_by_the_usual_step(tmp_path):
    session, _ = stage(tmp_path, recipe())
    assert session.phases[0].train.step == "hard"
    alone = load_recipe({**recipe(), "baseline": True})
    phases = Session(alone, tmp_path, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False).phases
    assert [phase.train.step for phase in phases] == ["supervised", "hard"]
    assert Hard.taught


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 8])
def test_a_run_that_is_killed_goes_on_with_its_augmentor(tmp_path, count):
    """Both players, both optimizers, the draws of the images and whether the augmentor rests are in the checkpoint."""
    given = recipe({"name": "adam", "lr": 0.05}, freeze=0.05, wake=0.02)
    train = {**given["train"], "epochs": 4, "log_every": 1, "checkpoint_every": 2}
    _killed_is_whole(tmp_path, {**given, "train": train}, count)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    kept = _last(tmp_path / "run")
    assert kept["player-augmentor/mean"].abs().sum() > 0
    assert "player-augmentor/active" in kept
    assert any(name.startswith("optimizer-augmentor/") for name in kept)
