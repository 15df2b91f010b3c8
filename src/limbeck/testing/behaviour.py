"""Checks of what a loss computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ..losses.base import Loss
from ..types import Signals
from .examples import CLASSES, Example, examples, instances, map_signals, tensors, without_first_label
from .failure import ContractError, demand


def cases(
    loss_class: type[Loss],
    *,
    batch: int = 6,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
    same: bool = False,
    classes: int = CLASSES,
) -> Iterator[tuple[Loss, Example]]:
    """A ready loss and an example for every choice and form; `setup` has been called."""
    for instance in instances(loss_class):
        for i, example in enumerate(examples(instance, batch=batch, dtype=dtype, scale=scale, same=same, classes=classes)):
            loss = rebuild(instance)
            torch.manual_seed(i)
            loss.allocate(batch)
            loss.setup(example.student, example.teacher)
            yield loss.to(torch.float64 if dtype == torch.float64 else torch.float32), example


def rebuild(loss: Loss) -> Loss:
    """A new loss with the same hyper-parameters, before `setup`."""
    return type(loss)(**{f.name: getattr(loss, f.name) for f in dataclasses.fields(loss) if f.init})  # pyright: ignore[reportArgumentType]


def tell(loss: Loss, example: Example) -> str:
    """How the loss was called, for messages."""
    return f"{loss!r} on {example.form}"


def leaves(example: Example, *, teacher: bool = False) -> Example:
    """The example with tensors of the student (and the teacher) that collect gradients."""
    return example.map(lambda x: x.detach().clone().requires_grad_(), teacher=teacher)


def close(a: Tensor, b: Tensor, *, rtol: float = 1e-9, atol: float = 1e-9) -> bool:
    """Whether two results agree in shape and value."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=rtol, atol=atol)


def check_needs(loss_class: type[Loss]) -> None:
    """`needs` is the truth: the loss runs on nothing else, and everything in it changes the value."""
    unread: dict[str, bool] = {}
    for loss, example in cases(loss_class):
        where = tell(loss, example)
        try:
            value = example.call(loss)
        except Exception as error:
            raise ContractError(f"{where} fails on the signals that its needs {loss.needs} name: {error!r}") from error
        sides = {"student": example.map(_other, teacher=False)}
        if loss.needs.teacher:
            sides["teacher"] = example.map(_other, student=False)
        if example.labels is not None:
            labels = example.labels.roll(1, 0) if example.labels.ndim == 1 else example.labels.roll(1, -1)
            sides["labels"] = replace(example, labels=labels)
        for what in [what for what in _further(loss) if not what.endswith("head")]:  # of which a loss may read the shape only
            key = f"{loss!r}: needs name the {what}"
            unread[key] = unread.get(key, True) and close(value, _with(example, what, _other).call(loss))
        for side, changed in sides.items():
            demand(not close(value, changed.call(loss)), f"{where}: needs name the {side}, but changing it does not change the value.")
    for key, alike in unread.items():  # a mask says nothing of vectors, so one form is enough
        demand(not alike, f"{key}, but changing it does not change the value.")


def _further(loss: Loss) -> list[str]:
    """What `needs` name beyond logits, layers and labels, as `student's head`; but for the index, whose rows may be alike."""
    needs = loss.needs
    sides = ("student", "teacher") if needs.teacher else ("student",)
    heads = [f"{side}'s head" for side in sides if needs.head in (side, "both")]
    return [
        *heads,
        *(f"{side}'s views" for side in sides if needs.rotations),
        *(f"student's {name}" for name in needs.extra if name != "index"),
    ]


def _with(example: Example, what: str, change: Callable[[Tensor], Tensor] | None) -> Example:
    """The example with one of those changed, or (None) without it."""
    side, _, name = what.partition("'s ")
    old: Signals = getattr(example, side)
    if name == "head" and old.head is not None:
        new = replace(old, head=replace(old.head, weight=change(old.head.weight)) if change else None)
    elif name == "views":
        new = replace(old, views=tuple(map_signals(view, change) for view in old.views) if change else ())
    else:
        kept = {key: x for key, x in old.extra.items() if key != name}
        new = replace(old, extra={**kept, name: change(old.extra[name])} if change else kept)
    return replace(example, **{side: new})


def _other(x: Tensor) -> Tensor:
    """Values that differ in direction, length and in how the examples relate."""
    return x + 1.5 * x.roll(1, -1) * x.roll(1, 0)


def check_shape(loss_class: type[Loss]) -> None:
    """One value an example, `(batch,)` or `(batch, ...)`; a scalar where `needs.global_batch` says it is a batch quantity."""
    for loss, example in cases(loss_class):
        value = example.call(loss)
        if loss.needs.global_batch:
            demand(value.ndim == 0, f"{tell(loss, example)}: a batch quantity is a scalar, found shape {list(value.shape)}.")
        else:
            found = list(value.shape)
            demand(
                found[:1] == [6], f"{tell(loss, example)}: 6 examples need 6 values, found shape {found}; do not average over the batch."
            )


def check_independence(loss_class: type[Loss]) -> None:
    """A per-example value does not depend on the other examples of the batch; those that do need `global_batch`."""
    for loss, example in cases(loss_class):
        if not loss.needs.global_batch:
            part = example.map(lambda x: x[:2], labels=True)
            same = close(part.call(loss), example.call(loss)[:2])
            demand(
                same,
                f"{tell(loss, example)}: a value changes with the rest of the batch; set global_batch=True in needs and return a scalar.",
            )


