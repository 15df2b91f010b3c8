"""How much work the wishes of `evaluate` are, before any of it is done."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..data.corruptions import kinds_of
from ..evaluate import waiting
from ..evaluate.cost import undisturbed
from ..evaluate.speed import LEAST, MOST, SECONDS
from ..session import Session
from .costs import forward_of, wait_of
from .desk import trained_rows
from .exposing import canaries_of


def examples_asked(session: Session) -> int:
    """How many examples every model is asked about, beside those of the test split; texts that may be canaries are among them."""
    wish, splits = session.recipe.evaluate, session.data()
    corrupted = len(kinds_of(wish.corruptions, splits.info.kind)) * len(wish.severities) * len(splits.test) if wish.corruptions else 0
    trained = len(trained_rows(session)[1]) if wish.fidelity or wish.membership else 0
    return corrupted + trained + sum(len(known.texts) + len(known.others) for known in canaries_of(session))


def cost_seconds(session: Session, names: Sequence[str]) -> float:
    """Seconds that the costs in full take, from one forward of every size: as many as are timed, or as there is time for."""
    spent = 0.0
    for name in names if session.recipe.evaluate.cost else ():
        for size in dict.fromkeys(session.recipe.evaluate.cost):
            module, forward = forward_of(session, name, size)
            with undisturbed(module):
                forward()
                start = time.perf_counter()
                forward()
                once = time.perf_counter() - start
            spent += once * (2 + max(LEAST, min(MOST, SECONDS / once)))
    return spent + sum(_wait(session, name) for name in names)


def _wait(session: Session, name: str) -> float:
    """Seconds that the tokens take which are written to time them, from one round of them."""
    length = session.recipe.evaluate.first_token
    if length is None or name not in session.models:
        return 0.0
    start = time.perf_counter()
    wait_of(session, name, length, rounds=1)
    once = (time.perf_counter() - start) / 2
    return once * (1 + max(waiting.LEAST, min(waiting.MOST, waiting.SECONDS / once)))
