"""The data of a recipe: that they can be read, and that models know their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..assemble import data_request
from ..config.schema import DataSpec
from ..data.load import data_info
from ..data.text import load_tokenizer
from ..models.base import BuiltModel
from ..models.sources.hf import vocabulary_size
from ..tasks.base import Task
from ..types import DataInfo
from .found import Desk


def check_data(desk: Desk, task: Task) -> DataInfo | None:
    """What the data of the top level are; those of stages are looked at as well."""
    info: DataInfo | None = None
    specs: dict[str, DataSpec] = {"data": desk.recipe.data}
    specs |= {f"stages.{name}.data": stage.data for name, stage in desk.recipe.stages.items() if stage.data is not None}
    seen: list[DataSpec] = []
    for key, spec in specs.items():
        if spec in seen:
            continue
        seen.append(spec)
        where = f"{key}.source" if key == "data" else key
        if _remote(spec):
            desk.found.notes.append(f"{where}: {spec.source} is not on this machine; the data and what depends on them were not checked.")
            continue
        with desk.at(where):
            request = data_request(spec, desk.recipe)
            own = data_info(request, kind=task.data_kind, labels=task.labels, language=task.language, allow_code=desk.allow_code)
            if key == "data":
                info = own
    return info


def check_vocabularies(desk: Desk, models: Mapping[str, BuiltModel], info: DataInfo) -> None:
    """A tokenizer on this machine can be read, and every model knows all its tokens."""
    reference = data_request(desk.recipe.data, desk.recipe).tokenizer
    if info.kind != "text" or reference is None or not Path(reference).is_dir():
        return
    size = 0
    with desk.at("data.tokenizer"):
        size = len(load_tokenizer(reference))
    for name, built in models.items():
        known = vocabulary_size(built.module)
        if known is not None and known < size:
            key = name if name in ("student", "teacher") else f"teachers.{name}"
            text = f"{built.request.model} knows {known:,} tokens, the tokenizer {reference} has {size:,}. All models of a recipe "
            text += "read the same tokens: choose models of one vocabulary, and its tokenizer with data.tokenizer."
            desk.problem(f"{key}.model", text)


def _remote(spec: DataSpec) -> bool:
    """Whether a source would have to be fetched."""
    scheme, _, rest = spec.source.partition(":")
    return scheme == "hf" and not Path(rest).exists()
