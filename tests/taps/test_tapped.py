"""Capture: right values whatever the model does, cheap and without traces."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from limbeck.errors import TapError
from limbeck.taps.tapped import Tapped, shapes


class Residual(nn.Module):
    """conv -> bn -> (in place) += x -> (in place) relu; `safe` does the same out of place."""

    def __init__(self, safe: bool = False) -> None:
        super().__init__()
        self.conv, self.bn, self.safe = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), safe
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        if self.safe:
            y = F.relu(y + x)
        else:
            y += x
            y.relu_()
        return self.head(y.mean((2, 3)))


def hooks_of(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("taps", [["bn"], ["conv", "bn", "head"], ["bn:output", "head:input", "."]])
def test_in_place_operations_do_not_corrupt(train: bool, taps: list[str]) -> None:
    """Values, gradients and buffers equal those of the model without in-place operations, at every forward."""
    dirty = Residual().train(train)
    clean = Residual(safe=True).train(train)
    clean.load_state_dict(dirty.state_dict())
    a, b = Tapped(dirty, taps), Tapped(clean, taps)
    for _ in range(4):
        x = torch.randn(4, 3, 5, 5)
        (out_a, got_a), (out_b, got_b) = a(x), b(x)
        assert list(got_a) == taps
        torch.testing.assert_close(out_a, out_b, rtol=0, atol=0)
        for tap in taps:
            torch.testing.assert_close(got_a[tap], got_b[tap], rtol=0, atol=0)
        for module, out, got in ((dirty, out_a, got_a), (clean, out_b, got_b)):
            module.zero_grad()
            (out.sum() + sum((v**3).sum() for v in got.values())).backward()
        for p, q in zip(dirty.parameters(), clean.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    for p, q in zip(dirty.buffers(), clean.buffers(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0)


def make_resnet(inplace: bool) -> nn.Module:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.resnet18(num_classes=5)
    for m in model.modules():
        if isinstance(m, nn.ReLU):
            m.inplace = inplace
    return model


def test_torchvision_resnet_bn_before_inplace_relu() -> None:
    taps = ["layer1.0.bn1", "layer1.0.bn2", "layer1.0", "layer2.0.downsample", "layer4", "bn1"]
    dirty, clean = make_resnet(True), make_resnet(False)
    # torchvision adds the shortcut in place whatever the ReLU does, so the reference for bn2 is computed by hand
    x = torch.randn(2, 3, 32, 32)
    tapped = Tapped(dirty, taps)
    for _ in range(3):
        _, got = tapped(x)
    block = clean.get_submodule("layer1.0")
    for _ in range(2):
        clean(x)  # the same running statistics, though training mode does not use them
    stem = clean.get_submodule("maxpool")(F.relu(clean.get_submodule("bn1")(clean.get_submodule("conv1")(x))))
    mid = block.get_submodule("bn1")(block.get_submodule("conv1")(stem))
    expected = block.get_submodule("bn2")(block.get_submodule("conv2")(F.relu(mid)))
    torch.testing.assert_close(got["layer1.0.bn1"], mid, rtol=0, atol=0)
    torch.testing.assert_close(got["layer1.0.bn2"], expected, rtol=0, atol=0)
    assert (got["layer1.0.bn2"] < 0).any(), "the value must be that before the ReLU"
    assert (got["layer1.0"] >= 0).all()
    got["layer1.0.bn2"].sum().backward()
    expected.sum().backward()
    wanted = {n: p.grad for n, p in clean.named_parameters()}
    for name in ("conv1.weight", "layer1.0.conv2.weight", "layer1.0.bn2.bias"):
        torch.testing.assert_close(dict(dirty.named_parameters())[name].grad, wanted[name])


def test_only_overwritten_values_are_copied() -> None:
    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.seen = nn.Linear(3, 3), nn.Linear(3, 3), []

        def forward(self, x: Tensor) -> Tensor:
            kept = self.a(x)
            lost = self.b(kept)
            self.seen = [kept, lost]
            return lost.relu_()

    model = Watch()
    tapped = Tapped(model, ["a", "b"])
    for _ in range(3):
        _, got = tapped(torch.randn(2, 3))
        assert got["a"] is model.seen[0], "a value that nothing overwrites is handed on as it is"
        assert got["b"] is not model.seen[1]


class Surprise(nn.Module):
    """Overwrites its tapped value only when told to; draws random numbers and moves buffers, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.dirty, self.runs = nn.Linear(4, 4), nn.BatchNorm1d(4), False, 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        y = F.dropout(self.bn(self.conv(x)), 0.5, self.training)
        z = self.conv(y)
        return z.mul_(2) if self.dirty else z * 2


