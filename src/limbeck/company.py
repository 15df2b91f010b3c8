"""Several finished models that answer together: what `limbeck generate` and `limbeck eval` steer a large model with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from .data.text import load_tokenizer
from .errors import RunError, ShapeMismatch
from .evaluate.fusion import FusedWriter, shared_vocabulary
from .export.student import Student, load_student
from .models.base import ModelRequest
from .models.build import build_model
from .types import DataInfo

HF = "hf:"


@dataclass(frozen=True)
class Company:
    """Who answers together with the student of a run, by reference: a run folder, or `hf:ID_OR_FOLDER`."""

    large: str
    """The model that is moved."""
    base: str
    """What the student (and the other experts) were before they learnt."""
    experts: Sequence[str] = ()
    """Further small models that learnt from the same base; for each token the one that fits best is used."""
    weight: float | None = None
    """Factor of the moves, 1 is proxy tuning; chosen for every token where absent."""


@dataclass(frozen=True)
class Members:
    """The models of a company, in evaluation mode."""

    large: nn.Module
    moves: tuple[tuple[nn.Module, nn.Module], ...]
    """Of each small model what it is after and before it learnt."""
    weight: float | None

    def writer(self, outputs: int) -> FusedWriter:
        """All of them as one model that predicts the next of `outputs` tokens."""
        return FusedWriter(self.large, self.moves, self.weight, outputs)


def members(student: Student, tokenizer: Any, company: Company, *, allow_code: bool = False) -> Members:
    """Opens the models that answer together with a student.

    Raises:
        RunError: where one predicts other things than the student.
        ShapeMismatch: where one has another vocabulary.
        ModelError: where one cannot be had.
    """
    if company.weight is not None and company.weight < 0:
        raise RunError(f"the weight of what is fused must not be below 0, found {company.weight:g}.")

    def opened(reference: str) -> nn.Module:
        return _open(reference, student.info, tokenizer, allow_code=allow_code)

    base = opened(company.base)
    return Members(opened(company.large), ((student.module, base), *((opened(one), base) for one in company.experts)), company.weight)


def _open(reference: str, info: DataInfo, tokenizer: Any, *, allow_code: bool) -> nn.Module:
    if reference.startswith(HF):
        module, own = build_model(ModelRequest(reference, "pretrained", dtype="auto"), info).module, load_tokenizer(reference[len(HF) :])
    else:
        found = load_student(Path(reference), allow_code=allow_code)
        if found.info.language != info.language:
            raise RunError(f"{reference}: its student is of task {found.card.get('task')}; expected one of {info.language}, to be fused.")
        module, own = found.module, tokenizer_of(found)
    if not shared_vocabulary(own, tokenizer):
        raise ShapeMismatch(
            f"{reference} has another vocabulary than the student ({len(own)} and {len(tokenizer)} tokens); models that are fused must "
            "give every token the same number."
        )
    return module.eval().requires_grad_(False)


def tokenizer_of(student: Student) -> Any:
    """The tokenizer of a run's student."""
    if (student.folder / "tokenizer_config.json").is_file():
        return load_tokenizer(str(student.folder))
    return load_tokenizer((student.card.get("text") or {}).get("tokenizer"))
