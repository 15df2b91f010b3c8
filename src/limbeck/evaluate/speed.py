"""How fast a model answers batches of some size: latency percentiles, throughput, peak memory, energy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .cost import undisturbed
from .energy import Meter
from .memory import Held

LEAST, MOST = 10, 100
"""Timed forwards of a batch size."""
SECONDS = 2.0
"""After so long no more than the least are timed."""


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of the others lie, interpolated linearly between two, as numpy's default."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def speed(module: nn.Module, forward: Callable[[], Any], batch: int, device: torch.device, meter: Meter) -> dict[str, Any]:
    """What a forward of a batch costs; the model is not changed.

    Args:
        module: the model.
        forward: runs it on a batch.
        batch: examples in it.
        device: where it runs.
        meter: of energy.

    Returns:
        `latency_ms` with `p50`, `p90` and `p99` of a batch, `throughput` (examples a second), `peak_bytes` (most bytes that tensors take,
        the weights among them) and `energy_j` (joules an example, those of the whole platform while it runs; None where nobody counts).
    """

    def once() -> float:
        start = time.perf_counter()
        forward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 1000 * (time.perf_counter() - start)

    with undisturbed(module):
        once()
        peak = _peak(module, once, device)
        once()
        times: list[float] = []
        before, began = meter.read(), time.perf_counter()
        while len(times) < LEAST or (len(times) < MOST and time.perf_counter() - began < SECONDS):
            times.append(once())
        spent = meter.spent(before)
    return {
        "latency_ms": {name: percentile(times, share) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))},
        "throughput": 1000 * batch * len(times) / sum(times),
        "peak_bytes": peak,
        "energy_j": None if spent is None else spent / (batch * len(times)),
    }


def _peak(module: nn.Module, once: Callable[[], Any], device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        once()
        return torch.cuda.max_memory_allocated(device)
    with Held([*module.parameters(), *module.buffers()]) as held:
        once()
    return held.most