def test_a_surprise_is_repaired_exactly() -> None:
    """Value, output, gradient, buffers and random state are as if the model had never overwritten anything."""
    torch.manual_seed(3)
    clean = Surprise()
    dirty = copy.deepcopy(clean)
    a, b = Tapped(clean, ["conv@1"]), Tapped(dirty, ["conv@1"])
    states = []
    for model, tapped in ((clean, a), (dirty, b)):
        torch.manual_seed(5)
        results = []
        for step in range(4):
            model.dirty = model is dirty and step >= 2
            x = torch.randn(6, 4)
            out, got = tapped(x)
            results += [out.detach(), got["conv@1"].detach().clone()]
            (out.sum() + got["conv@1"].square().sum()).backward()
        states.append((results, [p.grad for p in model.parameters()], list(model.buffers()), torch.get_rng_state()))
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert (clean.runs, dirty.runs) == (4, 5), "one repair, and the tap is copied from then on"


def test_a_surprise_that_also_overwrote_the_input_is_an_error_not_a_wrong_value() -> None:
    class Eats(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.dirty = nn.Identity(), False

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return y.mul_(2) if self.dirty else y * 2

    model = Eats()
    tapped = Tapped(model, ["a"])
    tapped(torch.ones(2))
    model.dirty = True
    with pytest.raises(TapError, match="cannot be run again"):
        tapped(torch.ones(2))
    torch.testing.assert_close(tapped(torch.ones(2))[1]["a"], torch.ones(2))


def test_training_and_evaluation_are_learned_apart() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5, inplace=True), nn.Linear(3, 3))
    tapped = Tapped(model, ["0"])
    for train in (False, True, False, True):
        model.train(train)
        x = torch.randn(4, 3)
        _, got = tapped(x)
        torch.testing.assert_close(got["0"], model[0](x))


def test_inputs_are_taken_before_the_layer_overwrites_them() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True))
    tapped = Tapped(model, ["1:input", "1"])
    for _ in range(3):
        x = torch.randn(8, 3)
        _, got = tapped(x)
        torch.testing.assert_close(got["1:input"], model[0](x))
        torch.testing.assert_close(got["1"], model[0](x).relu())


def test_input_by_keyword() -> None:
    class Caller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(input=x + 1)

    x = torch.zeros(1, 2)
    torch.testing.assert_close(Tapped(Caller(), ["inner:input"])(x)[1]["inner:input"], torch.ones(1, 2))


def test_views_share_the_version_counter() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            base = x * 1.0
            self.a(base[:, :2])
            base.zero_()
            return base

    tapped = Tapped(Views(), ["a"])
    for _ in range(3):
        torch.testing.assert_close(tapped(torch.ones(2, 4))[1]["a"], torch.ones(2, 2))


