"""What comes after the last stage of a run, timed: results on the test split, the costs of the models, the report."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .answering import PURPOSE, answers, questions
from .appraisal import cost_seconds, examples_asked
from .calibration import judging
from .errors import ModelError
from .evaluate.cost import REPEATS, WARMUP, model_cost
from .fusing import writer
from .report.curves import Curve
from .report.plots import line_figure
from .session import Session

_FEW = 3
"""Forwards that are timed of those that a cost takes."""


def finishing(session: Session, names: Sequence[str], budget: float) -> float:
    """Seconds from the end of the last stage to the end of the run.

    Args:
        names: the models that are judged.
        budget: seconds for the answers on the test split.
    """
    diagrams = len(names) if session.task.labels == "class" else 0  # of reliability; beside one of all stages and one of each
    examples = judging(session, names, budget) * (len(session.data().test) + examples_asked(session))
    costs = sum(_cost(session, name) for name in names) + cost_seconds(session, names)
    return examples + costs + _speaking(session, names) + _drawing(1 + len(session.phases) + diagrams)


def _cost(session: Session, name: str) -> float:
    """Seconds that it takes to measure what a model costs."""
    built = session.models[name]
    info = session.data().info.shown(built.request.view)
    example = session.task.example(info, batch=1, device=str(session.backend.device))
    start = time.perf_counter()
    latency = model_cost(built.module.to(session.backend.device), example.inputs, repeats=_FEW, warmup=1)["latency_ms"]
    return time.perf_counter() - start + (REPEATS + WARMUP - _FEW - 1) * (latency or 0.0) / 1000


def _speaking(session: Session, names: Sequence[str]) -> float:
    """Seconds that the models write answers to prompts, from a few tokens of each; 0 where none are asked for."""
    wish, splits = session.recipe.evaluate, session.data()
    count = max(wish.generations, wish.prompts if wish.answer is not None else 0)
    if session.task.labels != "token" or count == 0:
        return 0.0
    modules = [writer(session, name).to(session.backend.device) for name in names]
    asked = questions(splits, splits.test, modules, count, seed=session.seed(PURPOSE), tokens=wish.tokens)
    if asked is None:
        return 0.0
    tokens = min(_FEW, wish.tokens)
    spent = 0.0
    for module in modules:
        start = time.perf_counter()
        try:
            answers(module, splits, asked, tokens)
        except ModelError:  # one that cannot write is left out of the report, too
            continue
        spent += (time.perf_counter() - start) * wish.tokens / tokens
    return spent


def _drawing(count: int) -> float:
    """Seconds that the figures of a report take; the first one is timed with all that it has to load."""
    times: list[float] = []
    for _ in range(2):
        start = time.perf_counter()
        line_figure([Curve("total", tuple(range(1, 100)), tuple(1 / x for x in range(1, 100)))], "plan", "A curve like those of a report.")
        times.append(time.perf_counter() - start)
    return times[0] + (count - 1) * times[1]