def check_gradient(loss_class: type[Loss]) -> None:
    """The gradient reaches every signal of the student, is finite, and asks for nothing of the teacher."""
    for loss, example in cases(loss_class):
        where, traced = tell(loss, example), leaves(example)
        value = traced.call(loss)
        demand(value.requires_grad, f"{where}: no gradient reaches the student; was it detached?")
        value.sum().backward()
        for x in traced.inputs():
            demand(x.grad is not None and x.grad.any(), f"{where}: no gradient reaches a student signal of shape {list(x.shape)}.")
            demand(x.grad is not None and x.grad.isfinite().all(), f"{where}: the gradient is not finite.")
        demand(not any(x.requires_grad for x in tensors(traced.teacher)), f"{where}: the loss switched on gradients of the teacher.")


def check_purity(loss_class: type[Loss]) -> None:
    """`forward` changes none of its inputs and gives the same value twice."""
    for loss, example in cases(loss_class):
        kept = example.map(torch.clone, labels=True)
        first = example.call(loss)
        after = [*tensors(example.student), *tensors(example.teacher), *([] if example.labels is None else [example.labels])]
        before = [*tensors(kept.student), *tensors(kept.teacher), *([] if kept.labels is None else [kept.labels])]
        same = all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
        demand(same, f"{tell(loss, example)}: forward changes its inputs in place.")
        demand(torch.equal(first, example.call(loss)), f"{tell(loss, example)}: two calls give two values.")


def check_permutation(loss_class: type[Loss]) -> None:
    """Reordering the batch reorders the values, and leaves a batch quantity as it is."""
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for loss, example in cases(loss_class):
        value, moved = example.call(loss), example.map(lambda x: x[order], labels=True).call(loss)
        expected = value if value.ndim == 0 else value[order]
        demand(close(moved, expected), f"{tell(loss, example)}: the value depends on the order of the batch.")


def check_equality(loss_class: type[Loss]) -> None:
    """A student that equals its teacher has loss zero, with a finite gradient; no other student has less."""
    for loss, example in cases(loss_class, same=True):
        if not loss.needs.teacher:
            continue
        traced = leaves(example)
        value = traced.call(loss)
        largest = value.abs().max().item()
        demand(largest < 1e-6, f"{tell(loss, example)}: student equals teacher, but the loss is {largest:.3g} instead of 0.")
        value.sum().backward()
        finite = all(x.grad is None or x.grad.isfinite().all() for x in traced.inputs())
        demand(finite, f"{tell(loss, example)}: the gradient is not finite where student equals teacher.")
    for loss, example in cases(loss_class):
        if loss.needs.teacher:
            demand((example.call(loss) > 0).all(), f"{tell(loss, example)}: a student that differs must have a loss above 0.")


def check_shift(loss_class: type[Loss]) -> None:
    """Adding a constant to all logits of an example changes no probability, so it must not change the loss."""
    for loss, example in cases(loss_class):
        if example.form != "logits":
            continue
        value = example.call(loss)
        for side in ("student", "teacher"):
            moved = example.map(_shifted, student=side == "student", teacher=side == "teacher")
            text = f"{tell(loss, example)}: adding a constant to the {side}'s logits changes the loss; compare log-probabilities."
            demand(close(moved.call(loss), value, atol=1e-7), text)


def _shifted(logits: Tensor) -> Tensor:
    return logits + torch.linspace(-3, 5, len(logits), dtype=logits.dtype)[:, None]


def check_unlabelled(loss_class: type[Loss]) -> None:
    """A missing label (-100 or NaN) gives a finite value and gradient; the objective then masks the example."""
    for loss, example in cases(loss_class):
        if example.labels is None:
            continue
        full, poor = example.call(loss), leaves(replace(example, labels=without_first_label(example.labels)))
        value = poor.call(loss)
        value.sum().backward()
        finite = value.isfinite().all() and all(x.grad is not None and x.grad.isfinite().all() for x in poor.inputs())
        demand(finite, f"{tell(loss, example)}: an example without a label gives a value or gradient that is not finite.")
        if value.ndim:
            demand(close(value[1:], full[1:]), f"{tell(loss, example)}: a missing label changes the value of another example.")
            stays = all(x.grad is not None and not x.grad[0].any() for x in poor.inputs())
            demand(stays, f"{tell(loss, example)}: an example without a label has a gradient.")


def check_missing(loss_class: type[Loss]) -> None:
    """A signal that is needed and absent is a LimbeckError, not an AttributeError from deep inside."""
    from ..errors import LimbeckError

    for loss, example in cases(loss_class):
        absent = {"student": replace(example, student=Signals())}
        if loss.needs.teacher:
            absent["teacher"] = replace(example, teacher=Signals())
        if loss.needs.labels:
            absent["labels"] = replace(example, labels=None)
        without_index = ["student's index"] if "index" in loss.needs.extra else []
        absent |= {what: _with(example, what, None) for what in [*_further(loss), *without_index]}
        for side, poor in absent.items():
            try:
                if "'s " in side:  # what a loss reads of it, it may read once, in setup
                    fresh = rebuild(loss)
                    fresh.allocate(6)
                    fresh.setup(poor.student, poor.teacher)
                poor.call(loss)
            except LimbeckError:
                continue
            except Exception as error:
                text = f"{tell(loss, example)}: without its {side} it fails with {error!r}; use the helpers of limbeck.losses.base."
                raise ContractError(text) from error
            raise ContractError(f"{tell(loss, example)}: it runs without its {side}, which its needs name.")