class Loop(nn.Module):
    """One layer, called `times` times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.cell, self.times = nn.Linear(2, 2), times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.cell(x)
        return x


def test_several_calls() -> None:
    model = Loop(3)
    with pytest.raises(TapError, match=r"'cell': the layer ran 3 times in one forward; say which: cell@0 to cell@2"):
        Tapped(model, ["cell"])(torch.randn(1, 2))
    tapped = Tapped(model, ["cell@2", "cell@0"])
    x = torch.randn(1, 2)
    for _ in range(2):
        out, got = tapped(x)
        assert list(got) == ["cell@2", "cell@0"]
        torch.testing.assert_close(got["cell@0"], model.cell(x))
        torch.testing.assert_close(got["cell@2"], out)
    with pytest.raises(TapError, match=r"the layer ran 3 times in this forward; calls are counted from @0"):
        Tapped(model, ["cell@3"])(x)
    model.times = 1
    with pytest.raises(TapError, match=r"cell@2.*ran once in this forward"):
        tapped(x)


def test_a_layer_that_begins_to_run_twice_is_noticed_later_too() -> None:
    model = Loop(1)
    tapped = Tapped(model, ["cell"])
    tapped(torch.randn(1, 2))
    model.times = 2
    with pytest.raises(TapError, match="ran 2 times"):
        tapped(torch.randn(1, 2))
    model.times = 0
    with pytest.raises(TapError, match=r"tap 'cell': the layer did not run"):
        tapped(torch.randn(1, 2))
    model.times = 1
    tapped(torch.randn(1, 2))


def test_shared_layers() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(2, 2)
            self.b = self.a
            self.twice = True

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.b(x) if self.twice else x

    model, x = Shared(), torch.randn(1, 2)
    _, got = Tapped(model, ["a@0", "b@1"])(x)
    torch.testing.assert_close(got["b@1"], model.a(model.a(x)))
    torch.testing.assert_close(got["a@0"], model.a(x))
    model.twice = False
    torch.testing.assert_close(Tapped(model, ["b"])(x)[1]["b"], model.a(x))


def test_tuples_and_dicts() -> None:
    class Many(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
            return x, {"hidden": [x + 1, x + 2], "n": 3}

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.many = Many()

        def forward(self, x: Tensor) -> Tensor:
            return self.many(x)[0]

    model, x = Outer(), torch.zeros(2)
    with pytest.raises(TapError) as caught:
        Tapped(model, ["many"])(x)
    assert "is a tuple with 0: Tensor, 1: dict" in str(caught.value)
    assert "Write one of many:output.0, many:output.1.hidden.0, many:output.1.hidden.1." in str(caught.value)
    _, got = Tapped(model, ["many:output.1.hidden.-1", "many:output.0"])(x)
    torch.testing.assert_close(got["many:output.1.hidden.-1"], x + 2)
    with pytest.raises(TapError, match="expected a tensor, the layer's output is a int"):
        Tapped(model, ["many:output.1.n"])(x)
    # a failed forward leaves nothing switched on
    model(x)


def test_lstm_output_needs_a_key() -> None:
    with pytest.raises(TapError, match=r"Write one of \.:output\.0, \.:output\.1\.0, \.:output\.1\.1"):
        Tapped(nn.LSTM(2, 3), ["."])(torch.zeros(4, 1, 2))
    assert Tapped(nn.LSTM(2, 3), [".:output.0"])(torch.zeros(4, 1, 2))[1][".:output.0"].shape == (4, 1, 3)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.reached = 0

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = self.b(self.a(x))
        except Exception:  # a model that swallows errors must not swallow the end of its forward
            return x
        self.reached += 1
        return self.c(x)


@pytest.mark.parametrize("grad", [True, False])
def test_stop_early(grad: bool) -> None:
    model = Counting()
    tapped = Tapped(model, ["b", "a:input"], stop_early=True)
    with torch.set_grad_enabled(grad):
        for _ in range(4):
            x = torch.randn(3, 2)
            out, got = tapped(x)
            assert out is None
            torch.testing.assert_close(got["b"], model.b(model.a(x)))
            assert got["b"].requires_grad is grad
    assert model.reached == 1, "only the rehearsal runs to its end"


@pytest.mark.parametrize("stop_early", [True, False])
def test_a_restart_changes_nothing(stop_early: bool) -> None:
    """Training that goes on with a new object gives the same bits: learning about the model leaves no trace."""
    body = [nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    whole = nn.Sequential(*body, nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    twin = copy.deepcopy(whole)
    results = []
    for model, restart in ((whole, False), (twin, True)):
        torch.manual_seed(7)
        tapped = Tapped(model, ["1", "3"], stop_early=stop_early)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for step in range(5):
            if restart and step == 3:
                tapped.close()
                tapped = Tapped(model, ["1", "3"], stop_early=stop_early)
            _, got = tapped(torch.randn(8, 4))
            optimizer.zero_grad()
            sum(v.square().mean() for v in got.values()).backward()
            optimizer.step()
        results.append((model.state_dict(), torch.get_rng_state()))
    torch.testing.assert_close(dict(results[0][0]), dict(results[1][0]), rtol=0, atol=0)
    assert torch.equal(results[0][1], results[1][1])
    if stop_early:
        assert int(whole[5].num_batches_tracked) == 0, "what lies after the last tap never ran"


def test_stop_early_finds_several_calls_at_once() -> None:
    with pytest.raises(TapError, match="ran 3 times"):
        Tapped(Loop(3), ["cell"], stop_early=True)(torch.randn(1, 2))


def test_stop_early_waits_for_the_last_tap_in_time() -> None:
    model = Counting()
    tapped = Tapped(model, ["c", "a"], stop_early=True)
    for _ in range(2):
        assert list(tapped(torch.randn(1, 2))[1]) == ["c", "a"]
    assert model.reached == 3, "a rehearsal and two forwards"


def test_nested_tapped_models_keep_their_ends_apart() -> None:
    """The end of the inner one's forward is caught by the inner one only."""
    inner_model, outer_model = Counting(), Counting()
    inner = Tapped(inner_model, ["a"], stop_early=True)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = outer_model

        def forward(self, x: Tensor) -> Tensor:
            return self.body(inner(x)[1]["a"])

    outer = Tapped(Outer(), ["body.b"], stop_early=True)
    for _ in range(3):
        x = torch.randn(1, 2)
        torch.testing.assert_close(outer(x)[1]["body.b"], outer_model.b(outer_model.a(inner_model.a(x))))


