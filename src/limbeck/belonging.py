"""What ties a store to a recipe: the teacher's weights and how it was trained, the training data, the augmentation.

A recipe need not say all of it. Where it names no model or no stages of the teacher, these are not compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from . import assemble
from .assemble import STORED, Phase
from .config.data_schema import DataSpec
from .config.model_schema import ModelSpec, TeacherSpec
from .config.schema import Recipe, StageSpec
from .config.term_schema import TermSpec
from .config.train_schema import TrainSpec
from .data.base import Examples, Splits
from .data.language.rows import LanguageExamples
from .documents import Documents
from .models.base import BuiltModel
from .store.manifest import Key, Manifest, StoreError
from .store.opening import open_store
from .store.reader import StoreReader
from .store.token_reader import TokenReader

_HOW = {"log_every", "checkpoint_every", "workers", "compile", "channels_last"}
"""Keys of `train` that say how a stage is run, and not what comes out of it."""


def inputs_key(phase: Phase, view: str | None = None) -> str:
    """What happens to inputs on their way to a teacher that sees `view`, as JSON."""
    if view is None:
        return json.dumps({"transforms": list(phase.data.transforms), "size": phase.data.size}, sort_keys=True)
    shown = phase.data.views[view]
    lane = {"draws": view if shown.draws == "own" else None} if shown.transforms else {}
    return json.dumps({"transforms": list(shown.transforms), "size": shown.size or phase.data.size, **lane}, sort_keys=True)


def teacher_hash(built: BuiltModel) -> str:
    """SHA-256 of a model's parameters and buffers (names, shapes, values) and of its input normalisation."""
    digest = hashlib.sha256(json.dumps(asdict(built.normalization) if built.normalization is not None else None).encode())
    for name, value in sorted(built.module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# how a teacher came about


def origin(recipe: Recipe, name: str) -> str:
    """The teacher called `name`, the stages that train it, and those of whom it learns in them, as JSON that can be compared.

    Seeds and folders play no part: another student is another seed, and data may lie elsewhere.
    """
    specs: Mapping[str, ModelSpec] = {**recipe.models, **assemble.teacher_specs(recipe)}
    names, stages = [name], dict[str, Any]()
    for other in names:  # grows as it is read
        spec = specs.get(other)
        names += [member for member in ((spec.model_extra or {}).get("members", ()) if spec is not None else ()) if member not in names]
        for title, stage in recipe.stages.items():
            if stage.learner == other:
                stages[title] = _stage(recipe, stage)
                names += [term.from_ for term in (stage.objective or {}).values() if term.from_ in specs and term.from_ not in names]
    models = {other: _model(specs[other]) for other in names if other in specs and specs[other].model}
    return json.dumps({"models": models, "stages": stages}, sort_keys=True)


def _model(spec: ModelSpec) -> dict[str, Any]:
    return {"model": _nearby(spec.model), "args": json.loads(json.dumps(dict(spec.args), default=str)), "view": spec.view}


def _stage(recipe: Recipe, stage: StageSpec) -> dict[str, Any]:
    """What of a stage decides about the model that it trains."""
    own = _common(stage.data or recipe.data, stage.train or recipe.train)
    objective = {label: _term(term) for label, term in (stage.objective or {}).items()}
    return {**own, "objective": objective, "trainable": list(stage.trainable)}


def _common(data: DataSpec, train: TrainSpec) -> dict[str, Any]:
    """What a stage takes from the top of the recipe where it does not say otherwise."""
    how = train.model_dump(mode="json", exclude_defaults=True)
    return {"data": _data(data), "train": {key: value for key, value in how.items() if key not in _HOW}}


def _term(term: TermSpec) -> dict[str, Any]:
    return term.model_dump(mode="json", exclude_defaults=True)


def _data(data: DataSpec) -> dict[str, Any]:
    """The data without the folders in which they lie, and without further views, which change nothing for who does not see them."""
    found = data.model_dump(
        mode="json", exclude_defaults=True, exclude={"source", "tokenizer", "views", "test_transforms", "pool", "select"}
    )
    return {**found, "source": _nearby(data.source)}


def _nearby(reference: str) -> str:
    """A reference without the folder that it names."""
    scheme, colon, rest = reference.partition(":")
    return f"{scheme}:{Path(rest).name}" if colon else reference


def _differences(theirs: str, mine: str, common: dict[str, Any]) -> Iterator[str]:
    """What differs between two origins, each as `key: there, here`; models and stages that only one of them names are not compared."""
    old, new = (json.loads(text) if text else {} for text in (theirs, mine))
    for part in ("models", "stages"):
        for name in sorted(old.get(part, {}).keys() & new.get(part, {}).keys()):
            before, now = (dict(_flat(side[part][name])) for side in (old, new))
            shared = dict(_flat(common)) if part == "stages" else {}
            for key in sorted(before.keys() | now.keys()):
                there, here = before.get(key, "nothing"), now.get(key, "nothing")
                taken = key.split(".")[0] in common and part == "stages" and here == shared.get(key, "nothing")
                if there != here and not taken:
                    yield f"{part}.{name}.{key} {there} there, {here} here"


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, json.dumps(value)


def check_origin(manifest: Manifest, recipe: Recipe, name: str, where: str, *, strict: bool = False) -> None:
    """Refuses a store whose teacher is another model than the recipe's, or was trained in another way.

    Args:
        manifest: of the store.
        recipe: which may name the model and the stages of its teacher, though it reads what they have said.
        name: of the teacher.
        where: the store, for the message.
        strict: compare also what the stages take from the top of the recipe, which may have been changed there for the student.

    Raises:
        StoreError: with what differs.
    """
    common = {} if strict else json.loads(json.dumps(_common(recipe.data, recipe.train)))
    differs = list(_differences(manifest.key.origin, origin(recipe, name), common))
    if differs:
        raise StoreError(f"{where}: this store is of another teacher: {'; '.join(differs[:4])}. Make one with `limbeck label`.")


def check_named(reader: StoreReader | TokenReader, phase: Phase, recipe: Recipe, name: str) -> None:
    """Refuses a store by what can be told without data and weights: the augmentation, the teacher's architecture and stages.

    Raises:
        StoreError: with what differs.
    """
    spec = phase.teacher if phase.teacher is not None and name == "teacher" else assemble.teacher_specs(recipe)[name]
    manifest = reader.manifest
    if isinstance(reader, StoreReader):
        reader.check(replace(manifest.key, inputs=inputs_key(phase, spec.view)), manifest.examples)
    check_origin(manifest, recipe, name, str(reader.place))


# a store and the examples of a stage


def belongs(reader: StoreReader | TokenReader, phase: Phase, examples: Examples, view: str | None, teacher: str | None) -> Tensor | None:
    """Compares a store with what a stage would ask its teacher.

    Args:
        reader: the open store.
        phase: the stage.
        examples: those that it trains on.
        view: of the data, that the teacher sees.
        teacher: SHA-256 of its weights; None where the recipe does not know them.

    Returns:
        Where in the store each example stands; None where the store holds just these. A store of all the candidates of a selection serves
        every selection of them.

    Raises:
        StoreError: with everything that differs; of texts, with how many documents are not in the store, whatever else is there.
    """
    if isinstance(reader, TokenReader):
        reader.check_teacher(teacher)
        for number in range(reader.manifest.views):
            reader.check_documents(documents_of(examples, reader.manifest, view, number), number)
        return None
    theirs, count = reader.manifest.key, reader.manifest.examples
    every = examples.among
    whole = every is not None and count == len(every) and count != len(examples)
    held = every if every is not None and whole else examples
    own = teacher if teacher is not None else theirs.teacher
    reader.check(Key(own, held.fingerprint(view), inputs_key(phase, view), theirs.seed, theirs.origin), len(held))
    return examples.places if whole else None


def documents_of(examples: Examples, manifest: Manifest, view: str | None, number: int) -> Documents:
    """The documents of training data as a teacher that sees `view` reads them, in a store's augmentation `number`.

    Raises:
        StoreError: where the data are no texts of a language model.
    """
    if not isinstance(examples, LanguageExamples):
        raise StoreError("the store is one of documents of texts, and the data are none. Use it with a task on tokens, such as causal_lm.")
    return examples.augmented(manifest.key.seed, number).documents(view)


def weights_of(spec: TeacherSpec, build: Callable[[], BuiltModel]) -> str | None:
    """SHA-256 of the weights of a stored teacher, where the recipe names them beside the store; else None."""
    return teacher_hash(build()) if spec.model and spec.weights not in (None, assemble.RANDOM) else None


class Host(Protocol):
    """What is needed of a run."""

    recipe: Recipe
    phases: list[Phase]
    allow_code: bool

    def data(self, spec: Any = None) -> Splits:
        """The data of a phase."""
        ...

    def build(self, name: str, spec: ModelSpec, round: int = 0) -> BuiltModel:  # noqa: A002
        """A model with its initial weights."""
        ...


def check_stores(host: Host, start: int) -> None:
    """Opens every store that is read from the phase number `start` on, before anything is trained.

    So damage, and a store that belongs to another recipe, are named at once and not after the stages before. Stages that choose their
    examples themselves, or have replies written for them, are compared when they begin.

    Raises:
        StoreError: for the first one.
    """
    seen: set[tuple[str, str]] = set()
    for phase in host.phases[start:]:
        select, rollouts = phase.data.select, phase.data.rollouts
        chooses = (select is not None and select.method is not None) or (rollouts is not None and rollouts.file is None)
        for name, spec in _heard(host.recipe, phase, allow_code=host.allow_code):
            path = assemble.store_of(spec)
            if (path, phase.data.model_dump_json()) in seen:
                continue
            fresh = all(path != other for other, _ in seen)
            seen.add((path, phase.data.model_dump_json()))
            reader = open_store(path, verify=fresh and bool((spec.model_extra or {}).get("verify", True)))
            if not chooses:
                weights = weights_of(spec, partial(host.build, name, spec))
                belongs(reader, phase, host.data(phase.data).train, spec.view, weights)
            check_origin(reader.manifest, host.recipe, name, str(reader.place))


def _heard(recipe: Recipe, phase: Phase, *, allow_code: bool) -> Iterator[tuple[str, TeacherSpec]]:
    """The stored teachers that a phase listens to, also as members of an ensemble."""
    specs = assemble.teacher_specs(recipe)
    specs_of = (item for member in phase.members for item in assemble.objective_of(phase, member).items())
    terms = [assemble.build_term(label, spec, allow_code=allow_code) for label, spec in specs_of]
    names = list(dict.fromkeys(term.source for term in terms if term.loss.needs.teacher))
    for name in names:  # grows as it is read
        spec = phase.teacher if phase.teacher is not None and name == "teacher" else specs.get(name)
        if spec is None:
            continue
        names += [member for member in (spec.model_extra or {}).get("members", ()) if member not in names]
        if spec.kind == STORED:
            yield name, spec
