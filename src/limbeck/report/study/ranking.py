"""The ranking: mean ranks over the seeds with critical differences, and how each arm does against the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from ..lenient import listing, mapping, mean
from ..numbers import ABSENT, finite
from ..spread import Interval, differences, interval, spread
from ..tracks import Tick, Track, scale
from .claims import p_text
from .entries import Entry
from .reading import Study

DRAWN = 40
"""With more arms than this the diagram cannot be read; the table says the same."""
_WIDTH, _AXIS, _SIDE, _LINE, _LETTERS = 345.0, 44.0, 110.0, 19.0, 12


@dataclass(frozen=True)
class RankRow:
    """An arm of the table of ranks."""

    place: int
    entry: Entry
    mean_rank: str
    value: str
    difference: str
    interval: str
    p: str
    track: Track | None
    best: bool
    tied: bool
    """Whether it cannot be told apart from the best."""


@dataclass(frozen=True)
class Ranking:
    """Table and drawing."""

    rows: tuple[RankRow, ...]
    ticks: tuple[Tick, ...]
    baseline: str
    diagram: Markup | None
    text: str
    """What the test over all arms says."""
    together: bool
    """Whether the intervals were corrected for their number."""


def ranking(study: Study, found: Sequence[Entry], confidence: float) -> Ranking | None:
    """The ranking of the students of a study; None with fewer than two arms or without a metric."""
    students = {entry.arm: entry for entry in found if entry.model == "student"}
    main = study.primary
    if main is None or len(students) < 2:
        return None
    base = students[study.baseline]
    order = [students[arm.name] for arm in study.order]
    gaps = {entry.arm: against(study, entry, base, confidence) for entry in order if entry is not base}
    known = [gap for gap, _ in gaps.values() if gap is not None]
    axis = scale([value for gap in known for value in (gap.low, gap.mean, gap.high)], zero=True)
    ranks = {str(name): finite(value) for name, value in mapping(study.ranking.get("mean_rank")).items()}
    tied = _tied(study, order[0].arm)
    rows = []
    for place, entry in enumerate(order, 1):
        gap, p = gaps.get(entry.arm, (None, None))
        track = None
        if gap is not None:
            tone = "good" if main.gain(gap.low, 0) > 0 and main.gain(gap.high, 0) > 0 else ""
            tone = "bad" if main.gain(gap.low, 0) < 0 and main.gain(gap.high, 0) < 0 else tone
            ends = (axis.place(gap.low), axis.place(gap.high)) if gap.low == gap.low else (None, None)
            track = Track(f"{entry.label}: {gap.text(main)}", axis.place(gap.mean), *ends, axis.place(0.0), tone=tone)
        rank = ranks.get(entry.arm)
        text = "baseline" if entry is base else ABSENT if gap is None else main.delta(gap.mean)
        rows.append(
            RankRow(
                place,
                entry,
                ABSENT if rank is None else f"{rank:.2f}",
                spread(entry.of(main.key), main),
                text,
                "" if gap is None or gap.low != gap.low else gap.bounds(main),
                "" if entry is base else p_text(p),
                track,
                place == 1 and mean(entry.of(main.key)) is not None,
                entry.arm in tied and place > 1,
            )
        )
    ticks = axis.ticks(main, signed=True) if known else ()
    return Ranking(tuple(rows), ticks, base.label, diagram(study, ranks), _friedman(study), bool(listing(study.ranking.get("pairs"))))


def against(study: Study, entry: Entry, base: Entry, confidence: float) -> tuple[Interval | None, float | None]:
    """The difference of an arm to another and its p-value: as the study decided it, else a t interval of the paired differences."""
    main = study.primary
    if main is None:
        return None, None
    for pair in filter(None, map(mapping, listing(study.ranking.get("pairs")))):
        middle, low, high = (finite(pair.get(key)) for key in ("mean", "low", "high"))
        if middle is None or low is None or high is None:
            continue
        seeds = len(differences(entry.of(main.key), base.of(main.key)))
        if (pair.get("a"), pair.get("b")) == (entry.arm, base.arm):
            return Interval(middle, low, high, seeds), finite(pair.get("p_adjusted"))
        if (pair.get("a"), pair.get("b")) == (base.arm, entry.arm):
            return Interval(-middle, -high, -low, seeds), finite(pair.get("p_adjusted"))
    return interval(differences(entry.of(main.key), base.of(main.key)), confidence), None


def _tied(study: Study, best: str) -> set[str]:
    """The arms in a clique with the best."""
    found = [set(map(str, listing(clique))) for clique in listing(study.ranking.get("cliques"))]
    return set().union(*(clique for clique in found if best in clique))


def _friedman(study: Study) -> str:
    p, difference = finite(study.ranking.get("friedman_p")), finite(study.ranking.get("critical_difference"))
    parts = []
    if p is not None:
        said = "the arms differ" if p < 0.05 else "no difference between the arms is established"
        parts.append(f"Friedman's test over the seeds: p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}, {said}.")
    if difference is not None:
        parts.append(f"Mean ranks that differ by less than {difference:.2f} cannot be told apart.")
    return " ".join(parts)


# the drawing


def diagram(study: Study, ranks: Mapping[str, float | None]) -> Markup | None:
    """The critical-difference diagram: mean ranks on an axis (the best on the left), bars join what cannot be told apart."""
    arms = sorted(((rank, name) for name, rank in ranks.items() if rank is not None), key=lambda item: item[0])
    if len(arms) < 2 or len(arms) > DRAWN:
        return None
    top = max(len(arms), round(arms[-1][0] + 0.499))

    def x(rank: float) -> float:
        return _SIDE + 8 + (rank - 1) / max(top - 1, 1) * (_WIDTH - 2 * (_SIDE + 8))

    bars = _bars(study, {name: rank for rank, name in arms})
    under = _AXIS + 9 + 7 * len(bars)
    left, right = arms[: (len(arms) + 1) // 2], arms[(len(arms) + 1) // 2 :]
    height = under + _LINE * len(left) + 6
    parts = _axis(x, top) + _difference(x, finite(study.ranking.get("critical_difference")), top)
    for i, (low, high) in enumerate(bars):
        y = _AXIS + 9 + 7 * i
        parts.append(f'<line x1="{x(low) - 3:.1f}" x2="{x(high) + 3:.1f}" y1="{y:.1f}" y2="{y:.1f}" class="clique"/>')
    places = {arm.name: place for place, arm in enumerate(study.order, 1)}
    labels = shortened([name for _, name in arms])
    for side, found in (("left", left), ("right", right[::-1])):
        for i, (rank, name) in enumerate(found):
            said = f"{places.get(name, '–')}. {labels[name]}"  # noqa: RUF001 (an en dash)
            parts.append(_leader(x(rank), under + _LINE * (i + 0.6), name, said, side))
    said = "Critical-difference diagram. Mean ranks: " + ", ".join(f"{name} {rank:.2f}" for rank, name in arms) + "."
    head = f'<svg class="plot cd" role="img" aria-label="{escape(said)}" viewBox="0 0 {_WIDTH:.0f} {height:.0f}">'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704 (names are escaped where they are put in)


def _axis(x: Any, top: int) -> list[str]:
    parts = [f'<line x1="{x(1):.1f}" x2="{x(top):.1f}" y1="{_AXIS}" y2="{_AXIS}" class="axis"/>']
    step = max(1, -(-top // 8))
    for rank in range(1, top + 1, step):
        parts.append(f'<line x1="{x(rank):.1f}" x2="{x(rank):.1f}" y1="{_AXIS - 5}" y2="{_AXIS}" class="axis"/>')
        parts.append(
            f'<text x="{x(rank):.1f}" y="{_AXIS - 9}" text-anchor="middle" style="font-size: 11px" fill="var(--muted)">{rank}</text>'
        )
    return parts


def _difference(x: Any, wide: float | None, top: int) -> list[str]:
    if wide is None or wide <= 0 or wide > top - 1:
        return []
    low, high = x(1), x(1 + wide)
    ends = "".join(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="7" y2="15" class="width"/>' for at in (low, high))
    said = f'<text x="{low - 8:.1f}" y="15" text-anchor="end" style="font-size: 11px" fill="var(--muted)">CD = {wide:.2f}</text>'
    return [f'<line x1="{low:.1f}" x2="{high:.1f}" y1="11" y2="11" class="width"/>', ends, said]


def _bars(study: Study, ranks: Mapping[str, float]) -> list[tuple[float, float]]:
    found = [[ranks[name] for name in map(str, listing(clique)) if name in ranks] for clique in listing(study.ranking.get("cliques"))]
    return sorted((min(clique), max(clique)) for clique in found if len(clique) > 1)


def shortened(names: Sequence[str]) -> dict[str, str]:
    """Names without what all begin with, and without their middle where they are still too long."""
    first, last = min(names, default=""), max(names, default="")
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    cut = max(first[:same].rfind(sign) for sign in ",=/:") + 1
    found = {}
    for name in names:
        text = name[cut:] or name
        half = (_LETTERS - 1) // 2
        found[name] = text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1 - half].rstrip()}…{text[-half:].lstrip()}"
    return found


def _leader(x: float, y: float, name: str, said: str, side: str) -> str:
    edge = _SIDE if side == "left" else _WIDTH - _SIDE
    anchor, at = ("end", edge - 4) if side == "left" else ("start", edge + 4)
    line = f'<path d="M{x:.1f} {_AXIS} V{y:.1f} H{edge:.1f}" class="leader"/>'
    text = f'<text x="{at:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}" style="font-size: 11px" fill="var(--ink)">'
    return f"{line}{text}<title>{escape(name)}</title>{escape(said)}</text>"
