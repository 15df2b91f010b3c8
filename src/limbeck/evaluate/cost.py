"""What a model costs: parameters, FLOPs, size, latency. Measuring changes nothing in the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

REPEATS, WARMUP = 30, 5
"""Timed forwards of a latency, and those before them."""


def model_cost(
    module: nn.Module, inputs: Any, *, latency: bool = True, repeats: int = REPEATS, warmup: int = WARMUP
) -> dict[str, float | None]:
    """Cost of one prediction.

    Args:
        module: any model, on any device; on the meta device nothing is computed and the latency is None.
        inputs: one example with its batch dimension, as the model takes it: a tensor, or a mapping passed by name.
        latency: whether to measure the time.
        repeats: timed forwards; the median is given.
        warmup: forwards before them.

    Returns:
        `parameters` (shared ones once), `flops` (two a multiply-add, of matrix products and convolutions), `bytes`
        (parameters and buffers with floats as float32) and `latency_ms` (with torch's threads as they are set).
    """
    example = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
    meta = example.device.type == "meta"

    def forward() -> Any:
        return module(**inputs) if isinstance(inputs, Mapping) else module(inputs)

    with undisturbed(module):
        return {
            "parameters": count_parameters(module),
            "flops": _flops(forward),
            "bytes": size_bytes(module),
            "latency_ms": _latency(forward, example.device, repeats, warmup) if latency and not meta else None,
        }


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def size_bytes(module: nn.Module) -> int:
    """Bytes of parameters and saved buffers, floats as float32."""
    tensors = {id(tensor): tensor for tensor in [*module.parameters(), *_saved_buffers(module)]}
    return sum(t.numel() * (4 if t.is_floating_point() else t.element_size()) for t in tensors.values())


def count_flops(module: nn.Module, inputs: Any) -> int:
    """FLOPs of one forward in evaluation mode: two a multiply-add, of matrix products, convolutions and attention."""
    with undisturbed(module):
        return _flops(lambda: module(**inputs) if isinstance(inputs, Mapping) else module(inputs))


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode of every part and the global random state are restored."""
    modes = [(part, part.training) for part in module.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    module.eval()
    # The fused fast path of encoder layers is one operation that no counter knows.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for part, training in modes:
            part.training = training


def _flops(forward: Callable[[], Any]) -> int:
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:  # as plain matrix products, which are counted on every device
        forward()
    return counter.get_total_flops()


def _latency(forward: Callable[[], Any], device: torch.device, repeats: int, warmup: int) -> float:
    def once() -> float:
        start = time.perf_counter()
        forward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) * 1000

    for _ in range(warmup):
        once()
    return median(once() for _ in range(max(repeats, 1)))


def _saved_buffers(module: nn.Module) -> list[Tensor]:
    saved = module.state_dict(keep_vars=True)
    return [buffer for name, buffer in module.named_buffers() if name in saved]
