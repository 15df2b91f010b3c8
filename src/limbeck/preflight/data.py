"""The data of a recipe: that they can be read."""

from __future__ import annotations

from pathlib import Path

from ..assemble import data_request
from ..config.data_schema import DataSpec
from ..config.rollouts import explain_missing
from ..data.load import data_info
from ..errors import LimbeckError, UnknownName
from ..tasks.base import Task
from ..types import DataInfo
from .found import Desk

_IN_VIEW = "column in data."


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
            try:
                own = data_info(request, kind=task.data_kind, labels=task.labels, language=task.language, allow_code=desk.allow_code)
            except UnknownName as error:
                if error.kind.startswith(_IN_VIEW):  # told where the prompt of the view stands
                    place = f"{key}.{error.kind.removeprefix(_IN_VIEW)}"
                    desk.problem(place, explain_missing(str(error), error.name))
                    continue
                raise
            if key == "data":
                info = own
            elif info is not None and info.labels == "token" and own.num_outputs > info.num_outputs:
                raise LimbeckError(
                    f"its tokenizer has {own.num_outputs:,} tokens, that of `data` has {info.num_outputs:,}, and models know the latter "
                    "only. Leave `tokenizer` out here, or name the larger one in data.tokenizer."
                )
    return info


def _remote(spec: DataSpec) -> bool:
    """Whether a source would have to be fetched."""
    scheme, _, rest = spec.source.partition(":")
    return scheme == "hf" and not Path(rest).exists()
