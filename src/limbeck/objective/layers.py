"""Terms whose layer paths have a star, written out for the models at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ..errors import TapError
from ..taps.layers import expand_layers, starred
from .objective import Term

Paths = Iterable[str]


def is_starred(term: Term) -> bool:
    """Whether a tap of the term stands for several layers."""
    return any(map(starred, (*term.student, *term.teacher)))


def written_out(term: Term, student: Paths, teacher: Paths, *, partial: bool = False) -> Term:
    """The term with every layer named; itself where no tap has a star.

    Args:
        term: the term.
        student: layer paths of the student.
        teacher: those of the teacher.
        partial: whether the teacher's are only those that the map of the layers chose, as a store holds them.

    Raises:
        TapError: where the layers and their map do not fit, or the loss reads one layer and there are more.
    """
    if not is_starred(term):
        return term
    mine, theirs = expand_layers(term.student, term.teacher, term.layers, student, teacher, partial=partial)
    if len(mine) > 1 and term.loss.needs.features in ("one", "optional"):
        raise TapError(f"the loss takes one layer, and the star stands for {len(mine)}. Use layers: top, or a loss on several layers.")
    return replace(term, student=mine, teacher=theirs)


def all_written_out(terms: Sequence[Term], student: Callable[[], Paths], teacher: Callable[[str], tuple[Paths, bool]]) -> list[Term]:
    """Terms of one learner with every layer named.

    Args:
        terms: the terms.
        student: gives the learner's layer paths.
        teacher: gives those of a teacher by its name, and whether they are only those that the map of the layers chose.

    Raises:
        TapError: with the term.
    """
    found: list[Term] = []
    for term in terms:
        if not is_starred(term):
            found.append(term)
            continue
        own = list(student())
        theirs, partial = teacher(term.source) if term.loss.needs.teacher else (own, False)
        try:
            found.append(written_out(term, own, theirs, partial=partial))
        except TapError as error:
            raise TapError(f"objective.{term.part_of or term.label}: {error}") from None
    return found


def told(before: Term, after: Term) -> str | None:
    """Which layers a term pairs, in words; None where it had no star."""
    if not is_starred(before):
        return None
    return "layers " + ", ".join(f"{s} <- {t}" for s, t in zip(after.student, after.teacher, strict=True))
