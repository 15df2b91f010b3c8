"""Metrics of tagged spans: precision, recall and F1 of whole entities."""

from __future__ import annotations

from collections.abc import Sequence

from ..entities import spans


def span_scores(guesses: Sequence[Sequence[str]], truths: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 over all entities; an entity is right where type, first and last word are.

    Args:
        guesses: predicted tags of each sentence.
        truths: its own tags.

    Returns:
        `precision`, `recall`, `f1`; 0 where there is nothing to divide by.
    """
    predicted = right = true = 0
    for guess, truth in zip(guesses, truths, strict=True):
        said, real = spans(guess), spans(truth)
        predicted, true, right = predicted + len(said), true + len(real), right + len(said & real)
    precision = right / predicted if predicted else 0.0
    recall = right / true if true else 0.0
    return {"precision": precision, "recall": recall, "f1": 2 * right / (predicted + true) if predicted + true else 0.0}
