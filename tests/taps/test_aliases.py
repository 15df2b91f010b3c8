"""Common layer names mean the same place in every model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.taps.aliases import aliases
from limbeck.taps.suggest import layer_paths, with_aliases
from limbeck.taps.tapped import Tapped

timm = pytest.importorskip("timm")


def names(model: nn.Module) -> dict[str, str]:
    return aliases(model, layer_paths(model))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet10t", {"stage1": "layer1", "stage2": "layer2", "stage3": "layer3", "stage4": "layer4", "head": "fc"}),
        ("regnetx_002", {"stage1": "s1", "stage2": "s2", "stage3": "s3", "stage4": "s4"}),
        (
            "mobilenetv3_small_050",
            {"stage1": "blocks.0", "stage2": "blocks.1", "stage3": "blocks.3", "stage4": "blocks.5", "head": "classifier"},
        ),
        ("vit_tiny_patch16_224", {"stage1": "blocks.2", "stage2": "blocks.5", "stage3": "blocks.8", "stage4": "blocks.11"}),
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
    assert names(model) == {"stage1": "layer1", "stage2": "layer2", "stage3": "layer3", "stage4": "layer4", "head": "fc"}


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

    assert names(Two()) == {"stage1": "a", "stage2": "b", "head": "b"}


def test_a_model_without_any_of_them():
    assert names(nn.Sequential(nn.Flatten())) == {}
