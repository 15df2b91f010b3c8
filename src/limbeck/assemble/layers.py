"""The layers that a star in a term stands for, looked up in the models that learn and teach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from ..config.model_schema import TeacherSpec
from ..config.schema import Recipe
from ..objective import Term
from ..objective.layers import all_written_out
from ..store.manifest import read_manifest
from ..taps.path import parse_tap
from ..taps.suggest import with_aliases
from .stages import Phase
from .teachers import STORED, store_of, teacher_kind, teacher_specs


@dataclass(frozen=True)
class Layers:
    """Where the layers of the models of a phase are looked up."""

    recipe: Recipe
    phase: Phase
    allow_code: bool
    module: Callable[[str], nn.Module]
    """A model that learns, by name."""
    teacher: Callable[[str, TeacherSpec], nn.Module]
    """The model of a teacher that has one of its own."""

    def written_out(self, terms: Sequence[Term], member: str) -> list[Term]:
        """The terms of a member with every layer named.

        Raises:
            TapError: where layers and their map do not fit.
        """
        return all_written_out(terms, lambda: with_aliases(self.module(member)), self._heard)

    def _heard(self, name: str) -> tuple[Iterable[str], bool]:
        """The layer paths of a teacher, and whether they are only those that a store keeps."""
        if name in self.phase.members:
            return with_aliases(self.module(name)), False
        own = self.phase.teacher if name == "teacher" else None
        spec = own or teacher_specs(self.recipe)[name]
        if spec.kind == STORED:
            return [parse_tap(tap).path for tap in read_manifest(store_of(spec)).signals], True
        source = teacher_kind(spec, allow_code=self.allow_code).source
        if source == "learner":
            return with_aliases(self.module(self.phase.learner)), False
        return (with_aliases(self.teacher(name, spec)), False) if source == "own" else ([], False)
