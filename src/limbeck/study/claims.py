"""Claims about a study, such as `distilled.accuracy > alone.accuracy + 0.01`: a grammar of their own, nothing is run as code.

    claim       = sum (">" | "<" | ">=" | "<=") sum
    sum         = product {("+" | "-") product}
    product     = sign {("*" | "/") sign}
    sign        = ["-"] sign | atom
    atom        = number | name | function "(" sum {"," sum} ")" | "(" sum ")"
    name        = ARM "." METRIC | ARM "." MODEL "." METRIC; metrics may hold points; an ARM of other characters goes in quotes;
                  the ARM `*` stands for all arms

Functions: `abs`, `log` (natural), `sqrt` of one value; `min`, `max` of several values or of all arms, seed by seed; `mean`, `std` (n - 1
in the denominator) of one value over the seeds, or seed by seed of several values or of all arms; `spearman`, `pearson` of two values, over
the seeds, or over all arms and seeds where they say `*`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, cast

from ..errors import did_you_mean
from .tokenizer import ClaimError, Token, tokenize

Comparison = Literal[">", "<", ">=", "<="]
COMPARISONS: tuple[Comparison, ...] = (">", "<", ">=", "<=")
DEEPEST = 32
"""How deep parentheses, calls and signs may be nested."""

EVERY = "*"
"""The arm that stands for all arms."""

ELEMENTWISE, EXTREMES, SUMMARIES, CORRELATIONS = ("abs", "log", "sqrt"), ("min", "max"), ("mean", "std"), ("spearman", "pearson")
FUNCTIONS = (*ELEMENTWISE, *EXTREMES, *SUMMARIES, *CORRELATIONS)


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True)
class Name:
    """A quantity that a study has measured: a metric of a model of an arm; model None is the arm's student.

    Where the text has three parts or more, `model` is the second; it may belong to the metric instead (`kd.agreement.top1`): who
    knows the arms asks `readings`.
    """

    arm: str
    model: str | None
    metric: str
    column: int = field(default=0, compare=False)

    @property
    def text(self) -> str:
        """As it is written in a claim, without quotes."""
        return ".".join(part for part in (self.arm, self.model, self.metric) if part is not None)

    def readings(self) -> tuple[Name, ...]:
        """What the name may mean: a metric of the model, then a metric with a point in its name of the arm's student."""
        if self.model is None:
            return (self,)
        return (self, Name(self.arm, None, f"{self.model}.{self.metric}", self.column))


@dataclass(frozen=True)
class Call:
    """A function of expressions."""

    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class Operation:
    """Two expressions and the sign between them."""

    sign: Literal["+", "-", "*", "/"]
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Negative:
    """An expression with the sign turned."""

    inner: Expression


Expression = Number | Name | Call | Operation | Negative


@dataclass(frozen=True)
class Claim:
    """Two expressions and how they are said to compare."""

    text: str
    comparison: Comparison
    left: Expression
    right: Expression

    def names(self) -> list[Name]:
        """What the claim reads, each once, in the order of the text."""
        return list(dict.fromkeys([*names(self.left), *names(self.right)]))

    def error(self, name: Name, message: str) -> ClaimError:
        """An error that points at a name of this claim."""
        return ClaimError(self.text, name.column, message)


def parse(text: str) -> Claim:
    """Reads a claim.

    Raises:
        ClaimError: with the column, a caret under it, what was expected and what was found.
    """
    return _Parser(text).claim()


def walk(expression: Expression) -> Iterator[Expression]:
    """An expression and all its parts, from left to right."""
    yield expression
    match expression:
        case Call(_, arguments):
            for argument in arguments:
                yield from walk(argument)
        case Operation(_, left, right):
            yield from walk(left)
            yield from walk(right)
        case Negative(inner):
            yield from walk(inner)


def names(expression: Expression) -> Iterator[Name]:
    """What an expression reads."""
    return (part for part in walk(expression) if isinstance(part, Name))


