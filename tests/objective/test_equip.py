"""What a model is asked beyond logits and layers: its classifier, indices, masks, rotated views."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ShapeMismatch, SignalMissing, TapError
from limbeck.models.builtin.convnet import ConvNet
from limbeck.models.builtin.resnet import ResNet
from limbeck.objective.equip import Asked, equip
from limbeck.taps.tapped import Tapped
from limbeck.types import Batch, Signals


def call(model: Any, batch: Batch) -> Signals:
    output = model(batch.inputs)
    return Signals(*output) if isinstance(output, tuple) else Signals(output)


def batch(count: int = 4, size: tuple[int, int] = (8, 8), **extra: Any) -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(count, 1, *size, generator=generator)
    return Batch(inputs, torch.arange(count) % 3, torch.arange(100, 100 + count), extra)


def convnet() -> nn.Module:
    return ConvNet(num_outputs=3, input_shape=(1, 8, 8), channels=(4, 8)).eval()


def resnet() -> nn.Module:
    return ResNet(num_outputs=3, input_shape=(1, 8, 8)).eval()


def timm_model(name: str) -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm.create_model(name, in_chans=1, num_classes=3).eval()


def test_nothing_asked_is_the_call_itself():
    assert equip(call, nn.Identity(), Asked()) is call


@pytest.mark.parametrize("build", [convnet, resnet, lambda: timm_model("resnet10t"), lambda: timm_model("vit_tiny_patch16_224")])
def test_the_head_makes_the_logits(build: Any):
    """Features before the head, through the classifier that was found, are the logits."""
    model = build()
    images = batch(2, (224, 224) if "VisionTransformer" in type(model).__name__ else (64, 64))
    images = images if type(model).__module__.startswith("timm") else batch(2)
    tapped = Tapped(model, ["head:input"])
    with torch.no_grad():
        said = equip(call, model, Asked(head=True))(tapped, images)
    assert said.head is not None
    assert said.head.weight.shape[0] == 3
    torch.testing.assert_close(said.features["head:input"] @ said.head.weight.T + said.head.bias, said.logits)


def test_the_head_is_read_at_every_call_and_has_a_gradient():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    asked = equip(call, model, Asked(head=True))
    with torch.no_grad():
        model[1].weight.fill_(2.0)
    head = asked(model, batch()).head
    assert head is not None
    assert torch.equal(head.weight, torch.full((3, 64), 2.0))
    head.weight.sum().backward()
    assert model[1].weight.grad is not None


class Convolved(nn.Module):
    """A 1x1 convolution as classifier; the 3x3 one before it is none."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(4, 3, 1, bias=False)
        self.body = nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.body(x)).mean((-2, -1))


def test_a_convolution_may_be_the_head():
    head = equip(call, model := Convolved(), Asked(head=True))(model, batch()).head
    assert head is not None
    assert head.bias is None
    assert torch.equal(head.weight, model.classifier.weight[:, :, 0, 0])


def test_a_model_without_a_linear_layer_is_named():
    with pytest.raises(TapError, match=r"^Flatten has no linear layer, so its classifier cannot be found; this loss needs one\.$"):
        equip(call, nn.Flatten(), Asked(head=True))


def test_a_linear_layer_of_other_classes_is_not_the_head():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    model.register_module("projector", nn.Linear(3, 5))
    with pytest.raises(TapError, match=r"the last linear layer of Sequential makes 5 values and the model 3 logits, so it is not"):
        equip(lambda m, b: Signals(m[1](m[0](b.inputs))), model, Asked(head=True))(model, batch())


def test_a_forward_that_ends_early_has_a_head_all_the_same():
    model = convnet()
    tapped = Tapped(model, ["stage1"], stop_early=True)

    def early(run: Any, data: Batch) -> Signals:
        output, features = run(data.inputs)
        return Signals(output, features)

    for _ in range(2):
        said = equip(early, model, Asked(head=True))(tapped, batch())
        assert said.logits is None
        assert said.head is not None


