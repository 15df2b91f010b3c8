"""ResNets of four stages, MobileNetV2 and the ShuffleNets: shapes, costs, and what their blocks compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.evaluate.cost import model_cost
from limbeck.models.base import ModelRequest
from limbeck.models.build import build_model
from limbeck.models.builtin._shuffle import shuffle
from limbeck.taps.tapped import Tapped
from limbeck.types import DataInfo

INFO = DataInfo("image", "class", 100, (3, 32, 32))
SMALL = DataInfo("image", "class", 7, (3, 16, 16))


def build(model: str, info: DataInfo = INFO, **args: Any) -> nn.Module:
    return build_model(ModelRequest(model, args=args), info).module


NETWORKS = {
    "resnet50": ("resnet", {"depth": 50}, 23_705_252, 2_596_028_416, [(256, 32), (512, 16), (1024, 8), (2048, 4)], 2048),
    "resnet18": ("resnet", {"depth": 18}, 11_220_132, 1_110_937_600, [(64, 32), (128, 16), (256, 8), (512, 4)], 512),
    "mobile_half": ("mobilenetv2", {"width": 0.5}, 812_836, 13_047_296, [(12, 16), (16, 8), (48, 4), (160, 2)], 1280),
    "shuffle1": ("shufflenetv1", {}, 949_258, 77_382_912, [(240, 16), (480, 8), (960, 4)], 960),
    "shuffle2": ("shufflenetv2", {}, 1_355_528, 89_008_896, [(116, 16), (232, 8), (464, 4)], 1024),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_size_cost_and_stages_are_those_of_the_collections_for_cifar(name: str) -> None:
    """Parameters, floating-point operations, maps of the stages and the embedding, with 100 classes."""
    model, args, parameters, flops, maps, width = NETWORKS[name]
    with torch.device("meta"):
        module = build_model(ModelRequest(model, args=args), INFO, load=False).module
        cost = model_cost(module.eval(), torch.empty(1, 3, 32, 32), latency=False)
        assert (cost["parameters"], cost["flops"]) == (parameters, flops)
        stages = [f"layer{i}" for i in range(1, len(maps) + 1)]
        output, seen = Tapped(module, [*stages, "last_stage", "head:input"])(torch.empty(2, 3, 32, 32))
    assert output is not None
    assert output.shape == (2, 100)
    assert [tuple(seen[stage].shape) for stage in stages] == [(2, channels, size, size) for channels, size in maps]
    assert seen["last_stage"].shape == seen[stages[-1]].shape
    assert seen["head:input"].shape == (2, width)
    assert [child for child, _ in module.named_children() if child.startswith("layer")] == stages


@pytest.mark.parametrize(
    ("model", "args", "parameters"),
    [
        ("resnet", {"depth": 34}, 21_328_292),
        ("resnet", {"depth": 101}, 42_697_380),
        ("resnet", {"depth": 152}, 58_341_028),
        ("mobilenetv2", {}, 2_353_060),
        ("shufflenetv2", {"width": 0.5}, 443_716),
        ("shufflenetv2", {"width": 1.5}, 2_580_548),
    ],
)
def test_other_sizes(model: str, args: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        module = build_model(ModelRequest(model, args=args), INFO, load=False).module
    assert sum(p.numel() for p in module.parameters()) == parameters


def awake(module: nn.Module) -> None:
    """Statistics and scales as after training, so that no two channels are treated alike."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight.data, layer.running_var):
                assert values is not None
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
            for values in (layer.bias.data, layer.running_mean):
                assert values is not None
                values.copy_(torch.randn(values.shape, generator=generator))


def parts(module: nn.Module, path: str) -> Any:
    return module.get_submodule(path)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_shuffled_channels_come_from_every_group_in_turn() -> None:
    channels = torch.arange(6.0).view(1, 6, 1, 1).expand(2, 6, 3, 3)
    assert shuffle(channels, 2)[1, :, 2, 0].tolist() == [0, 3, 1, 4, 2, 5]
    assert shuffle(channels, 3)[0, :, 0, 1].tolist() == [0, 2, 4, 1, 3, 5]
    assert torch.equal(shuffle(channels, 1), channels)


def test_a_bottleneck_adds_its_shortcut_before_the_last_activation(x: Tensor) -> None:
    module = build("resnet", SMALL, depth=50).eval()
    awake(module)
    block, same = parts(module, "layer2.0"), parts(module, "layer2.1")
    assert (block.conv2.in_channels, block.conv2.stride, block.conv1.stride, same.conv2.stride) == (128, (2, 2), (1, 1), (1, 1))
    before = torch.randn(2, 256, 8, 8)
    inner = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(before))))))
    expected = F.relu(block.bn3(block.conv3(inner)) + block.shortcut[1](block.shortcut[0](before)))
    torch.testing.assert_close(block(before), expected)
    assert isinstance(same.shortcut, nn.Identity)
    assert isinstance(parts(module, "layer1.0").shortcut, nn.Sequential), "64 channels become 256"
    assert isinstance(parts(build("resnet", SMALL, depth=18), "layer1.0").shortcut, nn.Identity)
    _, seen = Tapped(module, ["layer4", "stage4.activation:input"])(x)
    torch.testing.assert_close(seen["layer4"], seen["stage4.activation:input"].relu())
    assert bool((seen["stage4.activation:input"] < 0).any())


@pytest.mark.parametrize("stem", [None, 32])
def test_stem_and_width_of_four_stages(stem: int | None) -> None:
    with torch.device("meta"):
        module = build_model(ModelRequest("resnet", args={"depth": 18, "width": 2, "stem": stem}), INFO, load=False).module
    assert parts(module, "conv1").out_channels == (stem or 128)
    assert [parts(module, f"layer{i}.0.conv1").out_channels for i in (1, 2, 3, 4)] == [128, 256, 512, 1024]


