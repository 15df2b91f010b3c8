"""The last hidden states of a language model and the head that reads them, so that the logits of all tokens are never held.

One way serves every architecture: the linear layer that makes the logits is given no positions while the model runs, and what it would
have read is kept. What the model does to the logits behind this layer (a scale as in Cohere and Granite, a soft cap as in Gemma, a
constant as in BART) is found once, from its configuration, and proved on inputs of that layer; a model that does anything else is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError, TapError
from ..taps.head import find_head
from ..tokens import Projection

_CONSTANT = "final_logits_bias"
"""Buffer of encoder-decoders of the BART family that is added to the logits."""
_PROBE = 48.0
"""Size of the largest logit of the proof: far beyond every soft cap in use, so that none goes unnoticed."""


@dataclass
class Caught:
    """What the head would have read."""

    states: list[Tensor] = field(default_factory=list)

    @property
    def hidden(self) -> Tensor:
        """`(batch, tokens, width)`.

        Raises:
            ModelError: where the head did not run, or more than once.
        """
        if len(self.states) != 1:
            raise ModelError(f"the layer that makes the logits ran {len(self.states)} times in one forward; once was expected.")
        return self.states[0]


@dataclass(frozen=True)
class LanguageHead:
    """How a model's last hidden states become logits."""

    layer: nn.Linear
    """Makes the logits."""
    constant: Tensor | None = None
    """Added to the logits, `(vocabulary,)`; never learns."""
    scale: float = 1.0
    cap: float | None = None

    def projection(self) -> Projection:
        """The head as the losses take it; its tensors are the model's own."""
        weight, bias = self.layer.weight, self.layer.bias
        if self.constant is not None:
            bias = self.constant if bias is None else bias + self.constant
        return Projection(weight, bias, self.scale, self.cap)

    @contextmanager
    def catching(self) -> Iterator[Caught]:
        """While it lasts, the model's forward computes no logits, and the hidden states are kept instead.

        The layer still runs, on no positions, so that taps, checkpointing and wrappers find a forward like any other.
        """
        caught = Caught()

        def catch(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            caught.states.append(args[0])
            return (args[0][..., :0, :], *args[1:])

        handle = self.layer.register_forward_pre_hook(catch)
        try:
            yield caught
        finally:
            handle.remove()


def language_head(module: nn.Module) -> LanguageHead:
    """The head of a model that predicts tokens, proved to be right; on the meta device it is not proved.

    Args:
        module: a model of transformers with a language-modelling head, or any module that is called with `input_ids` and whose last
            linear layer makes the logits. It runs once on two tokens in evaluation mode and is left as it was.

    Raises:
        ModelError: where no such layer is found, or where the logits are made from it in a way that is not known.
    """
    layer = _output_layer(module)
    constant = dict(module.named_buffers()).get(_CONSTANT)
    plain = LanguageHead(layer, None if constant is None else constant.reshape(-1))
    if layer.weight.device.type == "meta":
        return plain
    probe = _probe(layer)
    with torch.no_grad():
        logits = _logits_from(module, layer, probe)
        raw = F.linear(probe, layer.weight, plain.projection().bias).float()
    tolerance = 1e-4 if probe.dtype == torch.float32 else 2e-2
    for scale, cap in _candidates(module):
        if _equal(_finish(raw, scale, cap), logits, tolerance):
            return LanguageHead(layer, plain.constant, scale, cap)
    raise ModelError(
        f"{type(module).__name__} makes its logits from the last hidden states in a way that is not known: neither a scale nor a soft cap "
        "of its configuration explains them. Expected: cap * tanh(scale * (hidden W^T + bias) / cap)."
    )


def _output_layer(module: nn.Module) -> nn.Linear:
    """The linear layer that makes the logits."""
    import transformers

    if isinstance(module, transformers.PreTrainedModel):
        found: Any = module.get_output_embeddings()
    else:
        try:
            found = find_head(module)
        except TapError:
            found = None
    if isinstance(found, nn.Linear):
        return found
    what = "no layer" if found is None else f"a {type(found).__name__}"
    raise ModelError(
        f"{type(module).__name__} has {what} where a linear layer was expected that makes the logits of every token; is it a language "
        "model? (Adapters on the head itself are not supported.)"
    )


def _probe(layer: nn.Linear) -> Tensor:
    """Two made-up inputs of the layer, one of which leads to large logits, `(1, 2, width)`."""
    generator = torch.Generator().manual_seed(0)
    weight = layer.weight.detach()
    probe = torch.randn(1, 2, weight.shape[1], generator=generator).to(weight)
    largest = F.linear(probe, weight).float().abs().amax(2, keepdim=True).clamp(min=1e-6)
    wanted = torch.tensor([_PROBE, _PROBE / 16], device=weight.device).view(1, 2, 1)
    return (probe.float() * wanted / largest).to(weight)


def _logits_from(module: nn.Module, layer: nn.Linear, probe: Tensor) -> Tensor:
    """The logits of a model whose head reads `probe` instead of its own hidden states."""
    handle = layer.register_forward_pre_hook(lambda _, args: (probe, *args[1:]))
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        ids = torch.arange(2, device=probe.device)[None]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if _is_seq2seq(module):
            inputs["decoder_input_ids"] = ids
        output = module(**inputs)
    except Exception as error:
        raise ModelError(f"{type(module).__name__} cannot be run on two tokens: {type(error).__name__}: {error}") from error
    finally:
        handle.remove()
        for part in training:
            part.training = True
    found = output if isinstance(output, Tensor) else output["logits"] if isinstance(output, Mapping) else output[0]
    return found.float()


def _is_seq2seq(module: nn.Module) -> bool:
    import transformers

    return isinstance(module, transformers.PreTrainedModel) and bool(module.config.is_encoder_decoder)


def _candidates(module: nn.Module) -> Iterator[tuple[float, float | None]]:
    """Scales and soft caps that the configuration may mean: every number in it whose name speaks of logits or of the head."""
    import transformers

    numbers: list[float] = []
    if isinstance(module, transformers.PreTrainedModel):
        settings = module.config.get_text_config(decoder=True).to_dict()
        said = {name: value for name, value in settings.items() if "logit" in name or "lm_head" in name}
        numbers = [float(v) for v in said.values() if isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0]
    scales = [1.0, *numbers, *(1 / number for number in numbers)]
    yield from product(scales, [None, *numbers])


def _finish(raw: Tensor, scale: float, cap: float | None) -> Tensor:
    scaled = raw * scale
    return scaled if cap is None else cap * torch.tanh(scaled / cap)


def _equal(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * b.abs().max()).all())
