"""What models cost in full: latency percentiles, throughput, memory and energy for batches of several sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..evaluate.energy import meter
from ..evaluate.speed import speed
from .desk import Panel


def costs(panel: Panel) -> None:
    """Adds `batches`, a measurement for each size, and `energy_source` to the cost of every model."""
    session, wish = panel.session, panel.wish
    device = session.backend.device
    counter = meter(device)
    for name in panel.said:
        built = session.models[name]
        module = built.module.to(device)
        info = session.data().info.shown(built.request.view)
        measured: dict[str, Any] = {}
        for size in dict.fromkeys(wish.cost):
            inputs = session.task.example(info, batch=size, device=str(device)).inputs

            def forward(inputs: Any = inputs, module: Any = module) -> Any:
                return module(**inputs) if isinstance(inputs, Mapping) else module(inputs)

            measured[str(size)] = speed(module, forward, size, device, counter)
        largest = measured[str(max(wish.cost))]
        cost = panel.found[name].cost
        cost |= {"batches": measured, "energy_source": counter.source, "energy_reason": counter.reason}
        cost |= {key: largest[key] for key in ("throughput", "peak_bytes", "energy_j")}
        cost["latency_p99_ms"] = measured[str(min(wish.cost))]["latency_ms"]["p99"]