def test_an_inverted_residual_is_linear_at_its_end(x: Tensor) -> None:
    module = build("mobilenetv2", SMALL, width=0.5).eval()
    awake(module)
    added, halving, widened = parts(module, "layer2.1"), parts(module, "layer2.0"), parts(module, "layer1.0")
    maps = torch.randn(2, 16, 4, 4)

    def through(block: Any, value: Tensor) -> Tensor:
        value = F.relu(block.expand[1](block.expand[0](value)))
        value = F.relu(block.depthwise[1](block.depthwise[0](value)))
        return block.project[1](block.project[0](value))

    torch.testing.assert_close(added(maps), maps + through(added, maps))
    narrow = torch.randn(2, 12, 4, 4)
    torch.testing.assert_close(halving(narrow), through(halving, narrow))
    assert halving(narrow).shape == (2, 16, 2, 2)
    torch.testing.assert_close(widened(maps), through(widened, maps))
    assert (widened.expand[0].out_channels, added.expand[0].out_channels) == (16, 96), "the first block expands nothing"
    assert added.depthwise[0].groups == 96
    _, seen = Tapped(module, ["layer1", "layer4", "last"])(x)
    assert all(bool((seen[layer] < 0).any()) for layer in ("layer1", "layer4"))
    assert not bool((seen["last"] < 0).any())


def test_weights_of_a_mobile_network_begin_as_in_the_collections() -> None:
    torch.manual_seed(0)
    module = build("mobilenetv2")
    head, first, depthwise = parts(module, "head"), parts(module, "conv1")[0], parts(module, "layer4.1").depthwise[0]
    assert head.bias.eq(0).all()
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert first.weight.std().item() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.1)
    assert depthwise.weight.std().item() == pytest.approx((2 / (9 * 960)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("width", "last"), [(0.125, 1280), (1, 1280), (2.0, 2560)])
def test_width_of_a_mobile_network(width: float, last: int) -> None:
    module = build("mobilenetv2", SMALL, width=width)
    assert parts(module, "head").in_features == last
    assert parts(module, "layer4.3").project[0].out_channels == 320 * width
    assert module(torch.randn(2, 3, 16, 16)).shape == (2, 7)


def test_a_shuffle_block_adds_or_puts_beside(x: Tensor) -> None:
    module = build("shufflenetv1", SMALL).eval()
    awake(module)

    def branch(block: Any, value: Tensor, groups: int) -> Tensor:
        value = F.channel_shuffle(F.relu(block.bn1(block.conv1(value))), groups)
        return block.bn3(block.conv3(F.relu(block.bn2(block.conv2(value)))))

    first, halving, same = (parts(module, path) for path in ("layer1.0", "layer2.0", "layer2.1"))
    maps = torch.randn(2, 24, 8, 8)
    torch.testing.assert_close(first(maps), F.relu(torch.cat([branch(first, maps, 1), F.avg_pool2d(maps, 3, 2, 1)], 1)))
    maps = torch.randn(2, 240, 8, 8)
    torch.testing.assert_close(halving(maps), F.relu(torch.cat([branch(halving, maps, 3), F.avg_pool2d(maps, 3, 2, 1)], 1)))
    maps = torch.randn(2, 480, 4, 4)
    torch.testing.assert_close(same(maps), F.relu(maps + branch(same, maps, 3)))
    assert [block.conv1.groups for block in (first, halving, same)] == [1, 3, 3]
    assert [block.conv3.groups for block in (first, halving, same)] == [3, 3, 3]
    _, seen = Tapped(module, ["layer3", "stage3.activation:input"])(x)
    torch.testing.assert_close(seen["layer3"], seen["stage3.activation:input"].relu())


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_groups_set_the_channels_of_a_shuffle_network(groups: int) -> None:
    module = build("shufflenetv1", SMALL, groups=groups)
    channels = {1: 144, 2: 200, 3: 240}[groups]
    _, seen = Tapped(module, ["layer1", "layer3"])(torch.randn(2, 3, 16, 16))
    assert (seen["layer1"].shape, seen["layer3"].shape) == ((2, channels, 8, 8), (2, 4 * channels, 2, 2))


def test_half_of_the_channels_pass_a_block_of_the_second_shuffle_network(x: Tensor) -> None:
    module = build("shufflenetv2", SMALL).eval()
    awake(module)
    halving, same = parts(module, "layer1.0"), parts(module, "layer1.1")
    maps = torch.randn(2, 24, 8, 8)
    made = halving(maps)
    torch.testing.assert_close(made[:, ::2], F.relu(halving.beside(maps)))
    torch.testing.assert_close(made[:, 1::2], F.relu(halving.branch(maps)))
    assert made.shape == (2, 116, 4, 4)
    after = same(made)
    assert torch.equal(after[:, ::2], made[:, :58]), "the first half passes"
    torch.testing.assert_close(after[:, 1::2], F.relu(same.branch(made[:, 58:])))
    kinds = [type(layer).__name__ for layer in same.branch]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "Conv2d", "BatchNorm2d"]
    assert (same.branch[3].groups, same.branch[3].stride, halving.branch[3].stride, halving.beside[0].stride) == (
        58,
        (1, 1),
        (2, 2),
        (2, 2),
    )
    _, seen = Tapped(module, ["layer2", "stage2.activation:input"])(x)
    torch.testing.assert_close(seen["layer2"], seen["stage2.activation:input"].relu())
    assert [len(parts(module, f"layer{i}")) for i in (1, 2, 3)] == [4, 8, 4]
