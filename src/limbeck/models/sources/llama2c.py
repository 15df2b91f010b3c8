"""`llama2c:FILE`: models in the format of llama2.c (version 0), as models of transformers.

The file is a header of seven int32 (width, units of the feed-forward layers, layers, heads, heads of keys and values, vocabulary, longest
text; a negative vocabulary says that the head is not the embedding) and then float32 tensors. Its rotary positions turn neighbouring
pairs of channels, those of transformers one half of a head against the other, so the rows of queries and keys are put into that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import MissingDependency, ModelError
from ...types import DataInfo
from ..arguments import unknown_argument
from ..base import ModelRequest, Normalization

_HEADER = 7


@dataclass(frozen=True)
class Header:
    """What the file says of the model."""

    width: int
    units: int
    layers: int
    heads: int
    groups: int
    vocabulary: int
    longest: int

    @property
    def tied(self) -> bool:
        """Whether the head is the embedding."""
        return self.vocabulary > 0

    @property
    def floats(self) -> int:
        """How many numbers follow the header."""
        d, v, keys = self.width, abs(self.vocabulary), self.width // self.heads * self.groups
        layer = 2 * d + 2 * d * d + 2 * keys * d + 3 * d * self.units
        return v * d + self.layers * layer + d + self.longest * (d // self.heads) + (0 if self.tied else v * d)


def build(name: str, request: ModelRequest, info: DataInfo, *, load: bool) -> tuple[nn.Module, Normalization | None]:
    """A Llama of transformers; with the weights of the file where `weights: pretrained` asks for them, else random."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        raise MissingDependency("transformers", "text", request.model) from error
    if info.language != "causal_lm":
        raise ModelError(f"{request.model} is a language model that predicts the next token, for task causal_lm.")
    header, values = read(Path(name).expanduser(), request.model)
    config: Any = LlamaConfig(
        vocab_size=abs(header.vocabulary),
        hidden_size=header.width,
        intermediate_size=header.units,
        num_hidden_layers=header.layers,
        num_attention_heads=header.heads,
        num_key_value_heads=header.groups,
        max_position_embeddings=header.longest,
        rms_norm_eps=1e-5,
        tie_word_embeddings=header.tied,
        bos_token_id=1,
        eos_token_id=2,
        use_cache=False,
    )
    known = config.to_dict()
    for key, value in request.args.items():
        if key not in known:
            raise unknown_argument(request.model, key, sorted(known))
        setattr(config, key, value)
    module = LlamaForCausalLM(config)
    if request.weights == "pretrained" and load:
        if request.args:
            raise ModelError(f"{request.model}: args change the size of the model, so the weights of the file do not fit; use shrink.")
        module.load_state_dict(state_dict(header, values))
    return module.train(), None


def read(path: Path, reference: str) -> tuple[Header, Tensor]:
    """The header and all numbers behind it.

    Raises:
        ModelError: where the file is no model of this format.
    """
    if not path.is_file():
        raise ModelError(f"{reference}: there is no such file (looked for {path.absolute()}).")
    numbers = np.fromfile(path, dtype="<i4", count=_HEADER).tolist()
    size = (path.stat().st_size - 4 * _HEADER) / 4
    sound = len(numbers) == _HEADER and all(0 < n < 2**24 for n in (*numbers[:5], abs(numbers[5]), numbers[6]))
    if not sound or numbers[0] % numbers[3] or Header(*numbers).floats != size:
        raise ModelError(f"{reference} is no model of llama2.c (version 0): its header does not fit the size of the file.")
    return Header(*numbers), torch.from_numpy(np.fromfile(path, dtype="<f4", offset=4 * _HEADER))


def state_dict(header: Header, values: Tensor) -> dict[str, Tensor]:
    """The tensors under the names of transformers."""
    d, n, keys = header.width, header.layers, header.width // header.heads * header.groups
    place = 0

    def take(*shape: int) -> Tensor:
        nonlocal place
        size = int(np.prod(shape))
        place += size
        return values[place - size : place].view(shape)

    embedding = take(abs(header.vocabulary), d)
    order = {
        "input_layernorm": (n, d),
        "self_attn.q_proj": (n, d, d),
        "self_attn.k_proj": (n, keys, d),
        "self_attn.v_proj": (n, keys, d),
        "self_attn.o_proj": (n, d, d),
        "post_attention_layernorm": (n, d),
        "mlp.gate_proj": (n, header.units, d),
        "mlp.down_proj": (n, d, header.units),
        "mlp.up_proj": (n, header.units, d),
    }
    parts = {name: take(*shape) for name, shape in order.items()}
    for name, heads in (("self_attn.q_proj", header.heads), ("self_attn.k_proj", header.groups)):
        parts[name] = _halves(parts[name], heads)
    state = {f"model.layers.{i}.{name}.weight": part[i] for name, part in parts.items() for i in range(n)}
    norm = take(d)
    take(header.longest, d // header.heads)  # tables of the rotary positions, which follow from the sizes
    head = embedding if header.tied else take(abs(header.vocabulary), d)
    return {**state, "model.embed_tokens.weight": embedding, "model.norm.weight": norm, "lm_head.weight": head}


def _halves(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head from neighbouring pairs into two halves."""
    layers, rows, width = weight.shape
    return weight.view(layers, heads, rows // heads // 2, 2, width).transpose(2, 3).reshape(layers, rows, width)
