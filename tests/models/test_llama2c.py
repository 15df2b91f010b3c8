"""Models of llama2.c: the text that the reference writes, names and order of the tensors, files that are none."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.errors import ModelError
from limbeck.models.base import ModelRequest
from limbeck.models.build import build_model
from limbeck.models.shrink import Shrink
from limbeck.types import DataInfo

transformers = pytest.importorskip("transformers")
INFO = DataInfo("text", "token", 11, (8,), language="causal_lm")
SIZES = (8, 12, 2, 4, 2, 11, 16)


def write(path: Path, *, tied: bool = True) -> torch.Tensor:
    """A random file; its numbers."""
    d, units, layers, heads, groups, vocabulary, longest = SIZES
    keys = d // heads * groups
    count = vocabulary * d + layers * (2 * d + 2 * d * d + 2 * keys * d + 3 * d * units) + d + longest * d // heads
    values = torch.randn(count + (0 if tied else vocabulary * d), generator=torch.Generator().manual_seed(0))
    path.write_bytes(struct.pack("<7i", *SIZES[:5], vocabulary if tied else -vocabulary, longest) + values.numpy().tobytes())
    return values


def built(path: Path, **changes: Any) -> Any:
    """The module of a file."""
    return build_model(ModelRequest(f"llama2c:{path}", **{"weights": "pretrained", **changes}), INFO).module


def test_stories(shared: Path):
    folder = shared / "stories260k"
    module = built(folder / "stories260K.bin").eval()
    data = (folder / "tok512.bin").read_bytes()
    tokens, place = [], 4
    while place < len(data):
        length = struct.unpack_from("<i", data, place + 4)[0]
        tokens.append(data[place + 8 : place + 8 + length])
        place += 8 + length
    ids = torch.tensor([[1]])
    with torch.no_grad():
        for _ in range(40):
            ids = torch.cat([ids, module(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    text = b"".join(tokens[i] for i in ids[0, 1:].tolist()).decode()
    assert text.startswith(" Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day,")


def test_names_and_order(tmp_path: Path):
    values = write(tmp_path / "m.bin")
    module = built(tmp_path / "m.bin")
    assert module.training
    assert not module.config.use_cache
    own = module.model
    assert torch.equal(own.embed_tokens.weight.flatten(), values[:88])
    assert torch.equal(own.layers[1].input_layernorm.weight, values[96:104])
    start = 88 + 2 * 8
    rows = values[start : start + 64].view(8, 8)  # of the first layer's queries: heads of two channels stay in order
    assert torch.equal(own.layers[0].self_attn.q_proj.weight, rows)
    assert module.lm_head.weight is own.embed_tokens.weight
    assert own.layers[0].self_attn.k_proj.weight.shape == (4, 8)
    assert len(module._forward_pre_hooks) == 1


def test_a_head_of_its_own(tmp_path: Path):
    values = write(tmp_path / "m.bin", tied=False)
    module = built(tmp_path / "m.bin")
    assert torch.equal(module.lm_head.weight.flatten(), values[-88:])
    assert torch.equal(module.model.embed_tokens.weight.flatten(), values[:88])


def test_random_weights_of_the_same_size_and_of_another(tmp_path: Path):
    values = write(tmp_path / "m.bin")
    assert not torch.equal(built(tmp_path / "m.bin", weights=None).model.embed_tokens.weight.flatten(), values[:88])
    assert len(built(tmp_path / "m.bin", weights=None, args={"num_hidden_layers": 1}).model.layers) == 1
    assert len(built(tmp_path / "m.bin", shrink=Shrink("first")).model.layers) == 1


def test_files_that_are_none(tmp_path: Path):
    path = tmp_path / "m.bin"
    with pytest.raises(ModelError, match="there is no such file"):
        built(path)
    for content in (b"", b"short", struct.pack("<7i", *SIZES), struct.pack("<7i", 8, 12, 2, 0, 2, 11, 16) + b"0" * 400):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"is no model of llama2\.c \(version 0\): its header does not fit the size of the file"):
            built(path)
    write(path)
    with pytest.raises(ModelError, match="args change the size of the model, so the weights of the file do not fit; use shrink"):
        built(path, args={"num_hidden_layers": 1})
    with pytest.raises(ModelError, match="has no argument 'layers'"):
        built(path, weights=None, args={"layers": 1})
    with pytest.raises(ModelError, match="is a language model that predicts the next token, for task causal_lm"):
        build_model(ModelRequest(f"llama2c:{path}"), DataInfo("text", "class", 2, (8,)))
