"""Keeps examples at random; with a teacher trained on all of them it is hard to beat.

Reference: Ben-Baruch et al., "Distilling the Knowledge in Data Pruning", 2024, arXiv:2403.07854 (with distillation, random pruning is on
a par with scores).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...types import NonNegativeInt
from ..hashing import uniform
from .base import Evidence, Selection


@final
@dataclass(frozen=True, kw_only=True)
class Random(Selection):
    """A uniform score that is a function of seed and position; a smaller fraction keeps a part of what a larger one keeps."""

    seed: NonNegativeInt = 0
    """Seed of the choice."""

    def scores(self, evidence: Evidence) -> Tensor:
        """As the class says, `(examples,)`, float64."""
        return torch.from_numpy(uniform(self.seed, evidence.index.numpy()))
