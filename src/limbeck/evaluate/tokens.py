"""Metrics of language models over many tokens, from hidden states: the logits of all tokens are never held.

All sums are in float64; every token counts alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.divergence import kl
from ..ops.projection import logits_of, vocabulary_of
from ..tokens import Said, part_of, rows_of
from .reliability import BINS, calibration_error_of, reliability_of

BYTES = 256 * 2**20
"""Logits that are held at once."""
TOP = 5
PARTS = ("answers", "prompts")
"""Tokens in which a model that is trained on both is judged apart, too."""


@dataclass(frozen=True)
class TokenStatistics:
    """What is kept of every token, `(rows,)` each."""

    nll: Tensor
    """Minus the logarithm of the label's probability, nats, float64."""
    right: Tensor
    """Whether the likeliest token is the label."""
    among: Tensor
    """Whether the label is among the five likeliest."""
    confidence: Tensor
    """Probability of the likeliest token, float64."""


def token_statistics(said: Said, labels: Tensor) -> TokenStatistics:
    """What is kept of every token.

    Args:
        said: of the rows.
        labels: token of each, `(rows,)`.

    Raises:
        ShapeMismatch: where their numbers differ.
    """
    if len(labels) != _count(said):
        raise ShapeMismatch(f"{len(labels)} labels do not fit the {_count(said)} tokens.")
    parts: list[tuple[Tensor, ...]] = []
    for rows, (logits,) in _logits((said,)):
        label = labels[rows].to(logits.device)
        log_p = logits.double().log_softmax(1)
        best, guess = log_p.max(1)
        among = (log_p.topk(min(TOP, log_p.shape[1]), 1).indices == label[:, None]).any(1)
        nll = -log_p.gather(1, label[:, None])[:, 0]
        parts.append(tuple(x.cpu() for x in (nll, guess == label, among, best.exp())))
    return TokenStatistics(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def language_metrics(found: TokenStatistics) -> dict[str, float]:
    """Perplexity, nll (nats a token), accuracy of the likeliest token, top-5 accuracy, ece."""
    nll = found.nll.mean().item()
    return {
        "perplexity": math.exp(min(nll, 700.0)),
        "nll": nll,
        "accuracy": found.right.double().mean().item(),
        "top5": found.among.double().mean().item(),
        "ece": calibration_error_of(found.confidence, found.right, bins=BINS),
    }


def token_reliability(found: TokenStatistics) -> dict[str, list[Any]]:
    """The reliability diagram of the likeliest tokens."""
    return reliability_of(found.confidence, found.right, bins=BINS)


def token_agreement(student: Said, teacher: Said, labels: Tensor) -> dict[str, Any]:
    """Share of equal likeliest tokens (`top1`), also where the teacher is right and where it is wrong, and mean KL (`kl`, nats a token).

    `right_teacher_wrong` is how often the student is right where the teacher is wrong.

    Args:
        student: of the rows.
        teacher: of the same rows; tokens that only one of the two models knows are left out.
        labels: token of each, `(rows,)`.

    Raises:
        ShapeMismatch: where the two have not the same rows.
    """
    if _count(student) != _count(teacher):
        raise ShapeMismatch(f"agreement needs the same tokens of both models, found {_count(student)} and {_count(teacher)}.")
    same, right, better, divergence = [], [], [], []
    for rows, (mine, theirs) in _logits((student, teacher)):
        guess = theirs.argmax(1)
        label = labels[rows].to(guess.device)
        same.append((mine.argmax(1) == guess).cpu())
        right.append((guess == label).cpu())
        better.append((mine.argmax(1) == label).cpu())
        divergence.append(kl(theirs.double(), mine.double()).cpu())
    equal, known = torch.cat(same), torch.cat(right)
    return {
        "top1": equal.double().mean().item(),
        "kl": torch.cat(divergence).mean().item(),
        "top1_teacher_right": _share(equal[known]),
        "top1_teacher_wrong": _share(equal[~known]),
        "right_teacher_wrong": _share(torch.cat(better)[~known]),
    }


def _share(values: Tensor) -> float | None:
    return values.double().mean().item() if values.numel() else None


def _count(said: Said) -> int:
    return len(rows_of(said)[0])


def _logits(models: tuple[Said, ...]) -> Iterator[tuple[slice, list[Tensor]]]:
    """Logits of some rows at a time, of the tokens that all models know."""
    vocabulary = min(vocabulary_of(said) for said in models)
    size = max(BYTES // (8 * vocabulary), 1)
    with torch.no_grad():
        for start in range(0, _count(models[0]), size):
            rows = slice(start, start + size)
            yield rows, [logits_of(part_of(said, rows), vocabulary) for said in models]
