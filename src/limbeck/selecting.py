"""Chooses the training examples that are worth keeping and writes their list: `limbeck.select` and `limbeck select`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .assemble import ALONE, teacher_models, teacher_specs
from .config.data_schema import DataSpec, SelectSpec
from .config.load import LoadedRecipe, load_recipe
from .data.selected import Selected
from .data.selection import SELECTIONS
from .engine.backend import Backend
from .engine.watch import Journal, Listener, Silent
from .errors import CodeNotAllowed, LimbeckError, UnknownName
from .preflight import preflight
from .session import Session
from .settling import candidates_of, select_examples


def select(
    recipe: str | Path | Mapping[str, Any],
    wish: SelectSpec,
    out: str | Path | None = None,
    *,
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 - the same word as on the command line
    device: str | None = None,
    allow_code: bool = True,
    listener: Listener | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> tuple[Path, Selected]:
    """Writes which training examples of the student's stage are kept. Stages before it, such as the teacher's, are run first.

    Args:
        recipe: a recipe file, or the recipe itself as a mapping.
        wish: the method with its fields, and how many; as `data.select` of a recipe. Its manifest is not read.
        out: the file to write; where absent, the manifest that the recipe names.
        set: overrides, as for `distill`.
        device: where models run.
        allow_code: import code that the recipe names as `module:callable`.
        listener: who is told how it goes.
        interrupted: asked while models are trained.

    Returns:
        The file, and what it says.

    Raises:
        RecipeError: all problems of the recipe at once.
        LimbeckError: where the method cannot judge these data, or no file is named.
    """
    listener = listener or Silent()
    loaded, named = _whole(load_recipe(recipe, set=set, allow_code=allow_code))
    if loaded.code and not allow_code:
        raise CodeNotAllowed(loaded.code[0])
    path = Path(out) if out is not None else named
    if path is None:
        raise LimbeckError("no file to write: name it with --out, or in the recipe with `data: {select: {manifest: FILE}}`.")
    preflight(loaded, allow_code=allow_code, device=device).raise_problems()
    backend = Backend(precision=loaded.recipe.train.precision, device=device)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(loaded, Path(folder), backend, listener, Journal(None, listener), interrupted, allow_code)
        number = next(i for i, phase in enumerate(session.phases) if phase.learner in ("student", ALONE))
        student = next(phase for phase in session.phases if phase.learner == "student")
        reads = SELECTIONS.get(wish.method or "", allow_code=allow_code).reads
        if {"logits", "features", "losses"} & {*reads} and wish.epochs is None:
            _able(loaded, wish.teacher, allow_code=allow_code)
        if {"logits", "features", "history", "losses"} & {*reads}:
            session.build_models()
            session.run(resume=False, phases=number if wish.epochs is None else 0)
        selected = select_examples(session, candidates_of(student), wish)
    if backend.is_main:
        selected.write(path)
    backend.wait()
    return path, selected


def _able(loaded: LoadedRecipe, name: str, *, allow_code: bool) -> None:
    """Refuses, before anything is trained, a teacher that has no model of its own to be asked.

    Raises:
        UnknownName, LimbeckError: with the models that there are.
    """
    recipe = loaded.recipe
    able = ["student", *recipe.models, *teacher_models(recipe, allow_code=allow_code)]
    specs = teacher_specs(recipe)
    if name in able:
        return
    if name not in specs:
        raise UnknownName("model of this recipe", name, list(dict.fromkeys([*able, *specs])))
    raise LimbeckError(
        f"--teacher {name}: a selection asks one model, and {name!r} is a teacher of kind {specs[name].kind!r}, which has none of its own. "
        f"Name {' or '.join(map(repr, able))}, or train a model for the purpose with --epochs."
    )


def _whole(loaded: LoadedRecipe) -> tuple[LoadedRecipe, Path | None]:
    """The recipe without any selection, and the file that it names for one."""
    recipe = loaded.recipe
    named = next((data.select.manifest for data in _datas(loaded) if data.select is not None and data.select.manifest is not None), None)
    folder = loaded.path.parent if loaded.path is not None else Path()

    def plain(data: DataSpec) -> DataSpec:
        return data.model_copy(update={"select": None})

    stages = {
        name: stage.model_copy(update={"data": plain(stage.data)}) if stage.data is not None else stage
        for name, stage in recipe.stages.items()
    }
    whole = recipe.model_copy(update={"data": plain(recipe.data), "stages": stages})
    return replace(loaded, recipe=whole), (loaded.find(named) or folder / named) if named is not None else None


def _datas(loaded: LoadedRecipe) -> list[DataSpec]:
    """The data of the student's stages, then those of the recipe."""
    stages = [stage.data for stage in loaded.recipe.stages.values() if stage.learner == "student" and stage.data is not None]
    return [*stages, loaded.recipe.data]
