"""What stands around the body of a model of transformers."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..taps.head import find_head


def around_body(module: Any) -> set[nn.Module]:
    """What stands behind the body that all models of a kind share: the layer of the logits, and what leads to it."""
    body, output = module.base_model, module.get_output_embeddings()
    around = [] if body is module else [part for part in module.children() if not any(inner is body for inner in part.modules())]
    if not around and output is None:
        around = [find_head(module)]
    return {layer for part in around for layer in part.modules()} | ({output} if output is not None else set())
