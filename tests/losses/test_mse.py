"""Mean squared error: value by hand, both targets, missing targets."""

from __future__ import annotations

import pytest
import torch
from tests.losses.padded import check_padding

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.mse import MSE, mean_squared_error, squared_error
from limbeck.types import Signals

NOTHING = Signals()


def test_value_by_hand():
    got = MSE()(Signals(torch.tensor([[1.0, 2.0], [0.0, 0.0]])), Signals(torch.tensor([[4.0, 6.0], [0.0, 1.0]])))
    torch.testing.assert_close(got, torch.tensor([12.5, 0.5]))


def test_oracle_on_maps(draw):
    student, teacher = draw(2, 3, 2, 2)
    got = squared_error(student, teacher)
    for i in range(2):
        pairs = zip(student[i].flatten().tolist(), teacher[i].flatten().tolist(), strict=True)
        assert got[i].flatten().tolist() == pytest.approx([(a - b) ** 2 for a, b in pairs], rel=1e-12)


def test_of_tokens_a_value_each_and_of_maps_a_value_an_example(draw):
    for shape in ((2, 5), (2, 3, 4), (2, 3, 2, 2), (2, 2, 3, 2, 2)):
        student, teacher = draw(*shape)
        expected = squared_error(student, teacher)
        expected = expected.mean(-1) if len(shape) == 3 else expected.flatten(1).mean(1)
        torch.testing.assert_close(mean_squared_error(student, teacher), expected)
        torch.testing.assert_close(MSE()(Signals.of(student), Signals.of(teacher)), expected)


def test_features_take_precedence_over_logits(draw):
    logits = draw(2, 4)
    features = draw(2, 3, 5, seed=8)
    student, teacher = (Signals(z, {"layer": f}) for z, f in zip(logits, features, strict=True))
    torch.testing.assert_close(MSE()(student, teacher), squared_error(*features).mean(-1))
    torch.testing.assert_close(MSE()(Signals(logits[0]), Signals(logits[1])), squared_error(*logits).mean(-1))


def test_labels_as_target(draw):
    predictions, targets = draw(3, 2)
    expected = squared_error(predictions, targets).mean(1)
    torch.testing.assert_close(MSE(target="labels")(Signals(predictions), NOTHING, targets), expected)


def test_one_target_may_come_without_its_dimension(draw):
    """`(batch,)` labels with `(batch, 1)` predictions must not broadcast to a square."""
    predictions, targets = draw(3, 1)
    got = MSE(target="labels")(Signals(predictions), NOTHING, targets[:, 0])
    torch.testing.assert_close(got, (predictions - targets).square().squeeze(-1))


def test_one_target_a_token_may_come_without_its_dimension(draw):
    predictions, targets = draw(2, 3, 1)
    got = MSE(target="labels")(Signals(predictions), NOTHING, targets[..., 0])
    torch.testing.assert_close(got, (predictions - targets).square().squeeze(-1))


def test_missing_target_counts_as_fitted(draw):
    predictions, targets = draw(2, 2)
    targets[0, 1] = float("nan")
    predictions.requires_grad_()
    got = MSE(target="labels")(Signals(predictions), NOTHING, targets)
    assert got[0].item() == pytest.approx((predictions[0, 0] - targets[0, 0]).item() ** 2 / 2)
    got.sum().backward()
    assert predictions.grad[0, 1] == 0
    assert predictions.grad[0, 0].item() == pytest.approx((predictions[0, 0] - targets[0, 0]).item())


def test_float32_predictions_with_float64_targets():
    got = MSE(target="labels")(Signals(torch.zeros(2, 1)), NOTHING, torch.ones(2, dtype=torch.float64))
    assert got.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("ours", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("theirs", [torch.float32, torch.bfloat16, torch.float16])
def test_precisions_may_differ(ours, theirs):
    student = torch.tensor([[1.0, 300.0]], dtype=ours, requires_grad=True)
    teacher = torch.tensor([[1.0078125, 44.0]], dtype=theirs)
    got = squared_error(student, teacher)
    assert got.dtype == torch.float32
    assert got.tolist() == [[pytest.approx(0.0078125**2), 256.0**2]]
    got.sum().backward()
    assert student.grad.tolist() == [[pytest.approx(-0.015625), 512.0]]  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("ours", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("theirs", [torch.float32, torch.bfloat16, torch.float16])
def test_precisions_of_means_may_differ(ours, theirs):
    student = torch.tensor([[1.0, 300.0]], dtype=ours, requires_grad=True)
    teacher = torch.tensor([[1.0078125, 44.0]], dtype=theirs)
    got = mean_squared_error(student, teacher)
    assert got.dtype == torch.float32
    assert got.tolist() == [32768.0]
    got.sum().backward()
    assert student.grad.tolist() == [[-0.0078125, 256.0]]  # pyright: ignore[reportOptionalMemberAccess]


def test_a_missing_target_of_lower_precision_is_fitted_exactly():
    predictions = torch.tensor([[1.0001]], requires_grad=True)
    got = MSE(target="labels")(Signals(predictions), NOTHING, torch.tensor([[float("nan")]], dtype=torch.float16))
    assert got.tolist() == [0.0]


def test_defaults_bounds_and_mistakes():
    assert MSE().target == "teacher"
    with pytest.raises(ValueError, match=r"^MSE\.target must be one of 'teacher', 'labels', got 'teachers'$"):
        MSE(target="teachers")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ShapeMismatch, match=r"^student \[2, 3\] and teacher \[2, 4\]"):
        MSE()(Signals.of(torch.zeros(2, 3)), Signals.of(torch.zeros(2, 4)))
    with pytest.raises(ShapeMismatch, match=r"outputs \[2, 3\] and labels \[2\] must have the same shape; the model needs"):
        MSE(target="labels")(Signals(torch.zeros(2, 3)), NOTHING, torch.zeros(2))
    with pytest.raises(SignalMissing, match=r"features come in pairs, found 1 of the student \['0'\] and 2 of the teacher"):
        MSE()(Signals.of(torch.zeros(2, 3)), Signals.of(torch.zeros(2, 3), torch.zeros(2, 3)))


def test_mean_of_what_is_equal_is_0_with_the_gradient_0():
    x = torch.ones(2, 3, requires_grad=True)
    value = mean_squared_error(x, torch.ones(2, 3))
    value.sum().backward()
    assert value.tolist() == [0.0, 0.0]
    assert x.grad is not None
    assert not x.grad.any()


def test_needs_follow_the_target():
    needs = MSE().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (True, False, True, "optional", "full")
    needs = MSE(target="labels").needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, True, False, "none", ("real",))


def test_padding(draw):
    assert not MSE(target="labels").needs.padding
    for loss in (MSE(),):
        check_padding(loss, *draw(2, 4, 6))


def test_elements_are_compared_of_equal_shapes_only():
    with pytest.raises(ShapeMismatch, match=r"^student \[2, 3\] and teacher \[1, 3\]"):
        squared_error(torch.zeros(2, 3), torch.zeros(1, 3))
