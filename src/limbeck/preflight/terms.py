"""The terms of an objective, each set up and evaluated on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import mixing
from ..assemble import Phase
from ..errors import LimbeckError
from ..objective import Counts, Objective, Term
from ..objective.share import signals_of
from ..objective.token_terms import both_dense
from ..types import DataInfo, Mixed, Signals
from .found import Desk
from .models import META

EXAMPLES = 2
"""Size of the example batch, whose indices are all that a loss with a memory meets here."""


def try_terms(
    desk: Desk,
    phase: Phase,
    prefix: str,
    terms: list[Term],
    mine: Signals,
    signals: Mapping[str, Signals],
    labels: Tensor | None,
    info: DataInfo,
) -> None:
    """Sets up and evaluates each term alone, so that every term that does not fit is reported at its own place.

    What was found is inferred for the recipe, but for terms that several members share: each has an adapter of its own.
    """
    with META:
        mine, signals = both_dense(mine, signals)  # of shapes alone, the logits of all tokens cost nothing
    for term in terms:
        place = f"{prefix}objective.{term.part_of or term.label}"
        if not _targets(desk, f"{place}.targets", term, mine, signals.get(term.source)):
            continue
        with desk.at(place), META:
            refuse_padding(term, mine, info)
            objective = Objective([term])
            try:
                objective.allocate(EXAMPLES)
                made = objective.setup(mine, signals)
            except LimbeckError:
                raise
            except Exception as error:  # a loss of the user's own may look at contents, of which there are none here
                text = str(error).strip().split("\n")[0].rstrip(".")
                desk.found.notes.append(f"{place}: its setup needs more than shapes, so it was not checked: {text}.")
                continue
            for label, descriptions in made.items():
                if not phase.peers:
                    desk.found.inferred[f"{prefix}objective.{label}.adapter.kind"] = descriptions[0]["kind"]
                desk.found.facts += [f"{prefix}objective.{label}: adapter {description}" for description in descriptions]
            _same_classes(term, mine, signals)
            _evaluate(objective, mine, signals, labels, mixing.example(phase, labels))


def refuse_padding(term: Term, mine: Signals, info: DataInfo) -> None:
    """Refuses a loss that would count the padding of texts as tokens.

    Raises:
        LimbeckError: naming losses that do not.
    """
    if info.kind != "text" or term.loss.needs.padding:
        return
    for tap in term.student:
        feature = mine.features[tap]
        if feature.ndim > 2 and feature.shape[1] == info.input_shape[0]:
            raise LimbeckError(
                f"student {tap!r} has a value for every token, and this loss would count the padding of texts as tokens. Use one that "
                "leaves it out, such as hidden_states or attention_relation, or tap a layer with one vector a text."
            )


def _targets(desk: Desk, key: str, term: Term, mine: Signals, theirs: Signals | None) -> bool:
    """Whether the targets of a term find what they change among what its loss reads."""
    before = len(desk.found.problems)
    absent: Any = None
    pair = mine, theirs if theirs is not None and term.loss.needs.teacher else Signals()
    if not term.reads_logits:
        pair = replace(pair[0], logits=absent), replace(pair[1], logits=absent)
    with desk.at(key), META:
        if term.share is not None:
            pair = signals_of(term.share, pair[0]), signals_of(term.share, pair[1])
        for target in term.targets:
            pair = target(*pair)
    return len(desk.found.problems) == before


def _same_classes(term: Term, mine: Signals, signals: Mapping[str, Signals]) -> None:
    needs = term.loss.needs
    if not (needs.teacher and needs.logits) or term.student:
        return
    theirs = signals[term.source].logits
    if term.share is not None:  # compared where their outputs are chosen
        return
    if mine.logits is not None and theirs is not None and mine.logits.shape != theirs.shape:
        raise LimbeckError(
            f"the student gives {mine.logits.shape[-1]} outputs, {term.source} gives {theirs.shape[-1]}; "
            "a loss on logits needs the same classes on both sides."
        )


def _evaluate(objective: Objective, mine: Signals, signals: Mapping[str, Signals], labels: Tensor | None, mixed: Mixed | None) -> None:
    """Runs an objective on the meta device, for the shapes that only the losses themselves can check."""
    count = 2.0
    try:
        with torch.no_grad():
            objective(mine, signals, labels, Counts(count, count), None, mixed)
    except LimbeckError:
        raise
    except Exception:  # a loss may look at contents, of which there are none here; then the first update shows it
        return
