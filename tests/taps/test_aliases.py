"""Common layer names mean the same place in every model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from limbeck.errors import TapError
from limbeck.models.builtin.convnet import ConvNet
from limbeck.models.builtin.resnet import ResNet
from limbeck.taps.aliases import aliases, expanded
from limbeck.taps.suggest import layer_paths, with_aliases
from limbeck.taps.tapped import Tapped

timm = pytest.importorskip("timm")


def names(model: nn.Module) -> dict[str, str]:
    """Without the activations, which have a test of their own."""
    return {name: path for name, path in aliases(model, layer_paths(model)).items() if not name.endswith(".activation")}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            "resnet10t",
            {"stage1": "layer1", "stage2": "layer2", "stage3": "layer3", "stage4": "layer4", "last_stage": "layer4", "head": "fc"},
        ),
        ("regnetx_002", {"stage1": "s1", "stage2": "s2", "stage3": "s3", "stage4": "s4", "last_stage": "s4"}),
        (
            "mobilenetv3_small_050",
            {
                "stage1": "blocks.0",
                "stage2": "blocks.1",
                "stage3": "blocks.3",
                "stage4": "blocks.5",
                "last_stage": "blocks.5",
                "head": "classifier",
            },
        ),
        (
            "vit_tiny_patch16_224",
            {"stage1": "blocks.2", "stage2": "blocks.5", "stage3": "blocks.8", "stage4": "blocks.11", "last_stage": "blocks.11"},
        ),
    ],
)
def test_timm(model, expected):
    assert names(timm.create_model(model, pretrained=False)) == expected


def test_stages_fall_in_resolution():
    model = timm.create_model("convnext_atto", pretrained=False).eval()
    taps = ["stage1", "stage2", "stage3", "stage4", "head.fc:input"]
    with torch.no_grad():
        values = Tapped(model, taps)(torch.zeros(1, 3, 64, 64))[1]
    assert list(values) == taps
    assert [value.shape[-1] for value in list(values.values())[:4]] == [16, 8, 4, 2]


def test_torchvision_names():
    model = pytest.importorskip("torchvision").models.resnet18()
    assert names(model) == {
        "stage1": "layer1",
        "stage2": "layer2",
        "stage3": "layer3",
        "stage4": "layer4",
        "last_stage": "layer4",
        "head": "fc",
    }


def test_own_names_win():
    model = nn.Sequential()
    model.add_module("stage1", nn.Conv2d(1, 2, 3))
    model.add_module("head", nn.Flatten())
    model.add_module("last", nn.Linear(2, 2))
    assert names(model) == {}
    assert with_aliases(model)["head"] is model.get_submodule("head")


def test_few_blocks_have_few_stages():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
            self.feature_info = [{"module": "a", "reduction": 16}, {"module": "b", "reduction": 16}]

    assert names(Two()) == {"stage1": "a", "stage2": "b", "last_stage": "b", "head": "b"}


def test_a_model_without_any_of_them():
    assert names(nn.Sequential(nn.Flatten())) == {}


def test_built_in_models():
    convnet = ConvNet(num_outputs=10, input_shape=(1, 8, 8), channels=(4, 8), blocks=2)
    assert aliases(convnet, layer_paths(convnet)) == {
        "last_stage": "stage2",
        "stage1.activation": "stage1.1.activation",
        "stage2.activation": "stage2.1.activation",
        "last_stage.activation": "stage2.1.activation",
    }
    resnet = ResNet(num_outputs=10, input_shape=(1, 8, 8), depth=8)
    assert names(resnet) == {"stage1": "layer1", "stage2": "layer2", "stage3": "layer3", "last_stage": "layer3"}


@pytest.mark.parametrize("reference", ["convnet", "resnet", "timm"])
def test_before_the_last_activation_of_a_stage(reference):
    shape: dict[str, Any] = {"num_outputs": 10, "input_shape": (3, 32, 32)}
    made = {"convnet": lambda: ConvNet(**shape), "resnet": lambda: ResNet(**shape, depth=8), "timm": lambda: timm.create_model("resnet18")}
    taps = ["stage2.activation:input", "stage2", "last_stage.activation:input", "last_stage"]
    model = made[reference]().eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):  # timm begins with 0 in the last of a block
            nn.init.ones_(layer.weight)
    _, found = Tapped(model, taps)(torch.randn(2, 3, 32, 32))
    for before, after in (taps[:2], taps[2:]):
        assert (found[before] < 0).any()
        torch.testing.assert_close(found[before].relu(), found[after])


def test_what_lies_below_a_common_name():
    model = timm.create_model("resnet18")
    assert with_aliases(model)["stage1.0.conv1"] is model.layer1[0].conv1
    assert with_aliases(model)["stage1"] is model.layer1
    with pytest.raises(TapError, match=r"'stage1\.0' has no 'norm'"):
        Tapped(model, ["stage1.0.norm"])


def test_a_path_that_begins_with_a_common_name():
    common = {"stage1": "layer1", "stage1.activation": "layer1.1.act2"}
    asked = ["stage1", "stage1.0.*", "stage1.activation", "stage10.x", "fc"]
    assert [expanded(path, common) for path in asked] == ["layer1", "layer1.0.*", "layer1.1.act2", "stage10.x", "fc"]
