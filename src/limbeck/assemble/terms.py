"""The terms of an objective: losses with their weights, schedules, targets and layers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..config.stages import PEERS
from ..config.term_schema import Alike, Kept, Schedule, TargetSpec, TermSpec
from ..errors import LimbeckError, UnknownName
from ..objective import Ramp, Term
from ..objective.schedules import between, scaled
from ..registry import LOSSES, TARGETS
from ..targets.base import Target
from ..types import Share
from .stages import Phase, objective_of


def member_terms(phase: Phase, member: str, *, allow_code: bool, shares: Mapping[str, Share] = MappingProxyType({})) -> list[Term]:
    """The terms of a member; one that listens to `peers` becomes one for each other member, which share its weight.

    Args:
        shares: what each of several data sets has of the outputs, for the terms that are for one of them.
    """
    others = [name for name in phase.members if name != member]
    terms: list[Term] = []
    for label, spec in objective_of(phase, member).items():
        sources = others if spec.from_ == PEERS else [spec.from_]
        for source in sources:
            term = build_term(label, spec, allow_code=allow_code)
            term.source, term.peer = source, source in others
            term.share = _share(label, spec.only, shares)
            if len(sources) > 1:
                term.label, term.part_of, term.weight = f"{label}:{source}", label, scaled(term.weight, 1 / len(sources))
            terms.append(term)
    return terms


def _share(label: str, name: str | None, shares: Mapping[str, Share]) -> Share | None:
    """The data set that a term is for."""
    if name is not None and name not in shares:
        raise UnknownName("data set", name, shares, f"objective.{label}.only is a name under data.datasets.")
    return shares[name] if name is not None else None


def build_term(label: str, spec: TermSpec, *, allow_code: bool) -> Term:
    """A term with its loss.

    Raises:
        LimbeckError: where the loss or a target refuses its hyper-parameters.
    """
    cls = LOSSES.get(spec.loss, allow_code=allow_code)
    ramps = {name: _ramp(schedule) for name, schedule in spec.schedules.items()}
    try:
        loss = cls(**spec.options, **{name: ramp.start for name, ramp in ramps.items()})
    except (TypeError, ValueError) as error:
        raise LimbeckError(f"objective.{label}: {error}") from None
    return Term(
        label=label,
        loss=loss,
        weight=weight_of(spec),
        student=tuple(spec.student),
        teacher=tuple(spec.teacher),
        layers=tuple(spec.layers) if isinstance(spec.layers, list) else spec.layers or "uniform",
        source=spec.from_,
        adapter=spec.adapter.kind,
        adapter_options=dict(spec.adapter.model_extra or {}),
        ramps=ramps,
        targets=tuple(_target(label, target, allow_code=allow_code) for target in spec.targets),
    )


def weight_of(spec: TermSpec, kept: float = 1.0) -> float | Ramp:
    """The weight of a term, where a share `kept` of the training examples is kept; of one that is tied to two models, the largest."""
    if isinstance(spec.weight, Alike):
        return spec.weight.scale
    if isinstance(spec.weight, Kept):
        return between(spec.weight.kept, kept)
    return _ramp(spec.weight) if isinstance(spec.weight, Schedule) else spec.weight


def _target(label: str, spec: TargetSpec, *, allow_code: bool) -> Target:
    try:
        return TARGETS.get(spec.name, allow_code=allow_code)(**(spec.model_extra or {}))
    except (TypeError, ValueError) as error:
        raise LimbeckError(f"objective.{label}: {error}") from None


def _ramp(schedule: Schedule) -> Ramp:
    return Ramp(schedule.schedule, schedule.start, schedule.end, schedule.begin, schedule.until)
