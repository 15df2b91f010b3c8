"""Losses that ask for more than logits and layers, for the tests of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from limbeck.losses.base import Loss, extra_of, head_of, logits_of, views_of
from limbeck.types import Fraction, Needs, Signals


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Bank(Loss):
    """Pulls every example towards what was said of it before, which is kept by its index."""

    keep: Fraction = 0.7

    past: ClassVar[Tensor]

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, extra=("index",), global_batch=True)

    def allocate(self, examples: int) -> None:
        self.register_buffer("past", torch.full((examples, 10), 0.1))

    def setup(self, student: Signals, teacher: Signals) -> None:
        self.scale = torch.nn.Parameter(torch.ones(10).to(logits_of(student).device))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        index = extra_of(student, "index")
        before = self.past[index]
        said = (logits_of(student) * self.scale).log_softmax(-1)
        with torch.no_grad():
            self.past[index] = self.keep * before + (1 - self.keep) * logits_of(teacher, "teacher").softmax(-1)
        return -(before * said).sum(-1).mean()


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Classifiers(Loss):
    """Both classifiers make their models' logits from the tapped vectors, and both models were asked about rotated images."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, features="one", match="any", head="both", rotations=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        for who, signals in (("student", student), ("teacher", teacher)):
            head, views = head_of(signals, who), views_of(signals)
            for one in (signals, *views):
                again = torch.nn.functional.linear(one.feature, head.weight, head.bias)
                if not one.feature.is_meta and not torch.allclose(again, one.logits, rtol=1e-4, atol=1e-5):
                    raise AssertionError(f"{who}: the head does not make the logits.")
            if not signals.feature.is_meta and torch.equal(views[0].logits, signals.logits):
                raise AssertionError(f"{who}: the views are not rotated.")
        return (logits_of(student) - logits_of(teacher)).square().mean(-1) + sum(
            (one.logits - other.logits).square().mean(-1) for one, other in zip(views_of(student), views_of(teacher), strict=True)
        )


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Masked(Loss):
    """Asks for a mask beside the data."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, extra=("mask",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return extra_of(student, "mask").flatten(1).mean(-1) * logits_of(student).square().mean(-1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Reading(Loss):
    """Its setup looks at contents."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        self.level = float(logits_of(student).mean())

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return logits_of(student).square().mean(-1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class LayerAndLogits(Loss):
    """Reads a layer and the logits."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, features="one", match="any")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        layers = student.feature.flatten(1).square().mean(-1) + teacher.feature.flatten(1).square().mean(-1)
        return layers + (logits_of(student) - logits_of(teacher, "teacher")).square().mean(-1)
