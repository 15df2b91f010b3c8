"""The teachers of a recipe: which there are, of which kinds."""

from __future__ import annotations

from ..config.model_schema import TeacherSpec
from ..config.schema import Recipe
from ..errors import LimbeckError
from ..registry import TEACHERS
from ..teachers.base import Teacher

STORED = "stored"
"""Kind of a teacher whose answers were written down; stages that would train it are left out."""


def teacher_specs(recipe: Recipe) -> dict[str, TeacherSpec]:
    """Every teacher of the recipe by name, of whatever kind."""
    single = {"teacher": recipe.teacher} if recipe.teacher is not None else {}
    return {**single, **recipe.teachers}


def teacher_models(recipe: Recipe, *, allow_code: bool) -> dict[str, TeacherSpec]:
    """Those that have a model of their own, which is built, may be trained in a stage, and is judged in the results."""
    return {name: spec for name, spec in teacher_specs(recipe).items() if teacher_kind(spec, allow_code=allow_code).source == "own"}


def teacher_kind(spec: TeacherSpec, *, allow_code: bool) -> type[Teacher]:
    """The class of a teacher."""
    return TEACHERS.get(spec.kind, allow_code=allow_code)


def store_of(spec: TeacherSpec) -> str:
    """Folder or address of the store of a stored teacher."""
    return str((spec.model_extra or {}).get("path"))


def build_teacher(name: str, spec: TeacherSpec, *, allow_code: bool) -> Teacher:
    """A teacher, not yet open.

    Raises:
        LimbeckError: where the kind refuses its fields.
    """
    try:
        return teacher_kind(spec, allow_code=allow_code)(**(spec.model_extra or {}))
    except (TypeError, ValueError) as error:
        raise LimbeckError(f"{name}: {error}") from None
