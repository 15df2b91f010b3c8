"""Checks of precision, copies and compilation."""

from __future__ import annotations

import copy
import pickle

import torch

from ..losses.base import Loss
from .behaviour import cases, close, leaves, rebuild, tell
from .examples import Example
from .failure import ContractError, demand


def check_precision(loss_class: type[Loss]) -> None:
    """bfloat16 and float16 signals give what float32 gives; magnitudes of 30 and of 10,000 stay finite."""
    for dtype in (torch.bfloat16, torch.float16):
        for scale in (1.0, 30.0):
            for loss, example in cases(loss_class, dtype=dtype, scale=scale):
                _check_finite(loss, example, f"{dtype} at magnitude {scale:g}")
                value, exact = example.call(loss), example.map(torch.Tensor.float).call(loss)
                text = (
                    f"{tell(loss, example)}: {dtype} at magnitude {scale:g} departs from float32; widen the signals (ops.precision.widen)."
                )
                demand(close(value, exact, rtol=1e-3, atol=1e-5), text)
    for loss, example in cases(loss_class, dtype=torch.float32, scale=1e4):
        _check_finite(loss, example, "float32 at magnitude 10000")


def _check_finite(loss: Loss, example: Example, where: str) -> None:
    example = leaves(example)
    value = example.call(loss)
    demand(value.isfinite().all(), f"{tell(loss, example)}: not finite in {where}.")
    value.sum().backward()
    finite = all(x.grad is not None and x.grad.isfinite().all() for x in example.inputs())
    demand(finite, f"{tell(loss, example)}: the gradient is not finite in {where}.")


def check_gradcheck(loss_class: type[Loss]) -> None:
    """The gradient agrees with finite differences in float64."""
    for loss, example in cases(loss_class, batch=3):
        inputs = tuple(leaves(example).inputs())

        def function(*values: torch.Tensor, loss: Loss = loss, example: Example = example) -> torch.Tensor:
            given = iter(values)
            return example.map(lambda _: next(given), teacher=False).call(loss)

        try:
            torch.autograd.gradcheck(function, inputs, fast_mode=False)
        except RuntimeError as error:
            raise ContractError(f"{tell(loss, example)}: gradient and finite differences disagree: {error}") from error


def check_copies(loss_class: type[Loss]) -> None:
    """deepcopy, pickle and a state_dict round trip keep fields and value."""
    for loss, example in cases(loss_class):
        value = example.call(loss)
        restored = rebuild(loss)
        restored.allocate(6)
        restored.setup(example.student, example.teacher)
        restored.double().load_state_dict(loss.state_dict())
        copies = {"copy.deepcopy": copy.deepcopy(loss), "pickle": pickle.loads(pickle.dumps(loss)), "state_dict": restored}  # noqa: S301
        for how, twin in copies.items():
            demand(repr(twin) == repr(loss), f"{tell(loss, example)}: {how} changes the fields.")
            demand(torch.equal(example.call(twin), value), f"{tell(loss, example)}: {how} changes the value.")


def check_compile(loss_class: type[Loss], backend: str = "inductor") -> None:
    """torch.compile with inductor and fullgraph gives the value and the gradient of eager."""
    seen: set[str] = set()
    for loss, example in cases(loss_class, dtype=torch.float32):
        if repr(loss) in seen:  # one form of each choice: compiling is slow
            continue
        seen.add(repr(loss))
        eager, compiled = leaves(example), leaves(example)
        torch.compiler.reset()
        try:
            value = compiled.call(torch.compile(loss, fullgraph=True, backend=backend))  # pyright: ignore[reportArgumentType]
            value.sum().backward()
        except Exception as error:
            raise ContractError(f"{tell(loss, example)}: torch.compile(fullgraph=True) fails: {error}") from error
        expected = eager.call(loss)
        expected.sum().backward()
        demand(close(value, expected, rtol=1e-4, atol=1e-5), f"{tell(loss, example)}: compiled and eager values differ.")
        for a, b in zip(compiled.inputs(), eager.inputs(), strict=True):
            same = a.grad is not None and b.grad is not None and close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
            demand(same, f"{tell(loss, example)}: compiled and eager gradients differ.")
