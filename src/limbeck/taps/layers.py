r"""Which layer of the student learns from which of the teacher, where a term names them all with a star.

A tap such as `encoder.layer.*:output.0` stands for as many taps as the model has layers of that name. How they are paired is a map of the
layers, of N of the student to M of the teacher, counted from 1 here and from 0 in paths:

- `uniform`: student layer i learns from the last layer of the i-th of N equal parts of the teacher, :math:`\lfloor i M / N \rfloor`
  (TinyBERT).
- `skip`: the same without the student's last layer, which the logits teach (PKD-Skip).
- `last`: all student layers but the last learn from the N - 1 layers before the teacher's last (PKD-Last).
- `top`: the last learns from the last, and no other (MiniLM, DistilBERT).
- a list of the teacher's layers as in its paths, one for each student layer: `[2, 5, null, -1]`; a negative one counts from the end,
  null leaves a student layer out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from ..errors import TapError
from .path import parse_tap

LayerMap = Literal["uniform", "skip", "last", "top"]

STAR = "*"


def starred(tap: str) -> bool:
    """Whether a tap stands for several layers."""
    return STAR in tap


def layer_pairs(how: LayerMap | Sequence[int | None], students: int, teachers: int | None) -> list[tuple[int, int]]:
    """Pairs of layers, both counted from 0.

    Args:
        how: name of the map, or the teacher's layer for each of the student's.
        students: number N of the student's layers.
        teachers: number M of the teacher's; None where only those layers are known that the map itself chose, in their order.

    Raises:
        TapError: where the map does not fit these numbers.
    """
    if not isinstance(how, str):
        return _listed(how, students, teachers)
    if how in ("skip", "last") and students < 2:
        raise TapError(f"layers: {how} leaves the student's last layer out, and it has no other; use uniform or top.")
    chosen = {"uniform": range(students), "top": range(students - 1, students)}.get(how, range(students - 1))
    if teachers is None:
        return [(own, place) for place, own in enumerate(chosen)]
    if teachers < students:
        raise TapError(f"layers: {how}: the student has {students} layers and the teacher {teachers}; give a list of the teacher's layers.")
    if how == "top":
        return [(students - 1, teachers - 1)]
    if how == "last":
        return [(own, teachers - students + own) for own in chosen]
    return [(own, (own + 1) * teachers // students - 1) for own in chosen]


def _listed(how: Sequence[int | None], students: int, teachers: int | None) -> list[tuple[int, int]]:
    if len(how) != students:
        raise TapError(f"layers: expected a teacher's layer (or null) for each of the student's {students} layers, found {len(how)}.")
    named = [(own, layer) for own, layer in enumerate(how) if layer is not None]
    if not named:
        raise TapError("layers: expected at least one layer of the teacher, found null for every layer of the student.")
    if teachers is None:
        return [(own, place) for place, (own, _) in enumerate(named)]
    for _, layer in named:
        if not -teachers <= layer < teachers:
            raise TapError(f"layers: the teacher's {teachers} layers are 0 to {teachers - 1} (or -1 to -{teachers}), found {layer}.")
    return [(own, layer % teachers) for own, layer in named]


def numbered(tap: str, paths: Iterable[str]) -> list[str]:
    """What the star of a tap stands for among the layer paths of a model, such as `["0", "1", "2"]`, in their order.

    Raises:
        TapError: where there is not one star, in the path, or no layer of that name.
    """
    path = parse_tap(tap).path
    if tap.count(STAR) != 1 or STAR not in path:
        raise TapError(f"tap {tap!r}: one star stands for the number of the layer in the path, as in encoder.layer.* or stage*.")
    before, _, after = path.partition(STAR)
    pattern = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    found = sorted({int(match.group(1)) for known in paths if (match := pattern.fullmatch(known))})
    if not found:
        raise TapError(f"tap {tap!r}: no layer of the model has such a path, with a number in the place of the star.")
    return [str(number) for number in found]


def expand_layers(
    student: Sequence[str],
    teacher: Sequence[str],
    how: LayerMap | Sequence[int | None],
    ours: Iterable[str],
    theirs: Iterable[str],
    *,
    partial: bool = False,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The taps of both sides with every starred one written out; those that stand together are written out layer by layer.

    Args:
        student: taps of the student.
        teacher: as many taps of the teacher.
        how: the map of the layers.
        ours: layer paths of the student.
        theirs: layer paths of the teacher.
        partial: whether the teacher's are only those that the map chose, as a store holds them.

    Raises:
        TapError: where a star stands on one side only, or the layers and the map do not fit.
    """
    ours, theirs = list(ours), list(theirs)
    mine: list[str] = []
    other: list[str] = []
    together: list[tuple[str, str]] = []

    def write() -> None:
        if not together:
            return
        for own, layer in _choices(together, how, ours, theirs, partial):
            mine.extend(tap.replace(STAR, own) for tap, _ in together)
            other.extend(tap.replace(STAR, layer) for _, tap in together)
        together.clear()

    for s, t in zip(student, teacher, strict=True):
        if starred(s) != starred(t):
            raise TapError(f"student {s!r} and teacher {t!r}: a star stands for layers on both sides or on neither.")
        if starred(s):
            together.append((s, t))
            continue
        write()
        mine.append(s)
        other.append(t)
    write()
    return tuple(mine), tuple(other)


def _choices(
    together: Sequence[tuple[str, str]], how: LayerMap | Sequence[int | None], ours: Sequence[str], theirs: Sequence[str], partial: bool
) -> list[tuple[str, str]]:
    """The numbers of the layers in pairs, for taps that all have the same layers."""
    sides: list[list[str]] = []
    for taps, paths in (
        (list(dict.fromkeys(side)), paths) for side, paths in zip(zip(*together, strict=True), (ours, theirs), strict=True)
    ):
        found = {tap: numbered(tap, paths) for tap in taps}
        first = found[taps[0]]
        for tap, numbers in found.items():
            if numbers != first:
                raise TapError(
                    f"taps {taps[0]!r} and {tap!r} stand together and have layers {first} and {numbers}; name them in two terms."
                )
        sides.append(first)
    students, teachers = sides
    pairs = layer_pairs(how, len(students), None if partial else len(teachers))
    if partial and len(pairs) != len(teachers):
        raise TapError(f"the map of the layers has {len(pairs)} pairs, and the store holds {len(teachers)} such layers of the teacher.")
    return [(students[own], teachers[layer]) for own, layer in pairs]
