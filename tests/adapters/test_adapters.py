"""Every pair of layouts; the contract of adapters; what is picked and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from limbeck.adapters.base import Adapter
from limbeck.adapters.conv1x1 import Conv1x1
from limbeck.adapters.linear import Linear
from limbeck.adapters.pick import agree, pick
from limbeck.adapters.pool import Pool
from limbeck.adapters.tokens import Tokens
from limbeck.adapters.vector import Vector
from limbeck.errors import CodeNotAllowed, LimbeckError, ShapeMismatch, UnknownName
from limbeck.registry import ADAPTERS

Shape = tuple[int, ...]

CASES: list[tuple[Shape, Shape, str, str, Shape, Shape]] = [
    # student, teacher, match, kind, the student's result, the teacher's result
    ((16,), (64,), "full", "linear", (64,), (64,)),
    ((17, 32), (17, 64), "full", "linear", (17, 64), (17, 64)),
    ((16, 8, 8), (64, 8, 8), "full", "conv1x1", (64, 8, 8), (64, 8, 8)),
    ((16, 8, 8), (64, 4, 4), "full", "conv1x1", (64, 4, 4), (64, 4, 4)),
    ((16, 4, 4), (64, 8, 8), "full", "conv1x1", (64, 4, 4), (64, 4, 4)),
    ((16, 4, 6), (8, 6, 4), "full", "conv1x1", (8, 4, 4), (8, 4, 4)),
    ((16, 8, 8), (16, 4, 4), "full", "pool", (16, 4, 4), (16, 4, 4)),
    ((16, 4, 4), (16, 7, 5), "full", "pool", (16, 4, 4), (16, 4, 4)),
    ((65, 32), (17, 32), "full", "tokens", (16, 32), (16, 32)),
    ((65, 32), (17, 48), "full", "tokens", (16, 48), (16, 48)),
    ((16, 32), (17, 48), "full", "tokens", (16, 48), (16, 48)),
    ((69, 8), (64, 8), "full", "tokens", (64, 8), (64, 8)),
    ((16, 8, 8), (17, 48), "full", "tokens", (16, 48), (16, 48)),
    ((16, 3, 5), (16, 48), "full", "tokens", (15, 48), (15, 48)),
    ((17, 48), (16, 8, 8), "full", "tokens", (16, 4, 4), (16, 4, 4)),
    ((16, 8, 8), (64,), "full", "vector", (64,), (64,)),
    ((17, 8), (64,), "full", "vector", (64,), (64,)),
    ((64,), (16, 8, 8), "full", "vector", (16,), (16,)),
    ((64,), (17, 8), "full", "vector", (8,), (8,)),
    ((16, 8, 8), (64, 4, 4), "space", "pool", (16, 4, 4), (64, 4, 4)),
    ((16, 4, 4), (64, 8, 8), "space", "pool", (16, 4, 4), (64, 4, 4)),
    ((17, 32), (16, 8, 8), "space", "pool", (32, 4, 4), (16, 4, 4)),
    ((16, 8, 8), (17, 32), "space", "pool", (16, 4, 4), (32, 4, 4)),
    ((65, 32), (17, 48), "space", "pool", (32, 4, 4), (48, 4, 4)),
]
IDS = [f"{s}->{t}:{m}" for s, t, m, *_ in CASES]


def features(student: Shape, teacher: Shape, device: str = "cpu") -> tuple[Tensor, Tensor]:
    return torch.randn(2, *student, device=device), torch.randn(2, *teacher, device=device)


def parameter_free(kind: str) -> bool:
    return kind == "pool"


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("student", "teacher", "match", "kind", "out_s", "out_t"), CASES, ids=IDS)
def test_every_pair(device: str, student: Shape, teacher: Shape, match: str, kind: str, out_s: Shape, out_t: Shape) -> None:
    s, t = features(student, teacher, device)
    adapter = pick(s, t, match)
    assert adapter is not None
    assert adapter.describe() == {"kind": kind, "student": list(student), "teacher": list(teacher)}
    a, b = adapter(s, t)
    assert (tuple(a.shape[1:]), tuple(b.shape[1:])) == (out_s, out_t)
    assert agree(a, b, match)
    assert all(p.device.type == device for p in adapter.parameters())
    assert bool(list(adapter.parameters())) is not parameter_free(kind)


@pytest.mark.parametrize(("student", "teacher", "match", "kind", "out_s", "out_t"), CASES, ids=IDS)
def test_exactly_one_adapter_suits(student: Shape, teacher: Shape, match: str, kind: str, out_s: Shape, out_t: Shape) -> None:
    """So that the order in which adapters are asked does not matter."""
    s, t = features(student, teacher)
    assert [name for name in ADAPTERS.names() if ADAPTERS.get(name).suits(s, t, match)] == [kind]


@pytest.mark.parametrize(("student", "teacher", "match", "kind", "out_s", "out_t"), CASES, ids=IDS)
def test_contract(student: Shape, teacher: Shape, match: str, kind: str, out_s: Shape, out_t: Shape) -> None:
    s, t = features(student, teacher)
    s.requires_grad_()
    t.requires_grad_()
    adapter = pick(s, t, match)
    assert adapter is not None
    a, b = adapter(s, t)
    assert not b.requires_grad, "no gradient reaches the teacher"
    a.square().sum().backward()
    assert t.grad is None
    assert s.grad is not None
    assert s.grad.abs().sum() > 0
    assert all(p.grad is not None for p in adapter.parameters())

    other = pick(*features(student, teacher), match)
    assert other is not None
    other.load_state_dict(adapter.state_dict())
    torch.testing.assert_close(other(s, t), (a, b), rtol=0, atol=0)
    torch.testing.assert_close(copy.deepcopy(adapter)(s, t), (a, b), rtol=0, atol=0)
    order = torch.tensor([1, 0])
    torch.testing.assert_close(adapter(s[order], t[order])[0], a[order])
    half = adapter(s.detach().bfloat16(), t.detach())[0]
    assert half.isfinite().all()


@pytest.mark.parametrize("match", ["any", "space", "full"])
@pytest.mark.parametrize("shape", [(8,), (5, 8), (8, 4, 4), (2, 3, 4, 5)])
def test_agreeing_shapes_need_none(match: str, shape: Shape) -> None:
    assert pick(*features(shape, shape), match) is None
    assert pick(*features(shape, shape), match, "none") is None


@pytest.mark.parametrize(
    ("student", "teacher", "match"),
    [
        ((8, 4, 4), (16, 4, 4), "space"),
        ((5, 8), (5, 16), "space"),
        ((8,), (16,), "space"),
        ((8,), (5, 4, 4), "any"),
        ((8,), (1, 2, 3, 4), "any"),
    ],
)
def test_what_need_not_agree(student: Shape, teacher: Shape, match: str) -> None:
    assert pick(*features(student, teacher), match) is None


def test_values_by_hand() -> None:
    s, t = torch.arange(16.0).view(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)
    torch.testing.assert_close(pick(s, t, "full")(s, t)[0], torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))  # pyright: ignore[reportOptionalCall]
    tokens = torch.cat([torch.full((1, 1, 1), 99.0), s.flatten(2).transpose(1, 2)], 1)
    a, _ = pick(tokens, t, "space")(tokens, t)  # pyright: ignore[reportOptionalCall]
    torch.testing.assert_close(a, torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))
    m, v = torch.arange(8.0).view(1, 2, 2, 2), torch.zeros(1, 2)
    adapter = Vector()
    adapter.setup(m, v)
    with torch.no_grad():
        adapter.project.weight.copy_(torch.eye(2))
        adapter.project.bias.zero_()
    torch.testing.assert_close(adapter(m, v)[0], torch.tensor([[1.5, 5.5]]))


def test_tokens_keep_their_places() -> None:
    """Tokens to a map and back lands each token where it was."""
    grid = torch.arange(6.0).view(1, 1, 2, 3)
    tokens = grid.flatten(2).transpose(1, 2)
    adapter = Tokens(bias=False)
    adapter.setup(tokens, grid)
    with torch.no_grad():
        adapter.project.weight.fill_(1)
    torch.testing.assert_close(adapter(tokens, grid), (grid, grid))


@pytest.mark.parametrize(("resize", "size"), [("smaller", 4), ("student", 8), ("teacher", 4)])
def test_resize(resize: str, size: int) -> None:
    s, t = features((3, 8, 8), (5, 4, 4))
    a, b = pick(s, t, "full", options={"resize": resize})(s, t)  # pyright: ignore[reportOptionalCall]
    assert a.shape == b.shape == (2, 5, size, size)


def test_number_of_leading_tokens() -> None:
    s, t = features((4 + 16, 8), (16, 8))
    with pytest.raises(ShapeMismatch, match="20 tokens with 0, 1, 2 or 5 leading tokens"):
        pick(*features((20, 8), (9, 8)), "full")
    a, b = pick(s, t, "full", options={"student_prefix": 4})(s, t)  # pyright: ignore[reportOptionalCall]
    assert a.shape == b.shape == (2, 16, 8)


def test_a_named_adapter_is_used_even_where_shapes_agree() -> None:
    s, t = features((8, 4, 4), (8, 4, 4))
    adapter = pick(s, t, "full", "conv1x1", {"batch_norm": True})
    assert isinstance(adapter, Conv1x1)
    assert adapter.describe() == {"kind": "conv1x1", "student": [8, 4, 4], "teacher": [8, 4, 4], "batch_norm": True}
    torch.testing.assert_close(adapter(s, t)[0].mean((0, 2, 3)), torch.zeros(8), atol=1e-5, rtol=0)
    assert isinstance(pick(s, t, "any", "pool"), Pool)


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "message"),
    [
        (
            (8, 4, 4),
            (8,),
            "conv1x1",
            "adapter 'conv1x1' joins map -> map; the student's feature is map (2, 8, 4, 4), the teacher's vector (2, 8)",
        ),
        ((5, 8), (9, 8), "linear", "Use adapter: {kind: tokens}"),
        ((8, 4, 4), (16, 4, 4), "none", "adapter: none leaves them so"),
        ((2, 3, 4, 5), (3, 4), "auto", "5-dimensional (2, 2, 3, 4, 5)"),
        ((7, 4), (11, 4), "auto", "form no square grid"),
    ],
)
def test_shapes_that_do_not_fit(student: Shape, teacher: Shape, kind: str, message: str) -> None:
    with pytest.raises(ShapeMismatch) as caught:
        pick(*features(student, teacher), "full", kind)
    assert message in str(caught.value)


def test_wrong_names_and_values() -> None:
    s, t = features((8, 4, 4), (16, 4, 4))
    with pytest.raises(UnknownName, match=r"no adapter is called 'conv1'. Did you mean 'conv1x1'\?"):
        pick(s, t, "full", "conv1")
    with pytest.raises(UnknownName, match=r"option of adapter 'conv1x1'.*'biass'. Did you mean 'bias'\?"):
        pick(s, t, "full", options={"biass": False})
    with pytest.raises(LimbeckError, match=r"Conv1x1.resize must be one of 'smaller', 'student', 'teacher', got 'larger'"):
        pick(s, t, "full", options={"resize": "larger"})
    with pytest.raises(CodeNotAllowed):
        pick(s, t, "full", "mine:Adapter")


def test_float64_student_gets_float64_parameters() -> None:
    s, t = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 5)
    adapter = pick(s, t, "full")
    assert isinstance(adapter, Linear)
    assert adapter.project.weight.dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: adapter(x, t)[0], (s.requires_grad_(),))


def test_the_registry_holds_adapters_only() -> None:
    assert ADAPTERS.names() == ["conv1x1", "conv_regressor", "linear", "pool", "tokens", "vector"]
    assert all(issubclass(ADAPTERS.get(name), Adapter) for name in ADAPTERS.names())
