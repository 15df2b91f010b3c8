"""Example signals for a loss, made from what it says it needs: what it did not ask for is not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from ..losses.base import Loss
from ..types import IGNORE, Head, LabelKind, Needs, Signals

Form = Literal["logits", "vectors", "tokens", "maps"]
"""What the student and the teacher are compared on."""

CLASSES = 7
_LAYERED: tuple[Form, ...] = ("vectors", "tokens", "maps")
_SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "vectors": ((6,), (9,)),
    "tokens": ((5, 6), (5, 8)),
    "maps": ((4, 3, 3), (6, 3, 3)),
}
"""Shapes behind the batch of a student's and a teacher's feature."""


@dataclass(frozen=True)
class Example:
    """One call of a loss."""

    form: Form
    student: Signals
    teacher: Signals
    labels: Tensor | None

    def call(self, loss: Loss) -> Tensor:
        """The loss of this example."""
        return loss(self.student, self.teacher, self.labels)

    def map(self, change: Callable[[Tensor], Tensor], *, student: bool = True, teacher: bool = True, labels: bool = False) -> Self:
        """The example with `change` applied to the tensors of the named sides."""
        return replace(
            self,
            student=map_signals(self.student, change, rows=labels) if student else self.student,
            teacher=map_signals(self.teacher, change, rows=labels) if teacher else self.teacher,
            labels=change(self.labels) if labels and self.labels is not None else self.labels,
        )

    def inputs(self) -> list[Tensor]:
        """The student's tensors."""
        return tensors(self.student)


def tensors(signals: Signals) -> list[Tensor]:
    """Every tensor of the signals that a model gave: logits, features and those of the rotated views."""
    views = [x for view in signals.views for x in tensors(view)]
    return [*([] if signals.logits is None else [signals.logits]), *signals.features.values(), *views]


def map_signals(signals: Signals, change: Callable[[Tensor], Tensor], *, rows: bool = False) -> Signals:
    """The signals with `change` applied to what the model gave.

    With `rows`, for a change that only picks and reorders examples, it is also applied to what is known of them.
    """
    logits: Any = None if signals.logits is None else change(signals.logits)
    return replace(
        signals,
        logits=logits,
        features={path: change(value) for path, value in signals.features.items()},
        extra={name: change(value) for name, value in signals.extra.items()} if rows else signals.extra,
        views=tuple(map_signals(view, change, rows=rows) for view in signals.views),
    )


def instances(loss_class: type[Loss]) -> Iterator[Loss]:
    """The loss with its defaults, then once for every other choice of a field that is a `Literal`."""
    yield loss_class()
    hints = get_type_hints(loss_class)
    for field in dataclasses.fields(loss_class):  # pyright: ignore[reportArgumentType]
        if field.init and get_origin(hints[field.name]) is Literal:
            for choice in get_args(hints[field.name]):
                if choice != field.default:
                    yield loss_class(**{field.name: choice})


def forms(needs: Needs) -> list[Form]:
    """In which forms the loss can be called."""
    found: list[Form] = []
    if needs.features in ("none", "optional"):
        found.append("logits")
    if needs.features != "none":
        found += _LAYERED[needs.match == "space" :]
    return found


def examples(
    loss: Loss,
    *,
    batch: int = 6,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
    same: bool = False,
    classes: int = CLASSES,
) -> list[Example]:
    """One example for every form and label kind that the loss accepts; `loss.setup` must still be called for each.

    Args:
        loss: the loss; only what its `needs` name is made.
        batch: number of examples in the batch.
        seed: seed of the values.
        dtype: precision of the signals.
        scale: standard deviation of the signals.
        same: give the teacher the student's own values.
        classes: number of outputs.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return (torch.randn(batch, *shape, generator=generator, dtype=torch.float64) * scale).to(dtype)

    kinds = loss.needs.label_kinds if loss.needs.labels else loss.needs.label_kinds[:1]
    return [_example(loss.needs, form, kind, draw, generator, same, classes) for form in forms(loss.needs) for kind in kinds]


def _example(
    needs: Needs, form: Form, kind: LabelKind, draw: Callable[..., Tensor], generator: torch.Generator, same: bool, classes: int
) -> Example:
    student, teacher = Signals(), Signals()
    if needs.logits and (form == "logits" or needs.features != "optional"):
        student = replace(student, logits=draw(classes))
        teacher = replace(teacher, logits=student.logits.clone() if same else draw(classes))
    if form != "logits":
        ours, theirs = _SIZES[form]
        theirs = ours if same or needs.match == "full" else theirs
        for i in range(2 if needs.features == "many" else 1):
            student = replace(student, features={**student.features, f"layer{i}": (own := draw(*ours))})
            teacher = replace(teacher, features={**teacher.features, f"block{i}": own.clone() if same else draw(*theirs)})
    batch = len(tensors(student)[0])
    if needs.rotations:
        student = replace(student, views=tuple(map_signals(student, lambda x: draw(*x.shape[1:])) for _ in range(3)))
        teacher = replace(teacher, views=tuple(map_signals(teacher, lambda x: draw(*x.shape[1:])) for _ in range(3)))
        teacher = replace(teacher, views=student.views) if same else teacher
    if needs.head in ("student", "both"):
        student = replace(student, head=_head(student, draw, classes))
    if needs.head in ("teacher", "both"):
        teacher = replace(teacher, head=student.head if same and student.head else _head(teacher, draw, classes))
    student = replace(student, extra={name: _extra(name, batch, generator) for name in needs.extra})
    labels = _labels(kind, (batch, classes), generator, tensors(student)[0].dtype) if needs.labels else None
    return Example(form, student, teacher if needs.teacher else Signals(), labels)


def _head(signals: Signals, draw: Callable[..., Tensor], classes: int) -> Head:
    """A classifier on the last feature, whose channels are the second dimension of maps and the last of tokens and vectors."""
    feature = list(signals.features.values())[-1]
    channels = feature.shape[1] if feature.ndim == 4 else feature.shape[-1]
    scale = feature.abs().mean().clamp_min(1)  # of magnitude 1 whatever the signals' own
    rows = (draw(classes, channels) / scale).flatten(0, 1)[:classes]
    return Head(rows, torch.linspace(-1, 1, classes, dtype=feature.dtype))


def _extra(name: str, batch: int, generator: torch.Generator) -> Tensor:
    if name == "index":
        return torch.arange(batch)
    return (torch.rand(batch, 3, 3, generator=generator) < 0.5).float()


def _labels(kind: LabelKind, shape: tuple[int, int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    if kind == "class":
        return torch.randint(shape[1], shape[:1], generator=generator)
    if kind == "multilabel":
        return (torch.rand(shape, generator=generator) < 0.4).to(dtype)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def without_first_label(labels: Tensor) -> Tensor:
    """The labels with the first example unlabelled."""
    labels = labels.clone()
    labels[0] = float("nan") if labels.dtype.is_floating_point else IGNORE
    return labels
