"""Lazy models: values and gradients by hand, what they keep, how they are loaded, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from limbeck.errors import ModelError
from limbeck.evaluate.kernel import tangent_kernel
from limbeck.models.base import ModelRequest
from limbeck.models.build import build_model
from limbeck.models.checkpoints import save_weights
from limbeck.models.lazy import begin_lazy, is_lazy, make_lazy, start_of
from limbeck.models.lora import Lora
from limbeck.models.scaling import Sources
from limbeck.taps.head import find_head
from limbeck.types import DataInfo

IMAGES = DataInfo("image", "class", 3, (1, 8, 8))


def built(lazy: float | None = None, model: str = "convnet", load: bool = True, **changes: Any) -> nn.Module:
    """A small model, the same at every call."""
    torch.manual_seed(0)
    args = {"channels": [4, 4]} if model == "convnet" else {"hidden": [5]}
    return build_model(ModelRequest(**{"model": model, "args": args, "lazy": lazy, **changes}), IMAGES, load=load).module


def images(count: int = 6) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def moved(module: nn.Module) -> nn.Module:
    """The model with every parameter a little elsewhere."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)
    return module


@pytest.mark.parametrize("training", [True, False])
def test_the_output_is_zero_at_first(training: bool):
    module = built(8.0).train(training)
    assert module(images()).shape == (6, 3)
    assert not module(images()).any()
    assert not module(images()).any()


def test_value_by_hand():
    plain, lazy = built().eval(), built(8.0).eval()
    first = plain(images())
    state: dict[str, Tensor] = dict(moved(lazy).named_parameters())
    torch.testing.assert_close(lazy(images()), 8 * (functional_call(plain, state, (images(),)) - first))
    assert lazy(images()).abs().max() > 0.1


def test_gradient_and_kernel_by_hand():
    plain, lazy = built(model="mlp"), built(8.0, "mlp")
    for module in (plain, lazy):
        module(images()).sum().backward()
    for (name, own), (other, value) in zip(lazy.named_parameters(), plain.named_parameters(), strict=True):
        assert name == other
        assert own.grad is not None
        assert value.grad is not None
        torch.testing.assert_close(own.grad, 8 * value.grad)
    assert all(value.grad is None and not value.requires_grad for value in lazy.buffers())
    torch.testing.assert_close(tangent_kernel(lazy, images()), 64 * tangent_kernel(plain, images()))


