"""What mixed inputs and several crops of an example ask of data, terms and stored teachers; found before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from . import assemble
from .assemble import STORED, Phase
from .config.model_schema import TeacherSpec
from .data.mixing.base import Mixing
from .errors import LimbeckError
from .objective import Term
from .store.manifest import read_manifest
from .types import DataInfo, Mixed

Problems = Iterator[tuple[str, str]]
"""Keys below those of the stage, and what is wrong there."""


def problems(phase: Phase, terms: Sequence[Term], stored: Mapping[str, int | None], info: DataInfo, *, allow_code: bool) -> Problems:
    """What does not fit in a stage whose update is composed.

    Args:
        phase: the stage.
        terms: of its objective.
        stored: views of the store of every teacher whose answers are stored; None where one answer serves every augmentation.
        info: the data.
        allow_code: whether a mixing may be local code.
    """
    data = phase.data
    yield from _crops(phase, stored)
    if data.mix is None:
        return
    kind = data.mix.kind
    mixing = assemble.build_mixing(data, allow_code=allow_code)
    if mixing is None:
        return
    if info.kind not in mixing.kinds:
        yield "data.mix", f"{kind} is for {' and '.join(mixing.kinds)} data, the data are {info.kind}."
    if mixing.own_views and not data.transforms:
        yield "data.mix", f"{kind} mixes two augmentations of one example, and the data are not augmented; add data.transforms."
    for name in data.views:
        if name in info.views and (shown := info.views[name].kind) not in mixing.kinds:
            yield "data.mix", f"{kind} is for {' and '.join(mixing.kinds)} data, and the view {name!r} shows {shown} data."
    yield from _terms(mixing, kind, terms, stored, info)


def _crops(phase: Phase, stored: Mapping[str, int | None]) -> Problems:
    crops, batch = phase.data.crops, phase.train.batch_size
    if crops == 1:
        return
    if not phase.data.transforms:
        yield "data.crops", f"{crops} augmentations of each example were asked for, and the data are not augmented; add data.transforms."
    if batch % crops:
        yield "data.crops", f"expected a divisor of train.batch_size ({batch}), which counts every crop, found {crops}."
    for name, count in stored.items():
        if count is not None and count < crops:
            text = f"an update shows {crops} augmentations of each example, and the store of {name!r} holds {count}"
            yield "data.crops", f"{text}; label with --views {crops} or more."


def _terms(mixing: Mixing, kind: str, terms: Sequence[Term], stored: Mapping[str, int | None], info: DataInfo) -> Problems:
    for term in terms:
        place = f"objective.{term.label}"
        if "index" in term.loss.needs.extra:
            yield (
                place,
                "this loss keeps something for every example, and data.mix gives it inputs that are made of two; remove one of them.",
            )
        if not term.loss.needs.teacher or term.source not in stored:
            continue
        if term.teacher:
            text = "stored layers of two examples cannot be mixed as their inputs are, and data.mix asks for it"
            yield place, f"{text}; let this term read logits, or ask a teacher that speaks."
        elif info.labels != "class":
            yield (
                place,
                "stored answers can be mixed where they are probabilities of classes; leave out data.mix or ask a teacher that speaks.",
            )
        views = stored[term.source]
        if mixing.own_views and views is not None and views < 2:
            yield place, f"{kind} needs two views of every example, the store of {term.source!r} holds one; label with --views 2 or more."


def stored_views(phase: Phase, teachers: Mapping[str, TeacherSpec], names: Sequence[str]) -> dict[str, int | None]:
    """Views of the stores of those teachers of `names` that are stored; None where one answer serves every augmentation.

    A store that cannot be read is another check's.
    """
    found: dict[str, int | None] = {}
    for name in names:
        spec = phase.teacher if phase.teacher is not None and name == "teacher" else teachers.get(name)
        if spec is not None and spec.kind == STORED:
            with suppress(LimbeckError):
                manifest = read_manifest(assemble.store_of(spec))
                found[name] = manifest.views if manifest.augmented else None
    return found


def example(phase: Phase, labels: Tensor | None) -> Mixed | None:
    """How a made-up batch without contents is mixed; None where a stage mixes nothing."""
    if phase.data.mix is None or labels is None:
        return None
    index = torch.arange(len(labels))
    return Mixed(index, torch.zeros_like(index), labels, torch.empty(len(labels), device="meta"))
