"""The numbers behind a claim: which seeds have them all, and what an expression is worth over some of the seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .claims import CORRELATIONS, EVERY, EXTREMES, SUMMARIES, Call, Claim, Expression, Name, Negative, Number, Operation, of_all_arms, walk
from .statistics import Correlation, correlation

if TYPE_CHECKING:
    from .decide import Values

Array = np.ndarray


class Columns:
    """The values that a claim reads, one row a name.

    A seed in which a value is missing is left out of the whole claim (`kept` are the positions of the others); within a correlation over
    all arms only the pair is. Arms that never have a value which the claim reads of all arms are left out. `notes` says so.
    """

    def __init__(self, claim: Claim, values: Values) -> None:
        self._tables: dict[Name, Array] = {}
        notes: list[str] = []
        every = [name for name in claim.names() if name.arm == EVERY]
        arms = [arm for arm in values.arms() if all(np.isfinite(_row(values, _of(name, arm))).any() for name in every)]
        left_out = [arm for arm in values.arms() if arm not in arms]
        if every and left_out:
            notes.append(f"without {', '.join(left_out)}, which never {'has' if len(left_out) == 1 else 'have'} these values")
        for name in claim.names():
            rows = [_row(values, _of(name, arm)) for arm in arms] if name.arm == EVERY else [_row(values, name)]
            self._tables[name] = np.stack(rows) if rows else np.zeros((0, len(values.seeds)))
        needed = list(dict.fromkeys([*_needed(claim.left), *_needed(claim.right)]))
        lacking = {name: [i for i in range(len(values.seeds)) if not np.isfinite(self._tables[name][:, i]).all()] for name in needed}
        dropped = {i for positions in lacking.values() for i in positions}
        notes += [f"{name.text} is missing in seed {_listed(values, positions)}" for name, positions in lacking.items() if positions]
        self.kept = [i for i in range(len(values.seeds)) if i not in dropped]
        self.notes = tuple(notes)
        self.per_seed = not any(_of_all_seeds(part) for side in (claim.left, claim.right) for part in walk(side))

    def side(self, expression: Expression, positions: Sequence[int]) -> list[float]:
        """One value a seed of `positions`; equal ones where the expression is of all of them together."""
        with np.errstate(all="ignore"):
            value = self._value(expression, positions)
        return np.broadcast_to(value, (len(positions),)).tolist()

    def pairs(self, call: Call, positions: Sequence[int]) -> tuple[list[float], list[float]]:
        """What a correlation is of: the pairs that are there and finite."""
        with np.errstate(all="ignore"):
            x, y = np.broadcast_arrays(*(self._value(argument, positions) for argument in call.arguments))
        known = np.isfinite(x) & np.isfinite(y)
        return x[known].tolist(), y[known].tolist()

    def _value(self, expression: Expression, positions: Sequence[int]) -> Array:
        """`()`, `(seeds,)`, or `(arms, seeds)` where all arms are meant."""
        match expression:
            case Number(value):
                return np.asarray(value, dtype=np.float64)
            case Name(arm=arm):
                table = self._tables[expression][:, list(positions)]
                return table if arm == EVERY else table[0]
            case Negative(inner):
                return -self._value(inner, positions)
            case Operation(sign, left, right):
                return _apply(sign, self._value(left, positions), self._value(right, positions))
            case Call(function, arguments):
                if function in CORRELATIONS:
                    return np.asarray(_correlated(function, self.pairs(expression, positions)))
                return _call(function, [self._value(argument, positions) for argument in arguments], len(positions))


def _of(name: Name, arm: str) -> Name:
    return Name(arm, name.model, name.metric, name.column)


def _row(values: Values, name: Name) -> Array:
    return np.asarray([math.nan if value is None else float(value) for value in values.get(name)], dtype=np.float64)


def _listed(values: Values, positions: Sequence[int]) -> str:
    return ", ".join(str(values.seeds[i]) for i in positions)


def _needed(expression: Expression) -> Iterator[Name]:
    """Names that must have a value in every seed that counts: all but those of a correlation over all arms."""
    match expression:
        case Name():
            yield expression
        case Call(function, arguments):
            if function not in CORRELATIONS or not of_all_arms(arguments[0]):
                for argument in arguments:
                    yield from _needed(argument)
        case Operation(_, left, right):
            yield from _needed(left)
            yield from _needed(right)
        case Negative(inner):
            yield from _needed(inner)


def _of_all_seeds(part: Expression) -> bool:
    """Whether a part is one number for all seeds though it reads values."""
    if not isinstance(part, Call):
        return False
    if part.function in CORRELATIONS:
        return True
    return part.function in SUMMARIES and len(part.arguments) == 1 and not of_all_arms(part.arguments[0])


def _correlated(kind: str, pairs: tuple[list[float], list[float]]) -> float:
    name: Correlation = "spearman" if kind == "spearman" else "pearson"
    return correlation(name, *pairs)


def _apply(sign: str, a: Array, b: Array) -> Array:
    if sign == "+":
        return a + b
    if sign == "-":
        return a - b
    return a * b if sign == "*" else a / b


def _call(function: str, values: list[Array], seeds: int) -> Array:
    if function == "abs":
        return np.abs(values[0])
    if function == "log":
        return np.log(values[0])
    if function == "sqrt":
        return np.sqrt(values[0])
    pool = values[0] if values[0].ndim else np.broadcast_to(values[0], (seeds,))
    if len(values) > 1 or pool.ndim == 2:  # of several values, seed by seed
        pool = np.concatenate([np.broadcast_to(value, (1, seeds)) if value.ndim < 2 else value for value in values])
    if function in EXTREMES:
        return pool.min(axis=0) if function == "min" else pool.max(axis=0)
    if function == "mean":
        return pool.mean(axis=0)
    return pool.std(axis=0, ddof=1) if pool.shape[0] > 1 else np.full(pool.shape[1:], np.nan)
