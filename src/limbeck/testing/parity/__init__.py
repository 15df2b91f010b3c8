"""Compares Limbeck with numbers that official implementations gave: values and gradients, case by case.

An adapter says in a few lines how the arguments of an official function are those of ours. It lives in one of the files of `adapters/`
and is found by its decorator::

    @adapter("dkd")
    def dkd(case: Case) -> Tensor:
        loss = DKD(alpha=case.hp["alpha"], beta=case.hp["beta"], temperature=case.hp["temperature"])
        return loss(case.student, case.teacher, case.labels).mean()
"""

from __future__ import annotations

from .case import Case as Case
from .case import adapter as adapter
from .run import Verdict as Verdict
from .run import compare as compare
from .run import run as run
