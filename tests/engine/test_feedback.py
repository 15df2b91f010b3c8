"""Feedback: the student learns the advisor's guesses, the advisor what they were worth."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.engine.learner import Learner
from limbeck.engine.steps.base import Context, Player
from limbeck.engine.steps.feedback import Feedback
from limbeck.errors import LimbeckError
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.objective import Counts, Objective, Term
from limbeck.types import IGNORE, Batch, Signals
from tests.runs import SMALL, distill

RECIPE: dict[str, Any] = {
    **{key: value for key, value in SMALL.items() if key != "teacher"},
    "data": {"source": "sklearn:digits", "limit": 200, "label_fraction": 0.3},
    "models": {"advisor": {"model": "mlp", "args": {"hidden": [16]}, "optimizer": {"name": "sgd", "lr": 0.1}}},
    "objective": {"guesses": "cross_entropy"},
    "train": {"steps": 3, "batch_size": 32, "step": "feedback"},
}


def call(model: Any, batch: Batch) -> Signals:
    return Signals(model(batch.inputs))


def made(student: nn.Module, advisor: nn.Module, rate: float = 0.5) -> tuple[Feedback, Counts]:
    objective = Objective([Term("guesses", CrossEntropy())])
    objective.setup(Signals(torch.zeros(2, 3)), {})
    learner = Learner(student, objective, call)
    player = Player("learner", learner, torch.optim.SGD(student.parameters(), rate))
    second = Player("advisor", advisor, torch.optim.SGD(advisor.parameters(), rate))
    backend: Any = SimpleNamespace(
        device=torch.device("cpu"),
        world=1,
        sum=lambda x: x,
        backward=lambda x: x.backward(),
        autocast=nullcontext,
        no_sync=lambda module, last: nullcontext(),
    )
    context = Context(backend, learner, {"learner": player, "advisor": second}, {}, {"learner": call, "advisor": call}, 6, heard=())
    step = Feedback(context)
    step.setup()
    return step, Counts(6.0, torch.tensor(3.0))


def batch_of(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(6, 4, generator=generator)
    return Batch(inputs, torch.tensor([0, IGNORE, 2, IGNORE, 1, IGNORE]), torch.arange(6))


def test_an_update_written_out():
    torch.manual_seed(0)
    student, advisor, batch = nn.Linear(4, 3), nn.Linear(4, 3), batch_of()
    strong, weak = [0, 2, 4], [1, 3, 5]
    x, labels = batch.inputs, batch.labels
    assert labels is not None
    own, other = nn.Linear(4, 3), nn.Linear(4, 3)
    own.load_state_dict(student.state_dict())
    other.load_state_dict(advisor.state_dict())
    guess = other(x[weak]).argmax(1)
    before = F.cross_entropy(own(x[strong]), labels[strong])
    taught = F.cross_entropy(own(x[weak]), guess)
    torch.optim.SGD(own.parameters(), 0.5).zero_grad()
    taught.backward()
    torch.optim.SGD(own.parameters(), 0.5).step()
    gained = (before - F.cross_entropy(own(x[strong]), labels[strong])).detach()
    known = F.cross_entropy(other(x[strong]), labels[strong])
    (known + gained * F.cross_entropy(other(x[weak]), guess)).backward()
    torch.optim.SGD(other.parameters(), 0.5).step()

    step, counts = made(student, advisor)
    values = step.update([batch], counts)
    assert step.labels == ("guesses", "feedback", "advisor")
    torch.testing.assert_close(values, torch.stack([taught, gained, known]).detach())
    for ours, theirs in ((student, own), (advisor, other)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b)


def test_micro_batches_change_nothing():
    results = []
    for parts in ([range(6)], [range(2), range(2, 6)]):
        torch.manual_seed(1)
        student, advisor, batch = nn.Linear(4, 3), nn.Linear(4, 3), batch_of(3)
        assert batch.labels is not None
        cut = [Batch(batch.inputs[[*part]], batch.labels[[*part]], batch.index[[*part]]) for part in parts]
        step, counts = made(student, advisor)
        values = step.update(cut, counts)
        results.append([values, *student.state_dict().values(), *advisor.state_dict().values()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_guesses_that_help_become_likelier():
    """The student can only gain from the right guess: the advisor is sure of it afterwards; from the wrong one it turns away."""
    for truth, helps in ((0, True), (1, False)):
        student, advisor = nn.Linear(1, 2, bias=False), nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            student.weight.zero_()
            advisor.weight.copy_(torch.tensor([[0.1], [0.0]]))
        batch = Batch(torch.ones(2, 1), torch.tensor([truth, IGNORE]), torch.arange(2))
        step, _ = made(student, advisor, rate=1.0)
        values = step.update([batch], Counts(2.0, torch.tensor(1.0)))
        assert (values[1] > 0) == helps
        assert student.weight[0] > student.weight[1], "the student learns the guess, right or wrong"


def test_without_unlabelled_or_labelled_examples_it_runs():
    for labels in (torch.tensor([0, 1]), torch.tensor([IGNORE, IGNORE])):
        step, _ = made(nn.Linear(4, 3), nn.Linear(4, 3))
        values = step.update([Batch(torch.randn(2, 4), labels, torch.arange(2))], Counts(2.0, torch.tensor(1.0)))
        assert values.isfinite().all()


def test_it_runs_and_needs_an_advisor(tmp_path):
    result = distill(RECIPE, out=tmp_path / "run", device="cpu")
    assert result.results["stages"][0]["updates"] == 3
    with pytest.raises(LimbeckError) as error:
        distill({**RECIPE, "models": {}}, out=tmp_path / "none", device="cpu")
    assert str(error.value) == (
        "the step 'feedback' needs a model called 'advisor' with an optimizer: `models: {advisor: {model: convnet, optimizer: adamw}}`."
    )
