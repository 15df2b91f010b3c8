"""Checks of a loss on the smallest batch and on large batches."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import LimbeckError
from ..losses.base import Loss
from ..types import Head
from .behaviour import cases, close, leaves, rebuild, tell
from .examples import Example
from .failure import ContractError, demand

MANY = 100_000
"""Classes of a large output."""
ROOM = 250
"""Elements a class that the largest tensor may have: a few directions among the features fit, a square of the classes does not."""


class Largest(TorchDispatchMode):
    """Sees the largest tensor that any operation makes, and stops at one beyond the limit."""

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.elements, self.limit = 0, limit

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation and looks at what it gives."""
        made = func(*args, **(kwargs or {}))
        for x in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(x, Tensor):
                stored = x.untyped_storage().nbytes() // x.element_size()  # an expanded tensor holds less than it shows
                self.elements = max(self.elements, stored)
                demand(self.limit is None or stored <= self.limit, f"{func} makes {stored:,} elements; the limit is {self.limit}.")
        return made


def check_single(loss_class: type[Loss]) -> None:
    """A batch of one example gives a finite value and gradient, or an error that says what to do."""
    made = cases(loss_class, batch=1, dtype=torch.float32)
    while True:
        try:
            loss, example = next(made)
        except (StopIteration, LimbeckError):  # a loss may refuse to be set up for it
            return
        traced = leaves(example)
        try:
            value = traced.call(loss)
        except LimbeckError:
            continue
        except Exception as error:
            raise ContractError(f"{tell(loss, example)}: a batch of one example fails with {error!r}.") from error
        _demand_finite(value, traced, f"{tell(loss, example)}: not finite in a batch of one example.")


def _demand_finite(value: Tensor, example: Example, text: str) -> None:
    demand(value.isfinite().all(), text)
    if value.requires_grad:
        value.sum().backward()
    demand(all(x.grad is None or x.grad.isfinite().all() for x in example.inputs()), text)


def check_classes(loss_class: type[Loss]) -> None:
    """A hundred thousand classes: float32 gives what float64 gives, and no tensor is larger than a few times the logits."""
    with Largest(limit=ROOM * MANY):
        for loss, example in cases(loss_class, batch=3, dtype=torch.float32, classes=MANY):
            if example.student.logits is None and loss.needs.head == "none":
                continue
            where, traced = f"{tell(loss, example)}: with {MANY:,} classes", leaves(example)
            twin = copy.deepcopy(loss).double()  # before the call, which a loss may remember
            value = traced.call(loss)
            _demand_finite(value, traced, f"{where} not finite.")
            exact = _doubled(example).call(twin)
            demand(close(value, exact, rtol=1e-3), f"{where} {value.tolist()} in float32, {exact.tolist()} in float64.")


def _doubled(example: Example) -> Example:
    """The example in float64, heads too."""
    student, teacher = (dataclasses.replace(side, head=_head(side.head)) for side in (example.student, example.teacher))
    labels = example.labels.double() if example.labels is not None and example.labels.is_floating_point() else example.labels
    return Example(example.form, student, teacher, labels).map(torch.Tensor.double)


def _head(head: Head | None) -> Head | None:
    return None if head is None else Head(head.weight.double(), None if head.bias is None else head.bias.double())


def check_chunk(loss_class: type[Loss]) -> None:
    """A `chunk` does not change value and gradient; a loss on the whole batch whose memory grows with its square has one."""
    if "chunk" in {field.name for field in dataclasses.fields(loss_class)}:  # pyright: ignore[reportArgumentType]
        for loss, example in cases(loss_class):
            _check_equal(loss, _in_chunks(loss, example), example)
    elif loss_class().needs.global_batch:
        small, large = (_largest(loss_class, batch) for batch in (64, 128))
        demand(
            all(after < 3 * before for before, after in zip(small, large, strict=True)),
            f"{loss_class.__name__}: twice the batch needs four times the memory; give it a field `chunk` (ops.slices.in_slices).",
        )


def _in_chunks(loss: Loss, example: Example) -> Loss:
    """The same loss, two examples at a time."""
    other: Any = rebuild(loss)
    other.chunk = 2
    other.allocate(6)
    other.setup(example.student, example.teacher)
    other.to(torch.float64).load_state_dict(loss.state_dict())
    return other


def _check_equal(loss: Loss, other: Loss, example: Example) -> None:
    found: list[list[Tensor]] = []
    for each in (loss, other):
        traced = leaves(example)
        torch.manual_seed(0)
        value = traced.call(each)
        value.sum().backward()
        found.append([value, *(x.grad for x in traced.inputs() if x.grad is not None)])
    same = all(close(a, b, rtol=1e-7) for a, b in zip(*found, strict=True))
    demand(same, f"{tell(loss, example)}: with a chunk of 2 its value or gradient is another.")


def _largest(loss_class: type[Loss], batch: int) -> list[int]:
    """Elements of the largest tensor of every case, forward and backward, beyond what it was given."""
    sizes: list[int] = []
    for loss, example in cases(loss_class, batch=batch, dtype=torch.float32):
        traced = leaves(example)
        with Largest() as largest:
            traced.call(loss).sum().backward()
        sizes.append(largest.elements)
    return sizes
