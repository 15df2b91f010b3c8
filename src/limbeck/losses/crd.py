r"""Contrastive representation distillation: the own teacher's view among others.

.. math:: - \log h(s_i, t_i) - \sum_{k=1}^{N} \log (1 - h(s_i, t_{j_k})), \qquad
          h(s, t) = \frac{e^{\langle s, t \rangle / \tau}}{e^{\langle s, t \rangle / \tau} + N / M}

plus the same with student and teacher exchanged, for linear embeddings of length 1 that are learned for both models (maps and tokens
are averaged first), and N negatives :math:`j_k` among the M examples of the data set: of another class where labels are known, else
just other ones. They are drawn anew for every batch, with repetition; those of the own class are left out and the others count for them.
The class of an example is known from when it was first in a batch. What is compared comes from a memory of the embeddings of all examples,
which starts in random directions and follows them with a momentum.

The authors' code divides the exponentials by a constant, M times their mean over the first batch, and adds 1e-7 to the denominator
(`variant: official`); the weight of 0.8 that is quoted for this loss belongs to that. Its data set draws the negatives of another class
without repetition where there are enough, and its memory starts with vectors that are not brought to length 1.

When to use: one embedding, long training, a data set whose examples are visited many times; among the strongest of its time. The memory
moves at every call in training, and stands still in evaluation.

Cost: of order b d min(M, 8 N) for a batch of b, in memory `chunk` d min(M, N) beside the two memories of M embeddings of d elements;
parameters for two linear layers.

Reference: Tian, Krishnan, Isola, "Contrastive Representation Distillation", ICLR 2020, arXiv:1910.10699, equations 10 and 19.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from ..errors import LimbeckError
from ..ops.contrast import noise_contrast
from ..ops.draws import other_numbers
from ..ops.layouts import as_positions
from ..types import IGNORE, Fraction, Needs, Positive, PositiveInt, Signals
from ._memory import Memory, UnitLinear
from .base import Loss, extra_of

_MOVES = "every call in training moves the memory and draws other negatives; in evaluation the check holds"


@final
@dataclass(eq=False, repr=False, kw_only=True)
class CRD(Loss):
    """Pulls the embeddings of the same example together and pushes those of other examples apart, with a memory of all examples."""

    exempt: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("purity", "permutation", "precision", "gradcheck", "copies", "compile"), _MOVES),
        "equality": "the two embeddings are learned, and the negatives remain",
    }

    dim: PositiveInt = 128
    """Size of the embeddings."""
    negatives: PositiveInt = 16384
    """Number N of negatives of each example."""
    temperature: Positive = 0.1
    """Temperature of the similarities; the paper takes 0.07 for ImageNet, as does the authors' code for all."""
    momentum: Fraction = 0.5
    """What the memory keeps of itself when an example is seen again."""
    contrast_with: Literal["class", "example"] = "class"
    """Whether only examples of another class are negatives, where labels are known, or all other examples."""
    variant: Literal["paper", "official"] = "paper"
    """The paper's formula, or the one of the authors' code."""
    chunk: PositiveInt = 64
    """Number of examples whose negatives are held in memory at once; it does not change the value."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._make_state(0)

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="any", extra=("index",), global_batch=True)

    def allocate(self, examples: int) -> None:
        if examples < 2:
            raise LimbeckError(f"CRD contrasts examples with each other, found a data set of {examples}; take another loss.")
        self._make_state(examples)

    def _make_state(self, examples: int) -> None:
        self.student_memory, self.teacher_memory = Memory(examples, self.dim), Memory(examples, self.dim)
        self.register_buffer("classes", torch.full((examples,), IGNORE))
        self.register_buffer("log_normalisers", torch.full((2,), math.inf))
        self.draws: Tensor
        self.register_buffer("draws", torch.randint(2**31, ()))

    def setup(self, student: Signals, teacher: Signals) -> None:
        ours, theirs = as_positions(student.feature), as_positions(teacher.feature)
        self.student_embedding = UnitLinear(ours.shape[1], self.dim).to(ours.device)
        self.teacher_embedding = UnitLinear(theirs.shape[1], self.dim).to(theirs.device)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        own, examples = extra_of(student, "index"), len(self.classes)
        if examples == 0:
            raise LimbeckError("CRD keeps a memory of every example; call allocate(examples) before setup.")
        drawn = other_numbers(own, seed=self.draws, count=self.negatives, size=examples)
        return self.compare(student.feature, teacher.feature, torch.cat([own.unsqueeze(1), drawn], 1), labels)

    def compare(self, student: Tensor, teacher: Tensor, rows: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss for given numbers of examples, `(batch, 1 + negatives)`, one's own first; in training the state then moves."""
        ours, theirs = self.student_embedding(student), self.teacher_embedding(teacher)
        pairs = (self.teacher_memory, ours), (self.student_memory, theirs)
        scores = torch.stack([memory.products(own, rows, chunk=self.chunk) for memory, own in pairs]) / self.temperature
        counted, normalisers = None, self.log_normalisers
        if self.variant == "official":
            found = scores.detach().flatten(1).logsumexp(1) + math.log(len(self.classes) / rows.numel())
            normalisers = torch.where(normalisers.isinf(), found, normalisers)
            scores = scores - normalisers[:, None, None]
        if self.contrast_with == "class" and labels is not None and labels.dtype == torch.int64 and labels.ndim == 1:
            counted = (self.classes[rows[:, 1:]] != labels[:, None]) | (labels[:, None] == IGNORE)
        if self.training:
            self.student_memory.follow(ours, rows, momentum=self.momentum, chunk=self.chunk)
            self.teacher_memory.follow(theirs, rows, momentum=self.momentum, chunk=self.chunk)
            self.log_normalisers, self.draws = normalisers, self.draws + 1
            if counted is not None and labels is not None:
                self.classes = self.classes.index_copy(0, rows[:, 0], labels)
        floor = 1e-7 if self.variant == "official" else 0.0
        return noise_contrast(scores, counted, examples=len(self.classes), floor=floor).sum(0).mean()