def test_two_tapped_objects_on_one_model() -> None:
    model = Counting()
    one, two = Tapped(model, ["a"], stop_early=True), Tapped(model, ["c"])
    x = torch.randn(1, 2)
    for _ in range(3):
        assert one(x)[0] is None
        out, got = two(x)
        torch.testing.assert_close(got["c"], out)


def test_without_taps_the_model_is_simply_called() -> None:
    model = Counting()
    out, got = Tapped(model, [], stop_early=True)(torch.zeros(1, 2))
    assert got == {}
    assert out is not None


def test_hooks_are_silent_outside_and_removed_by_close() -> None:
    model = Counting()
    tapped = Tapped(model, ["a", "b:input"])
    assert hooks_of(model) == 2
    x = torch.randn(1, 2)
    y = tapped(x)[1]["a"]
    ref = weakref.ref(y)
    model(x)
    model(x)
    del y
    gc.collect()
    assert ref() is None, "nothing holds on to a captured value"
    tapped.close()
    tapped.close()
    assert hooks_of(model) == 0
    with pytest.raises(TapError, match="closed"):
        tapped(x)


def test_hooks_go_with_the_object() -> None:
    model = Counting()
    tapped = Tapped(model, ["a"])
    assert hooks_of(model) == 1
    del tapped
    gc.collect()
    assert hooks_of(model) == 0


