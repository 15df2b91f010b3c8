"""From hidden states to logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limbeck.errors import SignalMissing
from limbeck.ops.fusion import found_weights, moved
from limbeck.ops.projection import logits_of, narrowed, project, vocabulary_of
from limbeck.tokens import Fused, Hidden, Logits, Projection, Sampled, TopK, part_of, rows_of


def head(*, bias: bool = False, scale: float = 1.0, cap: float | None = None) -> Projection:
    return Projection(torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 0.0]]), torch.tensor([0.5, 0.0, -1.0]) if bias else None, scale, cap)


HIDDEN = torch.tensor([[1.0, 1.0], [2.0, 0.0]])


def test_project_by_hand() -> None:
    assert project(HIDDEN, head()).tolist() == [[3, -1, 3], [2, 0, 6]]
    assert project(HIDDEN, head(scale=2.0)).tolist() == [[6, -2, 6], [4, 0, 12]]
    assert project(HIDDEN, head(bias=True)).tolist() == [[3.5, -1, 2], [2.5, 0, 5]]
    assert project(HIDDEN, head(bias=True, scale=0.5)).tolist() == [[1.75, -0.5, 1], [1.25, 0, 2.5]]
    expected = 2 * torch.tanh(torch.tensor([[1.75, -0.5, 1], [1.25, 0, 2.5]]) / 2)
    torch.testing.assert_close(project(HIDDEN, head(bias=True, scale=0.5, cap=2.0)), expected)


def test_half_precision_is_widened_first() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(5, 64).bfloat16(), torch.randn(7, 64).bfloat16()
    found = project(hidden, Projection(weight))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, hidden.float() @ weight.float().T)


def test_narrowed() -> None:
    whole = head(bias=True, scale=0.5, cap=2.0)
    cut = narrowed(whole, 2)
    assert cut.weight.tolist() == [[1, 2], [0, -1]]
    assert cut.bias is not None
    assert cut.bias.tolist() == [0.5, 0]
    assert (cut.scale, cut.cap) == (0.5, 2.0)
    assert narrowed(whole, 3) is whole
    assert narrowed(head(), 1).bias is None


def test_logits_of_each_form() -> None:
    logits = project(HIDDEN, head())
    torch.testing.assert_close(logits_of(Hidden(HIDDEN, head())), logits)
    torch.testing.assert_close(logits_of(Hidden(HIDDEN, head()), 2), logits[:, :2])
    torch.testing.assert_close(logits_of(Logits(logits), 2), logits[:, :2])
    torch.testing.assert_close(logits_of(Logits(logits)), logits)


def test_topk_spreads_what_is_left() -> None:
    said = TopK(torch.tensor([[3, 1]]), torch.tensor([[0.5, 0.3]]).log())
    torch.testing.assert_close(logits_of(said, 6).exp(), torch.tensor([[0.05, 0.3, 0.05, 0.5, 0.05, 0.05]]))
    both = TopK(torch.tensor([[3, 1], [0, 2]]), torch.tensor([[0.5, 0.3], [0.25, 0.25]]).log())
    torch.testing.assert_close(logits_of(both, 4).exp(), torch.tensor([[0.1, 0.3, 0.1, 0.5], [0.25, 0.25, 0.25, 0.25]]))
    whole = logits_of(TopK(torch.tensor([[1, 0]]), torch.tensor([[0.25, 0.75]]).log()), 2).exp()
    torch.testing.assert_close(whole, torch.tensor([[0.75, 0.25]]))


def test_samples_that_repeat_add_up() -> None:
    said = Sampled(torch.tensor([[2, 0, 2]]), torch.tensor([[0.25, 0.5, 0.25]]))
    assert logits_of(said, 4).exp().tolist() == [[0.5, 0, 0.5, 0]]


def test_stored_tokens_need_the_vocabulary() -> None:
    with pytest.raises(SignalMissing, match="how large the vocabulary"):
        logits_of(TopK(torch.tensor([[0]]), torch.tensor([[-1.0]])))


@pytest.mark.parametrize(
    ("said", "size"),
    [
        (Hidden(HIDDEN, head()), 3),
        (Logits(torch.zeros(2, 5)), 5),
        (TopK(torch.tensor([[7, 1]]), torch.zeros(1, 2)), 8),
        (Sampled(torch.tensor([[4, 1]]), torch.zeros(1, 2)), 5),
    ],
)
def test_vocabulary(said: Hidden | Logits | TopK | Sampled, size: int) -> None:
    assert vocabulary_of(said) == size
    assert type(vocabulary_of(said)) is int


def test_parts_keep_the_temperature() -> None:
    rows: Tensor = torch.tensor([1])
    ids, values = torch.tensor([[0, 1], [2, 3]]), torch.tensor([[-1.0, -2.0], [-3.0, -4.0]])
    top, drawn = part_of(TopK(ids, values, 2.0), rows), part_of(Sampled(ids, values, 3.0), slice(1, 2))
    assert isinstance(top, TopK)
    assert top.temperature == 2
    assert top.ids.tolist() == [[2, 3]]
    assert isinstance(drawn, Sampled)
    assert drawn.temperature == 3
    assert drawn.weights.tolist() == [[-3, -4]]


def test_what_is_stored_small_is_widened_first() -> None:
    ids, log_p = torch.tensor([[3, 1]], dtype=torch.int32), torch.tensor([[0.5, 0.3]]).log().bfloat16()
    found = logits_of(TopK(ids, log_p), 6)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, logits_of(TopK(ids.long(), log_p.float()), 6))
    weights = torch.tensor([[0.25, 0.75]]).half()
    drawn = logits_of(Sampled(ids, weights), 6)
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn.exp(), torch.tensor([[0, 0.75, 0, 0.25, 0, 0]]))


def test_a_head_in_half_precision_reads_wide_states() -> None:
    head16 = Projection(torch.tensor([[1.0, 2.0]]).bfloat16(), torch.tensor([0.5]).bfloat16())
    torch.testing.assert_close(project(torch.tensor([[1.001, 0.0]]), head16), torch.tensor([[1.501]]))


@pytest.mark.parametrize("weight", [None, 0.7])
def test_tokens_of_several_models(weight: float | None) -> None:
    """Of hidden states and of logits; of the tokens that all know; some rows as all of them."""
    generator = torch.Generator().manual_seed(4)
    large, after, before = (torch.randn(6, 7, generator=generator, dtype=torch.float64) for _ in range(3))
    wide = torch.cat([large, torch.full((6, 2), 3.0, dtype=torch.float64)], 1)
    hidden = Hidden(torch.eye(6, dtype=torch.float64), Projection(wide.T.contiguous()))
    said = Fused(hidden, ((Logits(after), Logits(before)),), weight)
    assert vocabulary_of(said) == 7
    weights = found_weights(large, [(after, before)]) if weight is None else torch.full((1, 6), weight)
    assert torch.allclose(logits_of(said), moved(large, [(after, before)], weights.double()))
    assert torch.allclose(
        logits_of(said, 5), logits_of(Fused(Logits(large[:, :5]), ((Logits(after[:, :5]), Logits(before[:, :5])),), weight))
    )
    some = part_of(said, slice(2, 4))
    assert torch.allclose(logits_of(some), logits_of(said)[2:4])
    assert some.weight == weight
    assert [len(rows) for rows in rows_of(said)] == [6, 6, 6]
