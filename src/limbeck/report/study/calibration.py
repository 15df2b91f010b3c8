"""Reliability diagrams over all seeds of an arm: the examples of the seeds are thrown together, bin by bin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..figures import Figure
from ..lenient import listing
from ..numbers import finite, metric
from ..plots import reliability_figure, slug
from ..spread import spread
from .entries import Entry, Results


def calibration_figures(shown: Sequence[Entry], results: Results) -> list[Figure]:
    """One diagram for each entry whose runs hold the bins."""
    figures = []
    for i, entry in enumerate(shown):
        bins = pooled([model["reliability"] for model in results.models(entry) if isinstance(model.get("reliability"), dict)])
        if bins is None:
            continue
        error = spread(entry.of("ece"), metric("ece"))
        text = f"Reliability diagram of {entry.label}: accuracy over confidence, all seeds together; calibration error {error}."
        svg = reliability_figure(bins, entry.variable, f"reliability-{i}-{slug(entry.label)}", text)
        if svg is not None:
            figures.append(Figure(entry.label, svg, f"calibration error {error}"))
    return figures


def pooled(found: Sequence[Mapping[str, Any]]) -> dict[str, list[float]] | None:
    """The bins of several models together; means are weighted by the number of examples. None where edges differ or are missing."""
    edges = [listing(bins.get("edges")) for bins in found]
    if not edges or len(edges[0]) < 2 or any(own != edges[0] for own in edges):
        return None
    size = len(edges[0]) - 1
    count, confidence, accuracy = [0.0] * size, [0.0] * size, [0.0] * size
    for bins in found:
        rows = zip(listing(bins.get("count")), listing(bins.get("confidence")), listing(bins.get("accuracy")), strict=False)
        for i, row in enumerate(rows):
            many, sure, right = map(finite, row)
            if i < size and many and sure is not None and right is not None:
                count[i], confidence[i], accuracy[i] = count[i] + many, confidence[i] + many * sure, accuracy[i] + many * right
    return {
        "edges": edges[0],
        "count": count,
        "confidence": [value / many if many else 0.0 for value, many in zip(confidence, count, strict=True)],
        "accuracy": [value / many if many else 0.0 for value, many in zip(accuracy, count, strict=True)],
    }