def test_the_index_and_a_mask_of_the_batch():
    mask = torch.ones(4, 8, 8)
    said = equip(call, nn.Flatten(), Asked(extra=frozenset({"index", "mask"})))(nn.Flatten(), batch(mask=mask, name="not a tensor"))
    assert said.extra.keys() == {"index", "mask"}
    assert torch.equal(said.extra["index"], torch.tensor([100, 101, 102, 103]))
    assert said.extra["mask"] is mask
    assert said.head is None
    assert said.views == ()


def test_the_index_is_where_the_inputs_are():
    batch_ = Batch(torch.empty(2, 1, 4, 4, device="meta"), None, torch.arange(2))
    said = equip(call, nn.Flatten(), Asked(extra=frozenset({"index"})))(nn.Flatten(), batch_)
    assert said.extra["index"].device.type == "meta"


def test_the_index_of_a_text_batch_stays():
    words = Batch({"input_ids": torch.zeros(2, 3, dtype=torch.int64)}, None, torch.arange(2))
    said = equip(lambda m, b: Signals(torch.zeros(2, 3)), nn.Identity(), Asked(extra=frozenset({"index"})))(None, words)
    assert torch.equal(said.extra["index"], torch.arange(2))


@pytest.mark.parametrize(
    ("extra", "known"), [({}, "none"), ({"depth": torch.zeros(4), "name": "x", "area": torch.zeros(4)}, r"\['area', 'depth'\]")]
)
def test_what_the_data_do_not_give_is_named(extra: dict[str, Any], known: str):
    asked = equip(call, nn.Flatten(), Asked(extra=frozenset({"mask"})))
    with pytest.raises(
        SignalMissing,
        match=rf"^a loss needs the signal 'mask', which the data do not give; they give {known} beside inputs and labels\.$",
    ):
        asked(nn.Flatten(), batch(**extra))


def test_signals_of_the_call_itself_are_kept():
    asked = equip(lambda m, b: Signals(torch.zeros(4, 3), extra={"own": b.index}), nn.Identity(), Asked(extra=frozenset({"index"})))
    assert asked(None, batch()).extra.keys() == {"own", "index"}


class Echo(nn.Module):
    """Gives its input as logits and the number of forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        return x.flatten(1), {"map": x}


def test_rotated_views_are_split_in_their_order():
    model = Echo()
    images = batch()
    said = equip(call, model, Asked(rotations=True))(model, images)
    assert model.calls == 1, "one forward, so that batch statistics see all views"
    assert len(said.views) == 3
    for turns, view in enumerate([said, *said.views]):
        expected = torch.rot90(images.inputs, turns, (-2, -1))
        assert torch.equal(view.features["map"], expected), turns
        assert torch.equal(view.logits, expected.flatten(1)), turns
        assert (view.views == ()) == (turns > 0)


def test_rotated_views_of_a_forward_without_logits():
    absent: Any = None
    said = equip(lambda m, b: Signals(absent, {"map": b.inputs}), nn.Identity(), Asked(rotations=True))(None, batch())
    assert said.logits is None
    assert [view.logits for view in said.views] == [None] * 3


def test_rotated_views_have_the_index_of_the_images():
    said = equip(call, model := Echo(), Asked(rotations=True, extra=frozenset({"index"})))(model, batch())
    assert torch.equal(said.extra["index"], batch().index)


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        (torch.zeros(2, 1, 8, 6), r"\[2, 1, 8, 6\]"),
        (torch.zeros(2, 8, 8), r"\[2, 8, 8\]"),
        ({"input_ids": torch.zeros(2, 3)}, "dict"),
    ],
)
def test_only_square_images_are_rotated(inputs: Any, found: str):
    text = rf"^a loss on rotated images needs square images \(batch, channels, size, size\), found {found}\.$"
    with pytest.raises(ShapeMismatch, match=text):
        equip(call, nn.Flatten(), Asked(rotations=True))(nn.Flatten(), Batch(inputs, None, torch.arange(2)))
