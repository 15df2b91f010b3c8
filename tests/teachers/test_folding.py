"""A folded teacher says the same, with fewer layers, and its original is untouched."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from limbeck.models.builtin.resnet import ResNet
from limbeck.taps.tapped import Tapped
from limbeck.teachers.folding import fold


class Net(nn.Module):
    """Convolution, normalisation, and what a subclass does with them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


def lived(module: nn.Module) -> nn.Module:
    """Evaluation mode, with statistics and factors that are not those of a new layer."""
    for m in module.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(m.weight, 0.5, 2)
            nn.init.normal_(m.bias)
            m.running_mean.normal_()
            m.running_var.uniform_(0.3, 3)
    return module.eval().requires_grad_(False)


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in module.modules())


def test_same_values_without_normalisations():
    net = lived(ResNet(num_outputs=5, input_shape=(3, 16, 16), depth=8))
    before = copy.deepcopy(net.state_dict())
    x = torch.randn(4, 3, 16, 16)
    folded = fold(net, [])
    torch.testing.assert_close(folded(x), net(x), rtol=1e-4, atol=1e-5)
    assert norms(net) > norms(folded) == 0
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(p.requires_grad for p in folded.parameters())
    assert not any(m.training for m in folded.modules())


def test_what_is_not_changed_is_shared():
    net = lived(ResNet(num_outputs=5, input_shape=(3, 16, 16), depth=8))
    own, folded = dict(net.named_parameters()), dict(fold(net, []).named_parameters())
    assert [name for name in folded if name in own and folded[name] is own[name]] == [n for n in own if n.startswith("head")]


@pytest.mark.parametrize(("tap", "left"), [("conv", 1), ("norm:input", 1), ("norm", 0), ("conv:input", 0)])
def test_taps_read_what_they_would_have_read(tap, left):
    net = lived(Net())
    folded = fold(net, [tap])
    assert norms(folded) == left
    x = torch.randn(2, 2, 6, 6)
    for ours, theirs in zip(Tapped(folded, [tap])(x)[1].values(), Tapped(net, [tap])(x)[1].values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_tap_by_a_common_name_is_seen():
    net = lived(Net())
    net.feature_info = [{"module": "conv", "reduction": 4}]
    folded = fold(net, ["stage1"])
    assert norms(folded) == 1


class Twice(Net):
    def forward(self, x):
        return self.norm(self.conv(x)) + self.norm(self.conv(x + 1))


class Shared(Net):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(2, 4, 3, bias=False)
        self.other.weight = self.conv.weight

    def forward(self, x):
        return self.norm(self.conv(x)) + self.other(x)


class Alias(Net):
    def __init__(self) -> None:
        super().__init__()
        self.again = self.conv

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


class Branch(Net):
    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class Between(Net):
    def forward(self, x):
        return self.norm(self.conv(x).relu())


class Decides(Net):
    def forward(self, x):
        return self.norm(self.conv(x)) if x.sum() > 0 else x.new_zeros(())


class Batchwise(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)


@pytest.mark.parametrize("cls", [Twice, Shared, Alias, Branch, Between, Decides, Batchwise])
def test_left_alone_where_it_would_change_something(cls):
    net = cls() if cls is Batchwise else lived(cls())
    net.eval()
    x = torch.randn(2, 2, 6, 6).abs()
    expected = net(x)
    folded = fold(net, [])
    assert norms(folded) == 1
    assert torch.equal(folded(x), expected)


def test_hooks_and_parametrisations_are_kept():
    net = lived(Net())
    seen = []
    net.conv.register_forward_hook(lambda *_: seen.append(1))
    assert norms(fold(net, [])) == 1
    net = lived(Net())
    nn.utils.parametrizations.weight_norm(net.conv)
    assert norms(fold(net.eval(), [])) == 1


def test_a_model_without_normalisation_is_itself():
    net = nn.Linear(2, 2)
    assert fold(net, []) is net


def test_one_dimension():
    net = lived(nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3)))
    x = torch.randn(2, 2, 9)
    folded = fold(net, [])
    assert norms(folded) == 0
    torch.testing.assert_close(folded(x), net(x), rtol=1e-4, atol=1e-5)


def test_a_normalisation_of_another_kind_stays():
    net = lived(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(2), nn.BatchNorm1d(3)))
    assert norms(fold(net, [])) == 1