def test_it_is_the_same_model_to_those_who_look_at_it():
    plain, lazy = built(), built(2.0)
    assert [name for name, _ in lazy.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert set(dict(lazy.named_modules())) - set(dict(plain.named_modules())) == {"lazy_start"}
    assert find_head(lazy) is lazy.get_submodule("head")
    assert is_lazy(lazy)
    assert not is_lazy(plain)
    torch.testing.assert_close(dict(lazy.named_parameters()), dict(plain.named_parameters()))


def test_running_statistics_follow_those_of_the_model():
    lazy = built(2.0)
    norm, start = dict(lazy.named_buffers()), start_of(lazy).tensors()
    name = next(key for key in start if key.endswith("running_mean"))
    assert not start[name].any()
    lazy(images())
    assert start_of(lazy).tensors()[name].any()
    torch.testing.assert_close(start_of(lazy).tensors()[name], norm[name])
    lazy.eval()(2 * images())
    torch.testing.assert_close(start_of(lazy).tensors()[name], norm[name])


def test_a_copy_is_a_model_of_its_own():
    lazy = built(2.0).eval()
    other = copy.deepcopy(lazy)
    moved(other)
    assert not lazy(images()).any()
    assert other(images()).any()
    assert start_of(other) is not start_of(lazy)


class Tied(nn.Module):
    """Two layers with one weight, and a mask that is no part of the state."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("mask", torch.tensor([1.0, 0.0, 1.0]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x) * self.get_buffer("mask"))


def test_tied_weights_and_buffers_that_are_not_kept():
    torch.manual_seed(0)
    lazy, plain = Tied(), Tied()
    make_lazy(lazy, 3.0, "code:tied")
    x = torch.ones(2, 3)
    assert not lazy(x).any()
    begin_lazy(lazy, plain.state_dict(), "the model 'teacher'", alpha=3, other=None)
    assert not lazy(x).any()
    torch.testing.assert_close(lazy.first.weight, plain.first.weight)
    first = plain(x)
    with torch.no_grad():
        lazy.first.weight += 1
        plain.first.weight += 1
    torch.testing.assert_close(lazy(x), 3 * (plain(x) - first))


def test_weights_with_and_without_a_beginning(tmp_path: Path):
    plain, lazy = moved(built()), moved(built(8.0)).eval()
    save_weights(plain, tmp_path / "plain.safetensors")
    save_weights(lazy, tmp_path / "lazy.safetensors")
    begun = built(8.0, weights=str(tmp_path / "plain.safetensors")).eval()
    assert not begun(images()).any()
    torch.testing.assert_close(dict(begun.named_parameters()), dict(plain.named_parameters()))
    again = built(8.0, weights=str(tmp_path / "lazy.safetensors")).eval()
    assert torch.equal(again(images()), lazy(images()))
    with pytest.raises(ModelError, match=r"lazy.safetensors: these are the weights of a lazy model; give convnet its factor: lazy: 8\.$"):
        built(4.0, weights=str(tmp_path / "lazy.safetensors"))
    with pytest.raises(ModelError, match="give convnet its factor: lazy: 8"):
        built(weights=str(tmp_path / "lazy.safetensors"))


def test_beginning_as_another_model():
    plain, lazy = moved(built()).eval(), moved(built(8.0)).eval()
    learner = moved(built(8.0)).eval()
    begin_lazy(learner, plain.state_dict(), "the model 'teacher'", alpha=8, other=None)
    assert not learner(images()).any()
    torch.testing.assert_close(dict(learner.named_parameters()), dict(plain.named_parameters()))
    begin_lazy(learner, lazy.state_dict(), "the model 'teacher'", alpha=8, other=8)
    assert torch.equal(learner(images()), lazy(images()))
    with pytest.raises(ModelError, match="the model 'teacher' is lazy by another factor: expected lazy: 2, as of the learner, found 8"):
        begin_lazy(built(2.0), lazy.state_dict(), "the model 'teacher'", alpha=2, other=8)
    with pytest.raises(ModelError, match="the weights in the model 'teacher' do not fit ConvNet"):
        begin_lazy(learner, built(model="mlp").state_dict(), "the model 'teacher'", alpha=8, other=None)


def test_on_the_meta_device():
    with torch.device("meta"):
        module = built(8.0, load=False)
        assert module(torch.empty(2, 1, 8, 8)).shape == (2, 3)


def test_what_cannot_be_lazy():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.layer(x), x

    module = Pair()
    make_lazy(module, 2.0, "code:pair")
    with pytest.raises(ModelError, match="Pair gives a tuple; lazy is for models that give one tensor"):
        module(torch.ones(1, 1))
    with pytest.raises(ModelError, match="code:nothing has no parameters, so it cannot be lazy"):
        make_lazy(nn.Identity(), 2.0, "code:nothing")
    with pytest.raises(ModelError, match="code:chain is a Sequential, which would run its own beginning as one more layer"):
        make_lazy(nn.Sequential(nn.Linear(1, 1)), 2.0, "code:chain")
    sources = Sources(("a", "b"))
    with pytest.raises(ModelError, match="convnet: lazy is for models whose own weights learn; leave out sources, or lazy"):
        built(2.0, sources=sources)
    with pytest.raises(ModelError, match="leave out lora, or lazy"):
        built(2.0, lora=Lora())
    text = DataInfo("text", "class", 2, (16,))
    args = {"vocab_size": 31, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    with pytest.raises(ModelError, match="hf:bert: lazy is for models of images and tables"):
        build_model(ModelRequest("hf:bert", args=args, lazy=2.0), text)
