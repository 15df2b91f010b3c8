r"""Teacher and student in turn: the student learns the teacher's guesses, the teacher from what became of the student.

On the unlabelled examples U of an update the advisor (a second model) guesses :math:`\hat y = \arg\max T(x)`. The student learns its
objective with these guesses in the place of labels, one step from S to S'. How much that helped on the labelled examples L is

.. math:: h = CE_L(S) - CE_L(S')

and the advisor then minimises :math:`CE_L(T) + h \cdot CE_U(T, \hat y)`: guesses that helped become likelier, those that did harm less.
Losses of S and S' are taken in evaluation mode. There is no moving average of h, and no consistency term on changed inputs.

Reference: Pham et al., "Meta Pseudo Labels", CVPR 2021, arXiv:2003.10580, algorithm 1; for noisy labels Zhang et al., "QUEACO: Borrowing
Treasures from Weakly-labeled Behavior Data for Query Attribute Value Extraction", CIKM 2021, arXiv:2108.08468.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import LimbeckError
from ...objective import Counts
from ...types import IGNORE, Batch, labelled
from ..learner import Learner
from .base import Step


@final
class Feedback(Step):
    """The student learns a second model's guesses on unlabelled examples; that model learns which guesses helped."""

    taught: ClassVar[bool] = True

    def setup(self) -> None:
        """Finds the advisor.

        Raises:
            LimbeckError: where there is none, or it does not learn.
        """
        player = self.context.players.get("advisor")
        if player is None or player.optimizer is None:
            example = "models: {advisor: {model: convnet, optimizer: adamw}}"
            raise LimbeckError(f"the step 'feedback' needs a model called 'advisor' with an optimizer: `{example}`.")
        self._advisor = player

    @property
    def labels(self) -> tuple[str, ...]:
        """The terms of the student, what its step gained on labelled examples, and the advisor's loss on them."""
        return (*self.context.learner.objective.terms, "feedback", "advisor")

    def update(self, batches: list[Batch], counts: Counts) -> Tensor:
        """The student's update on the guesses, then the advisor's."""
        backend = self.context.backend
        batches = [batch.to(backend.device) for batch in batches]
        guesses = [self._guesses(batch) for batch in batches]
        strong = self._count([labelled(_labels(batch)).sum() for batch in batches])
        weak = self._count([(guess != IGNORE).sum() for guess in guesses])
        before = self._loss(batches, strong)
        terms = self._teach(batches, guesses, replace(counts, labelled=weak))
        gained = before - self._loss(batches, strong)
        own = self._advise(batches, guesses, gained, strong, weak)
        share = 1 / counts.world  # values of processes are summed, and this one is known to all
        return torch.cat([terms, torch.stack([gained * share, own])])

    def _guesses(self, batch: Batch) -> Tensor:
        """Classes of the unlabelled examples, `IGNORE` at the others."""
        with torch.no_grad():
            logits = self.context.calls["advisor"](self._advisor.module, batch).logits
        labels = _labels(batch)
        return torch.where(labelled(labels), torch.full_like(labels, IGNORE), logits.argmax(1))

    def _count(self, counts: list[Tensor]) -> Tensor:
        return self.context.backend.sum(torch.stack(counts).sum().float()).clamp_min(1)

    def _loss(self, batches: list[Batch], count: Tensor) -> Tensor:
        """Cross-entropy of the student on the labelled examples of the update, in evaluation mode."""
        learner = self.context.learner
        before = learner.training
        learner.eval()
        with torch.no_grad():
            total = torch.stack([_cross_entropy(_answers(learner, batch), _labels(batch)) for batch in batches]).sum()
        learner.train(before)
        return self.context.backend.sum(total) / count

    def _teach(self, batches: list[Batch], guesses: list[Tensor], counts: Counts) -> Tensor:
        """The student's step."""
        context, player = self.context, self.context.players["learner"]
        values: list[Tensor] = []
        for i, (batch, guess) in enumerate(zip(batches, guesses, strict=True)):
            guessed = replace(batch, labels=guess, _shown={}, _prepared=None)
            with context.backend.no_sync(player.module, last=i == len(batches) - 1):
                with context.backend.autocast():
                    total, terms, _ = player.module(guessed, context.teacher_signals(batch), counts)
                context.backend.backward(total)
            values.append(terms)
        context.apply(player)
        return torch.stack(values).sum(0)

    def _advise(self, batches: list[Batch], guesses: list[Tensor], gained: Tensor, strong: Tensor, weak: Tensor) -> Tensor:
        """The advisor's step; its cross-entropy on the labelled examples of this process."""
        context, world = self.context, self.context.backend.world
        own: list[Tensor] = []
        for batch, guess in zip(batches, guesses, strict=True):
            logits = context.calls["advisor"](self._advisor.module, batch).logits
            known = _cross_entropy(logits, _labels(batch)) / strong
            context.backend.backward(world * (known + gained * _cross_entropy(logits, guess) / weak))
            own.append(known.detach())
        context.apply(self._advisor)
        return torch.stack(own).sum()


def _answers(learner: Learner, batch: Batch) -> Tensor:
    return learner.signals(batch).logits


def _labels(batch: Batch) -> Tensor:
    """The labels.

    Raises:
        LimbeckError: where there are none, or not one class an example.
    """
    if batch.labels is None or batch.labels.dtype.is_floating_point or batch.labels.ndim != 1:
        raise LimbeckError("the step 'feedback' guesses classes; it needs a task of one class an example.")
    return batch.labels


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over the examples that have a label."""
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