class _Parser:
    """Recursive descent over the words of one claim."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at, self.depth = text, tokenize(text), 0, 0

    @property
    def here(self) -> Token:
        return self.tokens[self.at]

    def claim(self) -> Claim:
        if self.here.kind == "end":
            raise self._fault("a claim is empty; write one such as distilled.accuracy > alone.accuracy.")
        left = self._sum()
        comparison = self._comparison()
        right = self._sum()
        if self.here.text in COMPARISONS:
            raise self._fault("a claim compares two sides; write a second claim for this one.")
        if self.here.kind != "end":
            raise self._fault(self._expected("an operator or the end"))
        claim = Claim(self.text, comparison, left, right)
        if not claim.names():
            raise ClaimError(self.text, 0, "a claim is about an arm; name one, such as distilled.accuracy.")
        _check_stars(self.text, left)
        _check_stars(self.text, right)
        return claim

    def _comparison(self) -> Comparison:
        token = self.here
        if token.text in COMPARISONS:
            self.at += 1
            return cast("Comparison", token.text)
        if token.text in {"=", "==", "!="}:
            raise self._fault(
                f"expected >, <, >= or <=, found {token.text!r}: seeds cannot show that two values are equal. "
                "Claim that they are close: abs(a.accuracy - b.accuracy) < 0.01."
            )
        raise self._fault(self._expected("an operator or a comparison (>, <, >=, <=)"))

    def _sum(self) -> Expression:
        value = self._product()
        while self.here.text in {"+", "-"} and self.here.kind == "operator":
            sign = self._next().text
            value = Operation(cast("Literal['+', '-']", sign), value, self._product())
        return value

    def _product(self) -> Expression:
        value = self._sign()
        while self.here.text in {"*", "/"} and self.here.kind == "operator":
            sign = self._next().text
            value = Operation(cast("Literal['*', '/']", sign), value, self._sign())
        return value

    def _sign(self) -> Expression:
        if self.here.text != "-" or self.here.kind != "operator":
            return self._atom()
        self._deeper()
        self.at += 1
        inner = self._sign()
        self.depth -= 1
        return Number(-inner.value) if isinstance(inner, Number) else Negative(inner)

    def _atom(self) -> Expression:
        token = self.here
        if token.kind == "number":
            self.at += 1
            value = float(token.text)
            if not math.isfinite(value):
                raise ClaimError(self.text, token.column, f"the number {token.text} is too large.")
            return Number(value)
        if token.text == "(" and token.kind == "operator":
            return self._parenthesis()
        if token.kind in {"name", "quoted"} or token.text == EVERY:
            follows = self.tokens[self.at + 1].text
            return self._call() if follows == "(" and token.kind == "name" else self._name()
        raise self._fault(self._expected("a number, a name such as distilled.accuracy, a function or '('"))

    def _parenthesis(self) -> Expression:
        opened = self._deeper()
        self.at += 1
        value = self._sum()
        self._close(opened)
        return value

    def _call(self) -> Expression:
        token = self._deeper()
        if token.text not in FUNCTIONS:
            known = did_you_mean(token.text, FUNCTIONS) or f" Known: {', '.join(FUNCTIONS)}."
            raise self._fault(f"no function is called {token.text!r}.{known}")
        self.at += 1
        opened = self._next()
        if self.here.text == ")":
            raise self._fault(f"{token.text} needs an argument, such as {token.text}(distilled.accuracy).")
        arguments = [self._sum()]
        while self.here.text == ",":
            self.at += 1
            arguments.append(self._sum())
        self._close(opened)
        call = Call(token.text, tuple(arguments))
        _check_call(self.text, token.column, call)
        return call

    def _name(self) -> Name:
        first = self._next()
        arm = _unquoted(self.text, first)
        parts: list[str] = []
        while self.here.text == "." and self.here.kind == "operator":
            self.at += 1
            parts.append(self._part())
        if not parts:
            what = "all arms" if arm == EVERY else repr(arm)
            raise self._fault(
                f"expected '.' and a metric after {what}, found {self.here.shown()}; write ARM.METRIC, such as distilled.accuracy; "
                "an arm with other signs than letters, digits and _ goes in quotes."
            )
        if len(parts) == 1:
            return Name(arm, None, parts[0], first.column)
        return Name(arm, parts[0], ".".join(parts[1:]), first.column)

    def _part(self) -> str:
        if self.here.kind not in {"name", "quoted"}:
            raise self._fault(self._expected("a metric after '.', such as accuracy"))
        return _unquoted(self.text, self._next())

    def _close(self, opened: Token) -> None:
        if self.here.text != ")":
            raise self._fault(self._expected(f"')' for the '(' in column {opened.column + 1}"))
        self.at += 1
        self.depth -= 1

    def _deeper(self) -> Token:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self._fault(f"nested deeper than {DEEPEST} levels; write a simpler claim.")
        return self.here

    def _next(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def _expected(self, what: str) -> str:
        return f"expected {what}, found {self.here.shown()}."

    def _fault(self, message: str) -> ClaimError:
        return ClaimError(self.text, self.here.column, message)


def _unquoted(text: str, token: Token) -> str:
    if token.kind != "quoted":
        return token.text
    if not token.text[1:-1]:
        raise ClaimError(text, token.column, "expected a name between the quotes.")
    return token.text[1:-1]


def _check_call(text: str, column: int, call: Call) -> None:
    """How many arguments a function takes, and that an extreme has several values to choose from."""
    count, name = len(call.arguments), call.function
    if name in ELEMENTWISE and count != 1:
        raise ClaimError(text, column, f"{name} takes one argument, found {count}.")
    if name in CORRELATIONS and count != 2:
        raise ClaimError(text, column, f"{name} takes two arguments, such as {name}(*.ece, *.accuracy), found {count}.")
    if name in EXTREMES and count == 1 and not of_all_arms(call.arguments[0]):
        raise ClaimError(
            text, column, f"{name} chooses between values of the same seed: write {name}(a.accuracy, b.accuracy) or {name}(*.accuracy)."
        )
    if name in CORRELATIONS and of_all_arms(call.arguments[0]) != of_all_arms(call.arguments[1]):
        raise ClaimError(text, column, f"{name} pairs its arguments: either both are of all arms (*.METRIC) or neither is.")


def of_all_arms(expression: Expression) -> bool:
    """Whether an expression is a value for every arm, not yet brought down to one by a function."""
    match expression:
        case Name(arm=arm):
            return arm == EVERY
        case Operation(_, left, right):
            return of_all_arms(left) or of_all_arms(right)
        case Negative(inner):
            return of_all_arms(inner)
        case Call(name, arguments):
            return name in ELEMENTWISE and of_all_arms(arguments[0])
    return False


def _check_stars(text: str, side: Expression) -> None:
    if of_all_arms(side):
        star = next(name for name in names(side) if name.arm == EVERY)
        hint = "put it into mean, min, max, std, spearman or pearson"
        raise ClaimError(text, star.column, f"{star.text} is a value of every arm, a claim compares one with one; {hint}.")
