"""Runs Limbeck on stored cases and compares every output and gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...errors import LimbeckError
from .case import Adapter, Case, find_adapters, read_case


@dataclass(frozen=True)
class Verdict:
    """What became of a case."""

    method: str
    case: str
    verdict: Literal["pass", "differs", "missing"]
    error: float | None
    """Largest relative difference over all outputs, in units where 1 is the whole value; None where nothing could be compared."""
    note: str = ""
    """The output that differs, or why nothing could be compared."""


def run(folder: Path) -> Iterator[Verdict]:
    """Compares every case below `folder`, in the order of their names.

    Raises:
        LimbeckError: where there is no case, or one cannot be read.
    """
    paths = sorted(folder.rglob("*.json"))
    if not paths:
        raise LimbeckError(f"{folder}: expected golden cases (METHOD/CASE.json with METHOD/CASE.npz), found none.")
    adapters = find_adapters()
    for path in paths:
        case = read_case(path)
        found = adapters.get(case.method)
        yield compare(case, found) if found else Verdict(case.method, case.name, "missing", None, "no adapter has this name")


def compare(case: Case, adapter: Adapter) -> Verdict:
    """Runs ours on one case."""
    try:
        given = adapter(case)
        outputs = {"loss": given} if isinstance(given, Tensor) else dict(given)
        outputs |= _gradients(case, outputs.get("loss"))
    except Exception as error:  # an implementation that fails is a finding, and the other cases are to be compared all the same
        return Verdict(case.method, case.name, "differs", None, f"{type(error).__name__}: {error}")
    absent = sorted(case.expected.keys() - outputs.keys())
    if absent:
        return Verdict(case.method, case.name, "differs", None, f"ours gives no {', '.join(absent)}")
    worst, note = 0.0, ""
    for name, expected in case.expected.items():
        error = _difference(outputs[name].detach(), expected, case)
        if error is None or not _agree(outputs[name].detach(), expected, case):
            note = note or f"{name} differs"
        worst = max(worst, math.inf if error is None else error)
    return Verdict(case.method, case.name, "differs" if note else "pass", worst, note)


def _gradients(case: Case, loss: Tensor | None) -> dict[str, Tensor]:
    wanted = [name.removeprefix("grad_") for name in case.expected if name.startswith("grad_")]
    if loss is None or not wanted:
        return {}
    leaves = [case.parameters.get(name, case.inputs[name]) for name in wanted]
    traced = [leaf for leaf in leaves if leaf.requires_grad]
    found = torch.autograd.grad(loss, traced, allow_unused=True) if loss.requires_grad else [None] * len(traced)
    by_leaf = {id(leaf): value for leaf, value in zip(traced, found, strict=True)}
    gradients: dict[str, Tensor] = {}
    for name, leaf in zip(wanted, leaves, strict=True):
        value = by_leaf.get(id(leaf))
        gradients[f"grad_{name}"] = torch.zeros_like(leaf) if value is None else value
    return gradients


def _agree(ours: Tensor, expected: Tensor, case: Case) -> bool:
    ours = ours.reshape(expected.shape)
    return torch.allclose(ours.to(expected.dtype), expected, rtol=case.rtol, atol=case.atol, equal_nan=True)


def _difference(ours: Tensor, expected: Tensor, case: Case) -> float | None:
    """Largest difference relative to the expected value; values of the size of the absolute tolerance count as that size."""
    if ours.numel() != expected.numel():
        return None
    a, b = ours.reshape(expected.shape).double(), expected.double()
    same = (a == b) | (a.isnan() & b.isnan())
    gap = torch.where(same, torch.zeros_like(a), (a - b).abs() / b.abs().clamp_min(case.atol / case.rtol if case.rtol else case.atol))
    return float(gap.nan_to_num(math.inf, posinf=math.inf).max()) if gap.numel() else 0.0
