"""That every model of a recipe reads the tokens of its data: their number, and what each of them means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..assemble import data_request, own_tokenizer, teacher_specs
from ..config.model_schema import ModelSpec
from ..data.language.agreement import agreement
from ..data.language.vocabulary import CHARACTERS, llama2c_file, size_of
from ..data.load import load_data
from ..data.text import load_tokenizer
from ..errors import LimbeckError
from ..models.base import BuiltModel
from ..models.sources.hf import vocabulary_size
from ..tasks.base import Task
from ..types import DataInfo
from .found import Desk

ACROSS = (
    "Teacher and student must read the same tokens. Across tokenizers a teacher can teach by what it writes (`limbeck generate`, then "
    "cross_entropy on it); methods that compare across them, ULD (arXiv:2402.12030), DSKD (2406.17328) and ALM (2503.20083), are not here."
)
_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")


def check_vocabularies(desk: Desk, models: Mapping[str, BuiltModel], task: Task, info: DataInfo) -> None:
    """Every model knows all tokens of the data, and by the same ids, as far as its own tokenizer is on this machine."""
    reference = data_request(desk.recipe.data, desk.recipe).tokenizer
    if info.kind != "text" or reference is None:
        return
    owners = [(key, spec, models[name], _beside(spec)) for key, name, spec in _specs(desk) if name in models]
    if not Path(reference).exists() and not (reference == CHARACTERS and any(folder for *_, folder in owners)):
        return
    tokenizer: Any = None
    with desk.at("data.tokenizer"):
        tokenizer = _of_data(desk, task) if reference == CHARACTERS else load_tokenizer(reference)
    if tokenizer is None:
        return
    sizes = {key: known for key, _, built, _ in owners if (known := vocabulary_size(built.module)) is not None}
    for key, spec, _, folder in owners:
        if key in sizes and sizes[key] < size_of(tokenizer):
            text = (
                f"{spec.model} knows {sizes[key]:,} tokens, the tokenizer {reference} has {size_of(tokenizer):,}. All models of a recipe "
            )
            text += "read the same tokens: choose models of one vocabulary, and its tokenizer with data.tokenizer."
            desk.problem(f"{key}.model", text)
        elif folder is not None and not _same(folder, reference):
            with desk.at(f"{key}.model"):
                _compare(desk, key, spec, tokenizer, folder)
    if longer := _longer(sizes, info):
        desk.found.facts.append(longer)


def _longer(sizes: Mapping[str, int], info: DataInfo) -> str:
    """Which heads have rows beyond the tokenizer, and what becomes of these; empty where none has."""
    longer = [f"{key} {known:,}" for key, known in sizes.items() if known > info.num_outputs]
    if info.labels != "token" or not longer:
        return ""
    return f"heads with more rows than the tokenizer has tokens ({', '.join(longer)}; {info.num_outputs:,}): those beyond are left out"


def _specs(desk: Desk) -> Iterator[tuple[str, str, ModelSpec]]:
    """Key in the recipe, name, and model."""
    yield "student", "student", desk.recipe.student
    for name, spec in teacher_specs(desk.recipe).items():
        yield ("teacher" if spec is desk.recipe.teacher else f"teachers.{name}"), name, spec
    for name, spec in desk.recipe.models.items():
        yield f"models.{name}", name, spec


def _beside(spec: ModelSpec) -> str | None:
    """The tokenizer with which the weights of a model were made, where it is on this machine; random weights know none."""
    if spec.weights in (None, "random"):
        return None
    if spec.weights != "pretrained":
        run = Path(spec.weights).expanduser()
        return next((str(place) for place in (run / "student", run) if any((place / name).is_file() for name in _FILES)), None)
    own = own_tokenizer(spec)
    if own is None or not Path(own).expanduser().is_dir():
        return None
    found = llama2c_file(own) is not None or any((Path(own).expanduser() / name).is_file() for name in _FILES)
    return own if found else None


def _same(folder: str, reference: str) -> bool:
    """Whether two references mean one tokenizer."""
    one, two = (llama2c_file(text) or Path(text).expanduser() for text in (folder, reference))
    return two.exists() and one.samefile(two)


def _of_data(desk: Desk, task: Task) -> Any:
    """The tokenizer that is made of the characters of the training text."""
    request = data_request(desk.recipe.data, desk.recipe)
    return load_data(request, kind=task.data_kind, labels=task.labels, language=task.language, allow_code=desk.allow_code).tokenizer


def _compare(desk: Desk, key: str, spec: ModelSpec, tokenizer: Any, folder: str) -> None:
    """Refuses a model whose own tokenizer means other tokens by the same ids."""
    found = agreement(tokenizer, load_tokenizer(folder))
    if not found.fits:
        raise LimbeckError(f"{spec.model} was trained with {found.told()}. {ACROSS}")
    desk.found.notes += [f"{key}: {note}" for note in found.notes()]
