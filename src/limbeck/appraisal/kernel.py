"""The tangent kernels of models, on training examples: their alignment with the labels, and how far training has moved them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ..data.base import Examples
from ..evaluate.kernel import alignment, class_targets, movement, tangent_kernel
from ..models.lazy import is_lazy, start_of
from ..types import labelled
from .desk import Panel


def kernels(panel: Panel, count: int) -> None:
    """Adds `kernel_alignment` to the metrics of every model; to those of lazy ones, whose beginning is known, also
    `kernel_alignment_start` and `kernel_movement`.

    The examples are the first labelled ones of those that are looked at, in the order of the recipe's seed.
    """
    session = panel.session
    device, info = session.backend.device, session.data().info
    examples, rows = _drawn(panel, count)
    batch = examples.__getitems__(rows).to(device)
    labels = cast("Tensor", batch.labels)
    targets = class_targets(labels, info.num_outputs) if session.task.labels == "class" else labels
    for name in panel.said:
        built = session.models[name]
        module = built.module.to(device)
        x = cast("Tensor", batch.shown(built.request.view).inputs)
        inputs = x if built.normalization is None else built.normalization.apply(x)
        kernel = tangent_kernel(module, inputs)
        found = panel.found[name].metrics
        found["kernel_alignment"] = alignment(kernel, targets)
        if is_lazy(module):
            start = start_of(module).tensors()
            first = tangent_kernel(module, inputs, {key: start[key] for key, _ in module.named_parameters()})
            found["kernel_alignment_start"], found["kernel_movement"] = alignment(first, targets), movement(first, kernel)


def _drawn(panel: Panel, count: int) -> tuple[Examples, list[int]]:
    """So many labelled training examples, drawn by the recipe's seed; all where there are fewer."""
    examples, rows = panel.sample
    known = torch.as_tensor(list(rows))[labelled(examples.labels)[list(rows)].flatten()]
    generator = torch.Generator().manual_seed(panel.session.seed("kernel"))
    return examples, known[torch.randperm(len(known), generator=generator)[:count]].tolist()
