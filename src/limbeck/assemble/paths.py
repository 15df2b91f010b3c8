"""The paths of a recipe, made absolute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config.data_schema import DataSpec
from ..config.load import LoadedRecipe
from ..config.model_schema import ModelSpec, TeacherSpec
from ..config.schema import Recipe, StageSpec
from .teachers import STORED

PATH_SCHEMES = ("folder", "idx", "npz", "csv", "jsonl", "parquet", "squad", "text", "hf")
"""Data sources whose location may be a path."""


def _prompt(spec: ModelSpec, key: str, path: Callable[[str | None, str], str | None]) -> dict[str, Any]:
    """The prompt of a model, where it has one."""
    own = spec.prompt
    return {} if own is None else {"prompt": own.model_copy(update={"weights": path(own.weights, f"{key}.prompt.weights")})}


def _kept(spec: DataSpec, key: str, path: Callable[[str | None, str], str | None]) -> dict[str, Any]:
    """The files that say which training examples are kept, and what was written for them, where the data name any."""
    changes: dict[str, Any] = {}
    if spec.select is not None and spec.select.manifest is not None:
        changes["select"] = spec.select.model_copy(update={"manifest": path(spec.select.manifest, f"{key}.select.manifest")})
    if spec.rollouts is not None and spec.rollouts.file is not None:
        changes["rollouts"] = spec.rollouts.model_copy(update={"file": path(spec.rollouts.file, f"{key}.rollouts.file")})
    return changes


def located(loaded: LoadedRecipe) -> Recipe:
    """The recipe with every relative path made absolute, so that it means the same from any folder."""
    recipe = loaded.recipe

    def path(text: str | None, key: str) -> str | None:
        if text is None or Path(text).is_absolute():
            return text
        found = loaded.find(text, key)
        return str(found.resolve()) if found is not None else text

    def model(spec: Any, key: str) -> Any:
        scheme, _, rest = spec.model.partition(":")
        reference = f"{scheme}:{path(rest, f'{key}.model')}" if scheme in ("hf", "llama2c") else spec.model
        changes: dict[str, Any] = {"model": reference, "weights": path(spec.weights, f"{key}.weights")}
        changes |= _prompt(spec, key, path)
        if isinstance(spec, TeacherSpec) and spec.kind == STORED:
            changes["path"] = path(str((spec.model_extra or {}).get("path")), f"{key}.path")
        return spec.model_copy(update=changes)

    def source(text: str, key: str) -> str:
        scheme, _, rest = text.partition(":")
        return f"{scheme}:{path(rest, f'{key}.source')}" if scheme in PATH_SCHEMES else text

    def data(spec: DataSpec, key: str) -> DataSpec:
        changes: dict[str, Any] = {"source": source(spec.source, key), "tokenizer": path(spec.tokenizer, f"{key}.tokenizer")}
        changes["chat_template"] = path(spec.chat_template, f"{key}.chat_template")
        several = ((name, own, f"{key}.datasets.{name}") for name, own in spec.datasets.items())
        changes["datasets"] = {name: own.model_copy(update={"source": source(own.source, place)}) for name, own, place in several}
        if spec.pool is not None:
            changes["pool"] = spec.pool.model_copy(update={"source": source(spec.pool.source, f"{key}.pool")})
        changes |= _kept(spec, key, path)
        return spec.model_copy(update=changes)

    def stage(spec: StageSpec, key: str) -> StageSpec:
        own = {"data": data(spec.data, f"{key}.data") if spec.data is not None else None}
        return spec.model_copy(update={**own, "teacher": model(spec.teacher, f"{key}.teacher") if spec.teacher is not None else None})

    return recipe.model_copy(
        update={
            "data": data(recipe.data, "data"),
            "student": model(recipe.student, "student"),
            "teacher": model(recipe.teacher, "teacher") if recipe.teacher is not None else None,
            "teachers": {name: model(spec, f"teachers.{name}") for name, spec in recipe.teachers.items()},
            "models": {name: model(spec, f"models.{name}") for name, spec in recipe.models.items()},
            "stages": {name: stage(spec, f"stages.{name}") for name, spec in recipe.stages.items()},
        }
    )
