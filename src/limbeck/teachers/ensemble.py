r"""Several teachers that speak as one.

With the members' logits :math:`z_k` and weights :math:`w_k` (summing to 1) the ensemble's logits are

- probabilities: :math:`\log \sum_k w_k\, softmax(z_k / T)`, the mean opinion
- logits: :math:`\sum_k w_k z_k`
- confidence: those of the member that is surest of its own answer, example by example
- label: those of the member that gives the true class the highest probability; where the label is unknown, as `confidence`
- gate: as probabilities, with weights that a small gate learns for each example, :math:`w = softmax_k(a_k \cdot s_k + b_k)` with the
  largest probability, the entropy and the margin of each member as :math:`s_k`; it minimises :math:`-\log \sum_k w_k\, p_k(y)` on the
  labelled examples of the training batches, beginning with the given weights, and rests otherwise
- dataset: those of the member that belongs to the example's data set, `Batch.extra["dataset"]`

A specialist knows some of the classes only: `classes` says which, in the order of its outputs. In a mean, the classes that a member does
not know are left to the others; in a choice, they have probability 0 (a floor of e^-30 relative to its surest class).

Reference: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531 (means and specialists); Shen,
Savvides, "MEAL V2", 2020, arXiv:2009.08453 (mean probabilities); Roth et al., "Fantastic Gains and Where to Find Them", ICLR 2024,
arXiv:2310.17653 (the surest of several for each example).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ..errors import LimbeckError, ShapeMismatch, SignalMissing
from ..ops.precision import widen
from ..types import Batch, NonNegative, Positive, Signals, labelled
from ._gate import Gate, statistics
from .base import Setting, Teacher

Combine = Literal["probabilities", "logits", "confidence", "label", "gate", "dataset"]
UNKNOWN = -30.0
"""Distance below its largest logit at which a member puts the classes that it does not know."""


def combined(logits: Tensor, known: Tensor, weights: Tensor, *, combine: Literal["probabilities", "logits"], temperature: float) -> Tensor:
    """Mean of several teachers.

    Args:
        logits: `(members, batch, classes)`.
        known: which classes each member knows, `(members, 1, classes)`, bool.
        weights: of the members, `(members,)` or `(members, batch)`; for each class they are divided by their sum over those that know it.
        combine: what is averaged.
        temperature: of the softmax.

    Returns:
        `(batch, classes)`; for `probabilities` logits whose softmax at `temperature` is the mean.
    """
    share = weights.view(len(weights), -1, 1) * known
    share = share / share.sum(0).clamp_min(1e-12)
    if combine == "logits":
        return (share * logits.where(known, torch.zeros_like(logits))).sum(0)
    log = (logits / temperature).masked_fill(~known, -torch.inf).log_softmax(-1)
    return temperature * torch.logsumexp(log.where(known, torch.full_like(log, -1e4)) + share.clamp_min(1e-30).log(), 0)


def surest(logits: Tensor, labels: Tensor | None, *, temperature: float) -> Tensor:
    """Number of the member that each example listens to, `(batch,)`.

    Args:
        logits: `(members, batch, classes)`.
        labels: classes `(batch,)`; the member that gives it the highest probability is chosen. Without one, the member whose largest
            probability is highest. The first of equals.
        temperature: of the softmax.
    """
    probabilities = (widen(logits) / temperature).softmax(-1)
    largest = probabilities.amax(-1)
    if labels is not None:
        known = labelled(labels)
        index = labels.where(known, torch.zeros_like(labels))
        of_label = probabilities.gather(-1, index.expand(len(logits), -1)[..., None])[..., 0]
        largest = of_label.where(known, largest)
    return largest.argmax(0)


@final
@dataclass(eq=False, kw_only=True)
class EnsembleTeacher(Teacher):
    """Combines other teachers of the recipe by name; it has no model of its own."""

    source: ClassVar = "members"

    members: Sequence[str] = ()
    """Names of two or more teachers."""
    combine: Combine = "probabilities"
    """How their answers become one."""
    weights: Sequence[NonNegative] = ()
    """Weight of each member in a mean; equal where absent."""
    temperature: Positive = 1.0
    """Softmax temperature at which probabilities are averaged and compared."""
    classes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Which classes a member's outputs stand for, where it knows only some, such as `{digits: [0, 1, 2]}`."""
    gate_rate: Positive = 0.01
    """Learning rate of the gate (Adam)."""
    outputs: int | None = None
    """Number of all classes; needed where every member is a specialist."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.members) == 1 or len(set(self.members)) != len(self.members):
            raise LimbeckError(f"an ensemble needs two or more different members, found {list(self.members)}.")
        if self.weights and (len(self.weights) != len(self.members) or sum(self.weights) <= 0):
            raise LimbeckError(f"an ensemble needs one weight a member, not all 0; found {len(self.weights)} for {len(self.members)}.")
        if unknown := sorted(self.classes.keys() - set(self.members)):
            raise LimbeckError(f"`classes` names {', '.join(unknown)}, which is no member of the ensemble {list(self.members)}.")

    def open(self, setting: Setting) -> None:
        if setting.request.taps:
            taps = ", ".join(map(repr, setting.request.taps))
            raise SignalMissing(f"an ensemble has no layers, and a term reads {taps} of it. Name one of its members with `from`.")
        if not setting.members:
            raise LimbeckError("an ensemble needs two or more members; name them with `members`.")
        self._members = dict(setting.members)
        self._weights = list(self.weights) or [1.0] * len(self._members)
        self._gate = Gate(self._weights, self.gate_rate, setting.request.device, setting.total) if self.combine == "gate" else None

    def signals(self, batch: Batch) -> Signals:
        answers = {name: widen(teacher.signals(batch).logits) for name, teacher in self._members.items()}
        logits, known = self._aligned(answers)
        if self.combine in ("probabilities", "logits"):
            weights = torch.tensor(self._weights, dtype=logits.dtype, device=logits.device)
            return Signals(combined(logits, known, weights, combine=self.combine, temperature=self.temperature))
        if self._gate is not None:
            return self._gated(self._gate, logits, known, batch.labels)
        logits = logits.where(known, logits.masked_fill(~known, -torch.inf).amax(-1, keepdim=True) + UNKNOWN)
        if self.combine == "dataset":
            chosen = self._dataset(batch)
        else:
            chosen = surest(logits, batch.labels if self.combine == "label" else None, temperature=self.temperature)
        return Signals(logits[chosen, torch.arange(logits.shape[1], device=logits.device)], extra={"member": chosen})

    def _gated(self, gate: Gate, logits: Tensor, known: Tensor, labels: Tensor | None) -> Signals:
        found = statistics(logits, known, temperature=self.temperature)
        if labels is not None and labels.is_floating_point():
            raise LimbeckError("an ensemble with `combine: gate` learns from the classes of examples, and these data have no classes.")
        if labels is not None and torch.is_grad_enabled():  # not while adapters are set up, which is no update
            log = (logits / self.temperature).masked_fill(~known, -torch.inf).log_softmax(-1)
            gate.learn(found, log, labels)
        with torch.no_grad():
            shares = gate.shares(found)
        said = combined(logits, known, shares, combine="probabilities", temperature=self.temperature)
        return Signals(said, extra={"shares": shares.T})

    def after_step(self, learner: nn.Module) -> None:
        if self._gate is not None:
            self._gate.move()

    def state(self) -> dict[str, Tensor]:
        return self._gate.state() if self._gate is not None else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        if self._gate is not None:
            self._gate.load_state(state)

    def _aligned(self, answers: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of all members over all classes, and which are known."""
        total = self.outputs or max(
            [max(self.classes[name]) + 1 if name in self.classes else value.shape[-1] for name, value in answers.items()]
        )
        rows, known = [], []
        for name, value in answers.items():
            places = list(self.classes.get(name, range(total)))
            if value.shape[-1] != len(places) or max(places) >= total:
                raise ShapeMismatch(
                    f"the member {name!r} gives {value.shape[-1]} outputs, expected {len(places)} of {total} classes; "
                    "say with `classes` which classes its outputs stand for."
                )
            where = torch.tensor(places, device=value.device)
            rows.append(value.new_zeros(*value.shape[:-1], total).index_copy(-1, where, value))
            known.append(torch.zeros(total, dtype=torch.bool, device=value.device).index_fill(0, where, True))
        return torch.stack(rows), torch.stack(known)[:, None, :]

    def _dataset(self, batch: Batch) -> Tensor:
        found = batch.extra.get("dataset")
        if not isinstance(found, Tensor):
            raise SignalMissing("an ensemble that chooses by `dataset` needs the signal 'dataset' (member number) of every example.")
        return found.long()
