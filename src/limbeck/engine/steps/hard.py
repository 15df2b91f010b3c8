r"""The student learns on images that a second player makes hard for it.

With the augmentor's images :math:`\tilde x = g_\phi(x)`, the student minimises the objective on :math:`\tilde x`. Then the augmentor
minimises

.. math:: -\lambda_s KL(T(\tilde x) \| S(\tilde x)) + \lambda_t KL(T(x) \| T(\tilde x)):

it seeks images on which student and teacher disagree, and avoids those that change the teacher's own answer. It rests while the second
divergence is too many times the first, and only its images are used then.

The augmentor is the model called `augmentor` (`affine_augmentor`), whose arguments hold :math:`\lambda_s` (`disagree`), :math:`\lambda_t`
(`stay`) and the two ratios (`freeze`, `wake`). One process only.

Reference: Cotogni et al., "HARD: Hard Augmentations for Robust Distillation", 2023, arXiv:2305.14890. No code is public; the ratios and
their values are choices made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar, final

import torch
from torch import Tensor

from ...errors import LimbeckError
from ...models.builtin.affine_augmentor import AffineAugmentor
from ...objective import Counts
from ...ops.divergence import kl
from ...teachers.base import Teacher
from ...types import Batch
from ..learner import Learner
from .base import Step


@final
class Hard(Step):
    """Student and augmentor in turn: the one learns on hard images, the other to make them."""

    taught: ClassVar[bool] = True

    def setup(self) -> None:
        """Finds the second player and the teacher.

        Raises:
            LimbeckError: where one is missing.
        """
        player = self.context.players.get("augmentor")
        if player is None or player.optimizer is None or not isinstance(player.module, AffineAugmentor):
            example = "models: {augmentor: {model: affine_augmentor, optimizer: adam}}"
            raise LimbeckError(f"the step 'hard' needs a model called 'augmentor' with an optimizer, on one process: `{example}`.")
        heard = self.context.heard if self.context.heard is not None else tuple(self.context.teachers)
        if not heard:
            raise LimbeckError("the step 'hard' needs a teacher in the objective.")
        self._player, self._augmentor = player, player.module
        self._teacher: Teacher = self.context.teachers[heard[0]]

    @property
    def labels(self) -> tuple[str, ...]:
        """The terms, then both divergences of the augmentor."""
        return (*self.context.learner.objective.terms, "disagreement", "change")

    def update(self, batches: list[Batch], counts: Counts) -> Tensor:
        """The student's update, then the augmentor's on the same images."""
        context, player = self.context, self.context.players["learner"]
        moved = [batch.to(context.backend.device) for batch in batches]
        values: list[Tensor] = []
        for batch in moved:
            with torch.no_grad():
                hard = _shown(batch, self._augmentor(batch.inputs))
            with context.backend.autocast():
                total, terms, _ = player.module(hard, context.teacher_signals(hard), counts)
            context.backend.backward(total)
            values.append(terms)
        context.apply(player)
        both = self._make_harder(moved, counts)
        return torch.cat([torch.stack(values).sum(0), both])

    def _make_harder(self, batches: list[Batch], counts: Counts) -> Tensor:
        """The augmentor's update; the two divergences, `(2,)`."""
        context, augmentor = self.context, self._augmentor
        both = torch.zeros(2, device=context.backend.device)
        with _still(context.learner):
            for batch in batches:
                hard = _shown(batch, augmentor(batch.inputs))
                teacher, student = self._teacher.through(hard).logits, context.learner.signals(hard).logits
                change = kl(self._teacher.signals(batch).logits, teacher).sum() / counts.examples
                disagreement = kl(teacher, student).sum() / counts.examples
                if bool(augmentor.active):
                    context.backend.backward(augmentor.stay * change - augmentor.disagree * disagreement)
                both += torch.stack([disagreement, change]).detach()
        if bool(augmentor.active):
            context.apply(self._player)
        augmentor.settle(float(both[1] / both[0].clamp_min(1e-12)))  # the one value that is read back in every update
        return both


def _shown(batch: Batch, inputs: Tensor) -> Batch:
    return replace(batch, inputs=inputs, _prepared=None, _shown={})


@contextmanager
def _still(learner: Learner) -> Iterator[None]:
    """The student passes gradients to its input and none to its own parameters; its statistics do not move."""
    moving = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    for parameter in moving:
        parameter.requires_grad_(False)
    before = learner.training
    learner.eval()
    try:
        yield
    finally:
        learner.train(before)
        for parameter in moving:
            parameter.requires_grad_(True)
