"""What models give away of their training examples: who was a member, and planted secrets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ..lenient import listing, mapping
from ..numbers import ABSENT, Metric, finite, metric
from ..spread import spread
from ..tracks import scale
from .parts import ROWS_LISTED, Chart, ChartRow, Numbers, Section, seeds
from .subjects import Subject, numbers

CHANCE = 0.5
_ATTACKS = {"loss": "by loss", "likelihood_ratio": "by likelihood ratio"}
_RATES = {"tpr_at_0.01": "1%", "tpr_at_0.001": "0.1%"}
_SHARE = Metric("share", "Share", "lower", "percent")
_BITS = Metric("bits", "Bits", "lower", "number")


def membership(subjects: Sequence[Subject]) -> Section | None:
    """The AUC of the stronger attack beside chance, and the numbers of each attack; None where there was none."""
    able = [subject for subject in subjects if subject.section("membership") and subject.metric("membership_auc")]
    if not able:
        return None
    known = metric("membership_auc")
    axis = scale([CHANCE, *(value for subject in able for value in subject.metric(known.key))])
    rows = tuple(
        ChartRow(s.label, seeds(s.metric(known.key), s, known, axis, zero=CHANCE), spread(s.metric(known.key), known), s.variable)
        for s in able
    )
    chart = Chart(
        "Membership inference", ("Model", "AUC"), rows, axis.ticks(known), "AUC of the stronger attack; the dashed line is chance"
    )
    first = able[0].section("membership")[0]
    members, others = finite(first.get("members")), finite(first.get("others"))
    lead = "How well an attacker tells training from test examples by what a model says of them."
    if members and others:
        error = math.sqrt((members + others + 1) / (12 * members * others))
        lead += f" With {members:,.0f} training and {others:,.0f} test examples, chance alone moves the AUC by about {error:.2f}."
    attacks = [key for key in _ATTACKS if any(mapping(found.get(key)) for s in able for found in s.section("membership"))]
    columns = [f"AUC {_ATTACKS[key]}" for key in attacks]
    columns += [f"found at {share}, {_ATTACKS[key]}" for key in attacks for share in _RATES.values()]
    listed = tuple((s.label, _attacked(s, attacks, known)) for s in able)
    caption = "AUC of each attack, and training examples that it finds where 1% and 0.1% of the others are mistaken."
    return Section("membership", "Membership", lead, (), (chart,), (Numbers(caption, ("Model", *columns), listed),))


def _attacked(subject: Subject, attacks: Sequence[str], known: Metric) -> tuple[str, ...]:
    found = subject.section("membership")

    def text(attack: str, key: str, written: Metric) -> str:
        return spread(numbers(mapping(own.get(attack)).get(key) for own in found), written)

    rates = [text(attack, key, _SHARE) for attack in attacks for key in _RATES]
    return (*(text(attack, "auc", known) for attack in attacks), *rates)


def canaries(subjects: Sequence[Subject]) -> Section | None:
    """The exposure of every secret, a dot each, beside what a model has that never saw them; None where there are none."""
    able = [subject for subject in subjects if _rows(subject)]
    if not able:
        return None
    found = {subject.label: _rows(subject) for subject in able}
    sizes = [size for runs in found.values() for run in runs for row in run if (size := finite(row.get("fillings"))) and size > 1]
    chance, most = fmean(map(_chance, sizes)) if sizes else math.log2(math.e), math.log2(max(sizes, default=2.0))
    axis = scale([0.0, most])
    rows = []
    for subject in able:
        values = [value for run in found[subject.label] for value in numbers(row.get("exposure") for row in run)]
        rows.append(
            ChartRow(
                subject.label, seeds(values, subject, _BITS, axis, zero=chance), spread(subject.metric("exposure"), _BITS), subject.variable
            )
        )
    caption = "exposure in bits, a dot for every secret; the line is their mean, the dashed one that of a model that never saw them"
    chart = Chart("Exposure of secrets", ("Model", "Mean"), tuple(rows), axis.ticks(_BITS), caption)
    lead = (
        "How far models know secrets that stand in the training texts: 0 bits where all other secrets of the same form are more probable, "
        f"{most:.1f} where none is."
    )
    return Section("canaries", "Secrets", lead, (), (chart,), (_listed(able, found),))


def _rows(subject: Subject) -> list[list[dict[str, Any]]]:
    """The secrets of every run."""
    return [rows for own in subject.found("canaries") if (rows := [row for row in listing(own) if isinstance(row, dict)])]


def _chance(texts: float) -> float:
    """Mean exposure where all ranks are equally likely."""
    return math.log2(texts) - math.lgamma(texts + 1) / math.log(2) / texts


def _listed(able: Sequence[Subject], found: dict[str, list[list[dict[str, Any]]]]) -> Numbers:
    """Secrets by their place in the list; the name of those that all runs call alike."""
    count = max(len(run) for runs in found.values() for run in runs)
    rows = []
    for i in range(min(count, ROWS_LISTED)):
        names = {str(run[i].get("canary")) for runs in found.values() for run in runs if i < len(run)}
        name = names.pop() if len(names) == 1 else f"secret {i + 1}"
        rows.append((name, tuple(_exposed([run[i] for run in found[subject.label] if i < len(run)]) for subject in able)))
    caption = "Exposure of each secret in bits" + (" and its rank." if all(len(runs) == 1 for runs in found.values()) else ".")
    return Numbers(caption, ("Secret", *(subject.label for subject in able)), tuple(rows))


def _exposed(rows: Sequence[dict[str, Any]]) -> str:
    values = numbers(row.get("exposure") for row in rows)
    if not values:
        return ABSENT
    text = spread(values, _BITS)
    rank, size = (finite(rows[0].get(key)) for key in ("rank", "fillings"))
    return f"{text}, {rank:,.0f} of {size:,.0f}" if len(rows) == 1 and rank is not None and size is not None else text
