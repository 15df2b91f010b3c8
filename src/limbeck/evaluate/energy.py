"""Energy that a platform reports: NVML for NVIDIA GPUs, RAPL for processors; nothing where neither can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Meter:
    """A counter of energy.

    Attributes:
        source: who counts; None where nobody does.
        reason: why nobody does.
        read: joules so far.
        span: joules after which the counter begins anew; 0 where it never does.
    """

    source: str | None
    reason: str | None
    read: Callable[[], float]
    span: float = 0.0

    def spent(self, before: float) -> float | None:
        """Joules since `before`, an earlier reading; None where nobody counts."""
        if self.source is None:
            return None
        used = self.read() - before
        return used + self.span if used < 0 else used


def meter(device: torch.device, folder: Path = POWERCAP) -> Meter:
    """The counter for a device.

    Args:
        device: where the model runs.
        folder: where the kernel shows RAPL.
    """
    return _nvml(device) if device.type == "cuda" else _rapl(folder)


def _none(reason: str) -> Meter:
    return Meter(None, reason, lambda: 0.0)


def _rapl(folder: Path) -> Meter:
    """The counters of all processor packages together."""
    packages = sorted(path for path in folder.glob("intel-rapl:*") if path.name.count(":") == 1) if folder.is_dir() else []
    if not packages:
        return _none(f"no RAPL counter in {folder}")
    try:
        spans = [int((path / "max_energy_range_uj").read_text()) for path in packages]
        counters = [path / "energy_uj" for path in packages]
        for counter in counters:
            int(counter.read_text())
    except (OSError, ValueError) as error:
        return _none(f"RAPL cannot be read: {error}")
    # Which of several counters begins anew is not known from their sum; each has the same span.
    return Meter("RAPL", None, lambda: sum(int(counter.read_text()) for counter in counters) / 1e6, spans[0] / 1e6)


def _nvml(device: torch.device) -> Meter:
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return _none("pynvml (nvidia-ml-py) is not installed")
    try:
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (pynvml.NVMLError, AttributeError) as error:
        return _none(f"NVML cannot be read: {error}")
    return Meter("NVML", None, lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000)
