"""Small real pieces that stand for what later families will bring: a step of two players, a step with memory."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.engine.steps.base import Step
from limbeck.objective import Counts
from limbeck.types import Batch


class Critic(nn.Module):
    """Tells the teacher's logits from the student's."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(num_outputs, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, logits: Tensor) -> Tensor:
        """Score of each example, `(batch,)`."""
        return self.net(logits).squeeze(-1)


class Breaking(nn.Module):
    """A model whose answers are no numbers any more from its forward number `at` in training on."""

    def __init__(self, num_outputs: int, at: int = 2) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, num_outputs))
        self.at, self.runs = at, 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits, `(batch, num_outputs)`."""
        self.runs += self.training
        return self.net(images) * (torch.nan if self.runs >= self.at and self.training else 1.0)


@final
class Adversarial(Step):
    """Adversarial distillation: first the critic learns to tell the two apart, then the student to deceive it."""

    @property
    def labels(self) -> tuple[str, ...]:
        return (*self.context.learner.objective.terms, "critic", "deceive")

    def update(self, batches: list[Batch], counts: Counts) -> Tensor:
        context, values = self.context, []
        learner, critic = context.players["learner"], context.players["critic"]
        for batch in batches:
            teachers = context.teacher_signals(batch)
            total, terms, said = learner.module(batch, teachers, counts)
            real, fake = critic.module(teachers["teacher"].logits), critic.module(said.logits.detach())
            loss = F.softplus(-real).mean() + F.softplus(fake).mean()
            context.backend.backward(loss)
            context.apply(critic)
            deceive = F.softplus(-critic.module(said.logits)).mean()
            context.backend.backward(total + deceive)
            critic.optimizer.zero_grad()
            values.append(torch.cat([terms, torch.stack([loss.detach(), deceive.detach()])]))
        context.apply(learner)
        return torch.stack(values).sum(0)


@final
class Remembering(Step):
    """Pulls every example's answer towards the average of its own past answers, which are kept by example."""

    def setup(self) -> None:
        self.past = self.context.sample_state("past", (10,), fill=0.1)

    @property
    def labels(self) -> tuple[str, ...]:
        return (*self.context.learner.objective.terms, "past")

    def update(self, batches: list[Batch], counts: Counts) -> Tensor:
        context, player = self.context, self.context.players["learner"]
        values = []
        for batch in batches:
            total, terms, said = player.module(batch, context.teacher_signals(batch), counts)
            before, _ = self.past.read(batch.index)
            pull = -(before * said.logits.log_softmax(-1)).sum() / counts.examples
            context.backend.backward(total + pull * counts.world)
            self.past.write(batch.index, 0.7 * before + 0.3 * said.logits.detach().softmax(-1))
            values.append(torch.cat([terms, pull.detach()[None]]))
        context.apply(player)
        return torch.stack(values).sum(0)
