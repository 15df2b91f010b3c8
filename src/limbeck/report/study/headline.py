"""The sentence at the top of a study: what won, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..headline import Headline, Tile, Verdict
from ..lenient import mean
from ..numbers import Metric
from ..spread import Interval, confidence_of, differences, interval, spread
from .claims import Claims, summary
from .entries import Entry, reference
from .ranking import against
from .reading import Study

_NAMED = 4


def headline(study: Study, found: Sequence[Entry], claims: Claims, confidence: float) -> Headline:
    """What came of the study, also where that disappoints.

    Args:
        study: the study.
        found: its entries.
        claims: its claims, for their count.
        confidence: of intervals that the study itself does not hold.
    """
    main, base = study.primary, reference(study, found)
    notes = (*study.missing, *([said] if (said := summary(claims)) else []))
    if main is None or base is None or not any(mean(entry.of(main.key)) is not None for entry in found if entry.model == "student"):
        return Headline("unknown", "No results yet", "The study holds no measured student.", (), notes)
    order = _order(study, found)
    tiles = tuple(_tiles(found, order[0], base, main, claims))
    verdict, title, text = _judge(study, order, base, main, confidence)
    return Headline(verdict, title, text, tiles, notes)


def _judge(study: Study, order: Sequence[Entry], base: Entry, main: Metric, confidence: float) -> tuple[Verdict, str, str]:
    best = order[0]
    if best is base:
        return _unbeaten(study, order, base, main, confidence)
    gap = _gap(study, best, base, confidence)
    if gap is None:
        return "unknown", f"{best.label} leads", f"{_reaches(best, main)}. {base.label} has no values for the same seeds."
    difference = main.delta(gap.mean).replace(" pts", " points")
    of = "of " if main.style == "percent" else ""
    text = (
        f"{_reaches(best, main)}, {base.label} {spread(base.of(main.key), main)}. {_sure(gap, main, confidence)}{_tied(study, best, base)}"
    )
    gain = gap.oriented(main)
    equal = f"No clear difference to {base.label} ({difference})" if len(study.arms) == 1 else f"No arm is clearly ahead of {base.label}"
    verdict, title = _sided(gain, f"{difference} {of}{main.noun}", best, base)
    return verdict, title or equal, text


def _sided(gain: Interval, difference: str, best: Entry, base: Entry) -> tuple[Verdict, str]:
    if math.isnan(gain.low):
        return "unknown", f"{best.label} leads by {difference}, from a single seed"
    if gain.low > 0:
        return "better", f"{best.label} is ahead of {base.label}: {difference}"
    return ("worse", f"{best.label} is behind {base.label}: {difference}") if gain.high < 0 else ("equal", "")


def _order(study: Study, found: Sequence[Entry]) -> list[Entry]:
    students = {entry.arm: entry for entry in found if entry.model == "student"}
    return [students[arm.name] for arm in study.order if arm.name in students]


def _gap(study: Study, best: Entry, base: Entry, confidence: float) -> Interval | None:
    if best.model == base.model:
        return against(study, best, base, confidence)[0]
    key = study.primary.key if study.primary is not None else ""
    return interval(differences(best.of(key), base.of(key)), confidence)


def _unbeaten(study: Study, order: Sequence[Entry], base: Entry, main: Metric, confidence: float) -> tuple[Verdict, str, str]:
    if len(order) < 2:
        text = f"{_reaches(base, main)}. There is nothing to compare it with: the study has one arm, and the student was not trained alone."
        return "unknown", f"{spread(base.of(main.key), main)} {main.noun}", text
    other = order[1]
    gap = _gap(study, other, base, confidence)
    text = f"{_reaches(base, main)}; the next, {other.label}, {spread(other.of(main.key), main)}. "
    text += "" if gap is None else _sure(gap, main, confidence)
    if gap is not None and gap.oriented(main).high < 0:
        return "worse", f"{base.label}, the baseline, wins", text
    return "equal", f"No arm is better than {base.label}, the baseline", text


def _reaches(entry: Entry, main: Metric) -> str:
    return f"{entry.label} reaches {spread(entry.of(main.key), main)} {main.noun}"


def _sure(gap: Interval, main: Metric, confidence: float) -> str:
    if math.isnan(gap.low):
        return f"The difference is {gap.text(main)}; one seed says nothing about chance."
    text = f"The difference, seed by seed, is {gap.text(main)} with {confidence_of(confidence)} confidence over {gap.seeds} seeds."
    return text if gap.low > 0 or gap.high < 0 else text + " That is within chance."


def _tied(study: Study, best: Entry, base: Entry) -> str:
    """Which arms cannot be told apart from the best."""
    cliques = study.ranking.get("cliques")
    names: list[str] = []
    for clique in cliques if isinstance(cliques, list) else []:
        if isinstance(clique, list) and best.arm in clique:
            names += [str(name) for name in clique if name not in (best.arm, base.arm) and str(name) not in names]
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f" By its ranks it cannot be told apart from {', '.join(names[:_NAMED])}{more}."


def _tiles(found: Sequence[Entry], best: Entry, base: Entry, main: Metric, claims: Claims) -> list[Tile]:
    teacher = next((entry for entry in found if entry.role == "teacher"), None)
    shown = [(best, "best arm" if base.model == "student" else "distilled student")] if best is not base else []
    shown += [(base, "baseline" if base.model == "student" else "same student, alone")]
    shown += [(teacher, "teacher")] if teacher is not None else []
    tiles = []
    for entry, label in shown:
        middle = mean(entry.of(main.key))
        known = entry.label == "alone" or label == "distilled student"
        text = label if known else entry.label if label in entry.label else f"{entry.label}, {label}"
        tiles.append(Tile(main.text(middle), text, f"mean {main.noun}", entry.variable))
    if claims.rows:
        tiles.append(Tile(f"{claims.count('holds')} of {len(claims.rows)}", "claims hold"))
    return tiles
