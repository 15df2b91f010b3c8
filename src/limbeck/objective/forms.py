"""Which losses make sense of how a teacher of language speaks: logits, hidden states, its likeliest tokens, samples, or texts only."""

from __future__ import annotations

from dataclasses import fields

from ..errors import LimbeckError
from ..losses.base import Form, Loss
from ..registry import LOSSES
from ..tokens import Hidden, Logits, Sampled, Tokens, TopK
from ..types import Signals

SAYS: dict[Form, str] = {
    "dense": "logits",
    "hidden": "hidden states with its head",
    "topk": "its likeliest tokens with their probabilities",
    "sampled": "samples",
}


def form_of(said: Tokens) -> Form:
    """How a model speaks of the vocabulary."""
    forms: dict[type, Form] = {Hidden: "hidden", Logits: "dense", TopK: "topk", Sampled: "sampled"}
    return forms[type(said)]


def accepting(form: Form) -> list[str]:
    """The built-in losses on a teacher's logits that make sense of a form."""
    return [name for name in LOSSES.files() if _reads(LOSSES.get(name)) and form in LOSSES.get(name).accepts]


def _reads(loss: type[Loss]) -> bool:
    """Whether a loss compares what both models say of classes; one that cannot be made without arguments is not named."""
    try:
        needs = loss().needs
    except (TypeError, ValueError):
        return False
    return needs.teacher and needs.logits and needs.features == "none" and needs.fits("token") and needs.head == "none"


def check_form(label: str, loss: Loss, name: str, said: Signals) -> None:
    """Refuses a loss that makes no sense of what a teacher of language says.

    Args:
        label: of the term.
        loss: which reads what is said of tokens.
        name: of the teacher.
        said: values do not matter, so they may be on the meta device.

    Raises:
        LimbeckError: naming the losses that do; also for a temperature at which nothing was stored, for a divergence that samples do not
            estimate, and for more likely tokens than are named.
    """
    place = f"objective.{label}"
    if said.tokens is None:
        return
    form = form_of(said.tokens)
    if form not in loss.accepts:
        able = ", ".join(accepting(form))
        raise LimbeckError(
            f"{place}: {name!r} says {SAYS[form]} ({form}), and this loss takes {' or '.join(loss.accepts)} ones. Losses that take {form}: "
            f"{able}. All take a model, or a store of its hidden states (limbeck label --signal tokens=hidden)."
        )
    if isinstance(said.tokens, Hidden | Logits):
        return
    if isinstance(said.tokens, Sampled) and loss.measure is not None and loss.measure.divergence != "forward":
        raise LimbeckError(
            f"{place}: samples of a teacher estimate divergence 'forward' only, found {loss.measure.divergence!r}. Use it, or store the "
            "likeliest tokens (limbeck label --signal tokens=topk:k=64)."
        )
    given = {field.name: vars(loss)[field.name] for field in fields(loss)}  # pyright: ignore[reportArgumentType] - every loss is a dataclass
    temperature, top = given.get("temperature"), given.get("top")
    if temperature is not None and temperature != said.tokens.temperature:
        raise LimbeckError(
            f"{place}: the temperature is {temperature:g}, and the teacher's probabilities were stored at {said.tokens.temperature:g}; the "
            f"few that are kept cannot be brought to another. Set `temperature: {said.tokens.temperature:g}`, or store hidden states."
        )
    if isinstance(said.tokens, TopK) and top is not None and top > (kept := said.tokens.ids.shape[1]):
        raise LimbeckError(f"{place}: it reads the {top} likeliest tokens, and {name!r} names {kept} of each. Set `top: {kept}` or less.")


def check_speech(label: str, name: str) -> None:
    """Refuses any loss that listens to a teacher who only writes texts.

    Raises:
        LimbeckError: saying how a student learns from texts.
    """
    raise LimbeckError(
        f"objective.{label}: {name!r} writes texts and says no probabilities (sequences only), which no loss compares. Losses that take "
        "sequences: cross_entropy, which reads them as data. Have it write once, `limbeck generate --remote URL --served NAME --chat "
        '--prompts data.jsonl --out answers.jsonl`, and learn from `data: {source: "jsonl:answers.jsonl"}`.'
    )
