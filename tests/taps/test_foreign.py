"""Taps on models of other libraries and inside distributed wrappers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.language_models import tiny
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from limbeck.errors import TapError
from limbeck.taps.suggest import suggest_taps
from limbeck.taps.tapped import Tapped


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Learner(nn.Module):
    """A student that is tapped from inside the wrapped module, as the engine does."""

    def __init__(self, student: nn.Module, stop_early: bool) -> None:
        super().__init__()
        self.student = student
        self.tapped = Tapped(student, ["0", "1"], stop_early=stop_early)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.tapped(x)[1]


def layers() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 2))


@pytest.mark.parametrize("stop_early", [True, False])
def test_inside_ddp(group: None, stop_early: bool) -> None:
    torch.manual_seed(1)
    plain = Learner(layers(), stop_early)
    wrapped = DistributedDataParallel(copy.deepcopy(plain), find_unused_parameters=True)
    for _ in range(3):
        x = torch.randn(5, 3)
        for model in (plain, wrapped):
            model.zero_grad()
            sum(v.square().sum() for v in model(x).values()).backward()
        for p, q in zip(plain.parameters(), wrapped.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)


def test_around_ddp(group: None) -> None:
    model = layers().eval()
    tapped = Tapped(DistributedDataParallel(model), ["module.1"], stop_early=True)
    with torch.no_grad():
        for _ in range(3):
            x = torch.randn(5, 3)
            out, got = tapped(x)
            assert out is None
            torch.testing.assert_close(got["module.1"], model[1](model[0](x)))


def test_timm_vision_transformer() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3, num_classes=4)
    taps = ["blocks.0", "blocks.2.attn:input", "blocks.1.mlp.act", "norm", "head"]
    tapped = Tapped(model, taps)
    for _ in range(2):
        out, got = tapped(torch.randn(2, 3, 32, 32))
    assert list(got) == taps
    assert got["blocks.0"].shape == (2, 5, 192)
    torch.testing.assert_close(got["head"], out)
    with pytest.raises(TapError, match=r"Did you mean 'blocks\.0"):
        Tapped(model, ["block.0"])
    assert "blocks" in suggest_taps(model)


def test_bert() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, vocab_size=50, num_labels=3
    )
    model = transformers.BertForSequenceClassification(config).eval()
    inputs = {"input_ids": torch.randint(0, 50, (2, 7)), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    taps = ["bert.encoder.layer.1.attention:output.0", ".:output.logits", "bert:output.pooler_output", "bert.encoder.layer.2.output:input"]
    for stop_early in (False, True):
        tapped = Tapped(model, taps, stop_early=stop_early)
        for _ in range(2):
            out, got = tapped(**inputs)
        tapped.close()
        assert (out is None) is stop_early
        torch.testing.assert_close(got[".:output.logits"], model(**inputs).logits)
        assert got["bert.encoder.layer.1.attention:output.0"].shape == (2, 7, 16)
    with pytest.raises(TapError, match=r"Write one of \.:output\.logits"):
        Tapped(model, ["."])(**inputs)
    hidden = Tapped(model, [".:output.hidden_states.1", "bert.embeddings"])
    _, got = hidden(**inputs, output_hidden_states=True)
    assert got[".:output.hidden_states.1"].shape == got["bert.embeddings"].shape


@pytest.mark.parametrize("kind", ["bert", "distilbert", "llama"])
def test_suggested_layers_of_texts_give_tensors(kind: str) -> None:
    """Not the encoder as a whole, whose output is a record."""
    transformers = pytest.importorskip("transformers")
    config = tiny(kind).config
    config.num_labels = 3
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    taps = suggest_taps(model)
    assert sum(".layer" in tap and tap[-1].isdigit() for tap in taps) == 2  # of two layers
    _, got = Tapped(model, taps)(input_ids=torch.randint(3, 50, (2, 7)), attention_mask=torch.ones(2, 7, dtype=torch.long))
    assert list(got) == taps
