"""How long a prediction takes: the median and the slow ones, for batches of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ..lenient import mapping
from ..numbers import ABSENT, amount, finite, joules, milliseconds, size
from ..numbers import Metric as Known
from ..tracks import Scale, Track
from .parts import Chart, ChartRow, Numbers, Section
from .subjects import Subject, numbers

_TIME = Known("latency_ms", "Latency", "lower", "milliseconds")
_PERCENTILES = ("p50", "p90", "p99")


def latency(subjects: Sequence[Subject]) -> Section | None:
    """For every size of a batch a bar from the median to the 99th percentile, and the numbers; None where they were not measured."""
    able = [subject for subject in subjects if _of(subject)]
    if not able:
        return None
    batches = sorted({batch for subject in able for own in _of(subject) for batch in own}, key=lambda batch: (len(batch), batch))
    charts = [_chart(able, batch) for batch in batches]
    rows = [
        (f"{subject.label}, batch of {batch}", _numbers(subject, batch)) for batch in batches for subject in able if _has(subject, batch)
    ]
    columns = ("Model", "Median", "90th percentile", "99th percentile", "Examples a second", "Peak memory", "Energy an example")
    reason = next((str(cost["energy_reason"]) for subject in able for cost in subject.section("cost") if cost.get("energy_reason")), "")
    lead = "Forward passes of made-up inputs on the machine of the run. The dot is the median; the bar ends at the 99th percentile."
    lead += f" Energy was not measured: {reason.rstrip('.')}." if reason else ""
    return Section(
        "latency", "Latency", lead, (), tuple(charts), (Numbers("Time of a forward pass, and what it takes.", columns, tuple(rows)),)
    )


def _of(subject: Subject) -> list[dict[str, Any]]:
    return [found for cost in subject.section("cost") if (found := mapping(cost.get("batches")))]


def _has(subject: Subject, batch: str) -> bool:
    return any(mapping(own.get(batch)) for own in _of(subject))


def _mean(subject: Subject, batch: str, key: str) -> float | None:
    """Over the runs; `key` is a percentile or a quantity of the batch."""
    entries = [mapping(own.get(batch)) for own in _of(subject)]
    found = numbers((mapping(entry.get("latency_ms")) if key in _PERCENTILES else entry).get(key) for entry in entries)
    return fmean(found) if found else None


def _chart(subjects: Sequence[Subject], batch: str) -> Chart:
    there = [subject for subject in subjects if _has(subject, batch)]
    longest = max((_mean(subject, batch, "p99") or 0.0 for subject in there), default=0.0)
    axis = Scale(0.0, 1.06 * longest or 1.0)
    rows = []
    for subject in there:
        low, high = (_mean(subject, batch, key) for key in ("p50", "p99"))
        track = None
        if low is not None and high is not None:
            said = f"{subject.label}: median {milliseconds(low)}, 99th percentile {milliseconds(high)}"
            track = Track(said, axis.place(low), axis.place(low), axis.place(high), variable=subject.variable)
        rows.append(ChartRow(subject.label, track, milliseconds(low), subject.variable))
    title = f"Batch of {batch}"
    return Chart(title, ("Model", "Median"), tuple(rows), axis.ticks(_TIME, count=3), title)


def _numbers(subject: Subject, batch: str) -> tuple[str, ...]:
    times = tuple(milliseconds(_mean(subject, batch, key)) for key in _PERCENTILES)
    energy = finite(_mean(subject, batch, "energy_j"))
    return (
        *times,
        amount(_mean(subject, batch, "throughput")),
        size(_mean(subject, batch, "peak_bytes")),
        ABSENT if energy is None else joules(energy),
    )