def test_an_error_in_the_model_leaves_it_usable() -> None:
    class Breaks(Counting):
        broken = True

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            if self.broken:
                raise ValueError("broken")
            return x

    model = Breaks()
    tapped = Tapped(model, ["a"])
    with pytest.raises(ValueError, match="broken"):
        tapped(torch.zeros(1, 2))
    assert not tapped._capture.active
    model.broken = False
    assert tapped(torch.zeros(1, 2))[1]["a"].shape == (1, 2)


def test_deepcopy_and_pickle_of_the_model_are_inert() -> None:
    model = Counting()
    tapped = Tapped(model, ["a"])
    x = torch.randn(2, 2)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(x), model(x))
        with torch.no_grad():
            twin.a.weight.zero_()
        fresh = Tapped(twin, ["a"])
        torch.testing.assert_close(fresh(x)[1]["a"], twin.a(x))
    torch.testing.assert_close(tapped(x)[1]["a"], model.a(x))
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)


def test_deepcopy_of_the_tapped_taps_the_copy() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = Counting()
            self.tapped = Tapped(self.student, ["a"], stop_early=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.tapped(x)[1]["a"]

    holder = Holder()
    twin = copy.deepcopy(holder)
    assert twin.tapped.module is twin.student
    assert twin.tapped.module is not holder.student
    with torch.no_grad():
        twin.student.a.weight.zero_()
        twin.student.a.bias.fill_(7)
    for _ in range(2):
        torch.testing.assert_close(twin(torch.randn(1, 2)), torch.full((1, 2), 7.0))


def test_recomputation_in_the_backward_is_not_captured() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(checkpoint(self.a, x, use_reentrant=False))

    model = Checkpointed()
    tapped, plain = Tapped(model, ["a"]), Tapped(copy.deepcopy(model), ["b"])
    for _ in range(3):
        out, got = tapped(torch.randn(2, 2))
        (out.sum() + got["a"].square().sum()).backward()
    assert model.a.weight.grad is not None
    plain.close()


def test_inference_mode() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True)).eval()
    tapped = Tapped(model, ["0"])
    x = torch.randn(4, 2)
    for mode in (torch.no_grad, torch.inference_mode, torch.inference_mode, torch.no_grad):
        with mode():
            torch.testing.assert_close(tapped(x)[1]["0"], model[0](x))


def test_meta_device_and_moves() -> None:
    with torch.device("meta"):
        model = Residual()
    got = shapes(model, ["bn", "head:input"], lambda tapped: tapped(torch.empty(2, 3, 5, 5, device="meta"))[1])
    assert got == {"bn": (2, 3, 5, 5), "head:input": (2, 3)}
    assert hooks_of(model) == 0
    moved = Residual()
    tapped = Tapped(moved, ["bn"])
    moved.double()
    assert tapped(torch.randn(2, 3, 5, 5, dtype=torch.float64))[1]["bn"].dtype == torch.float64


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        ("layer9", "no layer is called 'layer9': the model has no 'layer9'. Did you mean 'layer"),
        ("layer1.7", "'layer1' has no '7'"),
        ("layer1.0.bnn1", "Did you mean 'layer1.0.bn1'"),
        ("bn2", "Did you mean 'bn1' or 'layer1.0.bn2'"),
    ],
)
def test_unknown_paths(tap: str, message: str) -> None:
    with pytest.raises(TapError) as caught:
        Tapped(make_resnet(True), [tap])
    assert message in str(caught.value)


def test_all_problems_at_once_and_no_hook_left() -> None:
    model = Counting()
    with pytest.raises(TapError) as caught:
        Tapped(model, ["a", "x", "b:inptu", "b"])
    assert "'x'" in str(caught.value)
    assert "inptu" in str(caught.value)
    assert hooks_of(model) == 0


def test_a_list_of_layers_never_runs() -> None:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(2, 2)])

    with pytest.raises(TapError, match=r"a ModuleList never runs itself; tap a layer in it, such as blocks\.0"):
        Tapped(Stack(), ["blocks"])
