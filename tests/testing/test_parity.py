"""Golden cases: what is compared, and what the verdict says."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.golden_cases import GRADIENT, STUDENT, TEACHER, write
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.testing.parity import Case, Verdict, adapter, compare, run
from limbeck.testing.parity import case as cases
from limbeck.testing.parity.case import find_adapters, read_case


def mean_square(case: Case) -> Tensor:
    return case.hp["factor"] * (case.student.logits - case.teacher.logits).square().mean()


def judged(folder: Path, function: Any = mean_square, **changes: Any) -> Verdict:
    return compare(read_case(write(folder, **changes)), function)


def test_equal_numbers_pass(tmp_path: Path):
    assert judged(tmp_path) == Verdict("mean_square", "case0", "pass", 0.0, "")


def test_a_value_within_the_tolerance_passes_and_its_error_is_told(tmp_path: Path):
    found = judged(tmp_path, out_loss=np.array(1.25 * (1 + 5e-6)))
    assert found.verdict == "pass"
    assert found.error == pytest.approx(5e-6, rel=1e-3)


def test_a_value_that_differs(tmp_path: Path):
    found = judged(tmp_path, hyperparameters={"factor": 1.01})
    assert (found.verdict, found.note) == ("differs", "loss differs")
    assert found.error == pytest.approx(0.01)


def test_a_gradient_that_differs(tmp_path: Path):
    """The value alone would pass: a constant that the gradient does not know."""

    def detached(case: Case) -> Tensor:
        own = case.student.logits
        return (own.detach() - case.teacher.logits).square().mean() + 0 * own.sum()

    found = judged(tmp_path, detached)
    assert (found.verdict, found.note, found.error) == ("differs", "grad_student_logits differs", 1.0)


@pytest.mark.parametrize("how", ["detached", "unused"])
def test_no_gradient_counts_as_zero(tmp_path: Path, how: str):
    def constant(case: Case) -> Tensor:
        other = torch.zeros((), requires_grad=how == "unused")
        return mean_square(case).detach() + other

    assert judged(tmp_path, constant).note == "grad_student_logits differs"
    assert judged(tmp_path, constant, out_grad_student_logits=np.zeros((2, 2))).verdict == "pass"


def test_a_missing_output_is_named(tmp_path: Path):
    found = judged(tmp_path, out_target=np.array(1.0), out_others=np.array(1.0))
    assert found == Verdict("mean_square", "case0", "differs", None, "ours gives no others, target")


def test_outputs_by_name(tmp_path: Path):
    def both(case: Case) -> Mapping[str, Tensor]:
        return {"loss": mean_square(case), "gap": case.student.logits - case.teacher.logits, "more": torch.zeros(3)}

    assert judged(tmp_path, both, out_gap=STUDENT - TEACHER).verdict == "pass"
    assert judged(tmp_path, both, out_gap=TEACHER - STUDENT) == Verdict("mean_square", "case0", "differs", 2.0, "gap differs")


def test_the_first_output_that_differs_is_named_and_the_largest_error_is_told(tmp_path: Path):
    found = judged(tmp_path, out_loss=np.array(1.0), out_grad_student_logits=3 * GRADIENT)
    assert (found.note, found.error) == ("loss differs", pytest.approx(2 / 3))


def test_whole_numbers_and_truth_values_are_compared(tmp_path: Path):
    def more(case: Case) -> Mapping[str, Tensor]:
        return {"loss": mean_square(case), "order": torch.tensor([2, 0, 1]), "kept": torch.tensor([True, False])}

    assert judged(tmp_path, more, out_order=np.array([2, 0, 1]), out_kept=np.array([True, False])).verdict == "pass"
    assert judged(tmp_path, more, out_order=np.array([2, 1, 0]), out_kept=np.array([True, False])).note == "order differs"
    assert judged(tmp_path, more, out_order=np.array([2, 0, 1]), out_kept=np.array([True, True])).note == "kept differs"


def test_another_number_of_values_differs(tmp_path: Path):
    found = judged(tmp_path, lambda case: {"loss": mean_square(case), "gap": torch.zeros(3)}, out_gap=np.zeros(4))
    assert (found.verdict, found.error) == ("differs", math.inf)
    assert "gap differs" in found.note


def test_shapes_of_the_same_values_do_not_matter(tmp_path: Path):
    assert judged(tmp_path, lambda case: mean_square(case)[None]).verdict == "pass"


def test_nan_and_infinity_equal_themselves_only(tmp_path: Path):
    def odd(case: Case) -> Mapping[str, Tensor]:
        return {"loss": mean_square(case), "odd": torch.tensor([math.nan, math.inf, -math.inf, 1.0])}

    assert judged(tmp_path, odd, out_odd=np.array([np.nan, np.inf, -np.inf, 1.0])) == Verdict("mean_square", "case0", "pass", 0.0)
    for wrong in (
        [0.0, np.inf, -np.inf, 1.0],
        [np.nan, 1.0, -np.inf, 1.0],
        [np.nan, np.inf, np.inf, 1.0],
        [np.nan, np.inf, -np.inf, np.nan],
    ):
        found = judged(tmp_path, odd, out_odd=np.array(wrong))
        assert (found.verdict, found.error, found.note) == ("differs", math.inf, "odd differs")


def test_small_values_are_judged_by_the_absolute_tolerance(tmp_path: Path):
    def small(case: Case) -> Mapping[str, Tensor]:
        return {"loss": mean_square(case), "small": torch.tensor([3e-9])}

    found = judged(tmp_path, small, out_small=np.array([0.0]))
    assert found.verdict == "pass"
    assert found.error == pytest.approx(3e-9 / 1e-3)
    assert judged(tmp_path, small, out_small=np.array([0.0]), rtol=0.0).error == pytest.approx(0.3)
    assert judged(tmp_path, small, out_small=np.array([0.0]), atol=1e-9).verdict == "differs"


def test_an_adapter_that_fails_is_a_finding(tmp_path: Path):
    found = judged(tmp_path, lambda case: case["no such input"])
    assert found == Verdict("mean_square", "case0", "differs", None, "KeyError: 'no such input'")


def test_what_a_case_holds(tmp_path: Path):
    case = read_case(write(tmp_path, student_features_0=STUDENT, out_grad_student_features_0=STUDENT, rtol=1e-3, atol=1e-4))
    assert (case.method, case.name, case.rtol, case.atol, case.hp) == ("mean_square", "case0", 1e-3, 1e-4, {"factor": 1.0})
    assert torch.equal(case["teacher_logits"], torch.from_numpy(TEACHER))
    assert case.labels is not None
    assert case.labels.tolist() == [1, 0]
    assert {name for name, value in case.inputs.items() if value.requires_grad} == {"student_logits", "student_features_0"}
    assert case.expected.keys() == {"loss", "grad_student_logits", "grad_student_features_0"}
    assert case.student.logits is case["student_logits"]
    assert list(case.student.features) == ["0"]
    assert case.teacher.features == {}
    bare = read_case(write(tmp_path, "bare", student_logits=None, labels=None, out_grad_student_logits=None))
    assert bare.student.logits is None
    assert bare.labels is None


def test_a_series_is_in_the_order_of_its_numbers(tmp_path: Path):
    """Not in that of the letters, in which 10 comes before 2."""
    layers = {f"student_features_{i}": np.full(2, float(i)) for i in range(12)}
    case = read_case(write(tmp_path, **layers, student_features_extra=STUDENT, my_student_features_3=STUDENT))
    assert [int(value[0]) for value in case.series("student_features")] == list(range(12))
    assert [int(value[0]) for value in case.student.features.values()] == list(range(12))
    assert case.series("teacher_features") == []
    single = read_case(write(tmp_path, "single", student_features=STUDENT))
    assert [tuple(value.shape) for value in single.series("student_features")] == [(2, 2)]
    dotted = read_case(write(tmp_path, "dotted", **{"a.b_0": STUDENT, "axb_1": STUDENT}))
    assert len(dotted.series("a.b")) == 1


class Twice(nn.Module):
    """A module inside a module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2, bias=False)


def test_gradients_of_parameters_are_those_of_their_inputs(tmp_path: Path):
    weight = np.array([[1.0, 2.0], [3.0, 4.0]])
    # With f = sum(x W^T), the gradient of W[i, j] is the sum of column j of x.
    gradient = np.broadcast_to(STUDENT.sum(0), (2, 2))

    def linear(case: Case) -> Tensor:
        module = Twice().double()
        case.load(module, {"inner.weight": "param_w"})
        return module.inner(case.student.logits).sum()

    out = {"out_loss": np.array((STUDENT @ weight.T).sum()), "out_grad_student_logits": np.broadcast_to(weight.sum(0), (2, 2))}
    found = judged(tmp_path, linear, param_w=weight, out_grad_param_w=gradient, **out)
    assert found == Verdict("mean_square", "case0", "pass", 0.0, "")
    assert judged(tmp_path, linear, param_w=weight, out_grad_param_w=2 * gradient, **out).note == "grad_param_w differs"


def test_loaded_values_are_reshaped_and_refused_where_they_do_not_fit(tmp_path: Path):
    case = read_case(write(tmp_path, param_w=np.arange(4.0), out_grad_param_w=np.zeros(4), param_x=np.zeros(3)))
    module = Twice().double()
    case.load(module, {"inner.weight": "param_w"})
    assert torch.equal(module.inner.weight, torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64))
    assert module.inner.weight.requires_grad
    assert case.parameters == {"param_w": module.inner.weight}
    module.inner.weight.data += 1
    assert case["param_w"].tolist() == [0.0, 1.0, 2.0, 3.0], "a copy, so that training ours leaves the case alone"
    with pytest.raises(LimbeckError, match=r"^param_x has the shape \[3\], our parameter inner\.weight \[2, 2\]\.$"):
        case.load(module, {"inner.weight": "param_x"})


@pytest.mark.parametrize("what", ["method", "case", "hyperparameters", "rtol", "atol"])
def test_a_description_without_a_key_is_named(tmp_path: Path, what: str):
    path = write(tmp_path, **{what: None}) if what != "method" else write(tmp_path)
    if what == "method":
        path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "method"}))
    with pytest.raises(LimbeckError, match=rf"expected a golden case \(JSON with .*case0\.npz\), found: KeyError: '{what}'"):
        read_case(path)


@pytest.mark.parametrize("damage", ["absent", "empty", "cut", "text", "json", "list"])
def test_damaged_files_are_named(tmp_path: Path, damage: str):
    path = write(tmp_path)
    arrays = path.with_suffix(".npz")
    if damage == "absent":
        arrays.unlink()
    elif damage == "empty":
        arrays.write_bytes(b"")
    elif damage == "cut":
        arrays.write_bytes(arrays.read_bytes()[:-100])
    elif damage == "text":
        arrays.write_text("no zip file")
    else:
        path.write_text("{" if damage == "json" else "[]")
    with pytest.raises(LimbeckError, match=r"mean_square/case0\.json: expected a golden case") as caught:
        read_case(path)
    assert caught.value.__cause__ is not None


def test_objects_are_not_unpickled(tmp_path: Path):
    path = write(tmp_path, student_logits=np.array([{"a": 1}], dtype=object))
    with pytest.raises(LimbeckError, match="Object arrays cannot be loaded when allow_pickle=False"):
        read_case(path)


def test_a_folder_is_run_in_order_and_without_adapter_a_method_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules["limbeck.testing.parity.run"], "find_adapters", lambda: {"mean_square": mean_square})
    for name, method in (("b", "mean_square"), ("a", "mean_square"), ("z", "another")):
        write(tmp_path, name, method)
    found = list(run(tmp_path))
    assert [(item.method, item.case, item.verdict) for item in found] == [
        ("another", "z", "missing"),
        ("mean_square", "a", "pass"),
        ("mean_square", "b", "pass"),
    ]
    assert found[0] == Verdict("another", "z", "missing", None, "no adapter has this name")


def test_an_empty_folder_is_a_mistake(tmp_path: Path):
    with pytest.raises(LimbeckError, match=r"expected golden cases \(METHOD/CASE\.json with METHOD/CASE\.npz\), found none\.$"):
        list(run(tmp_path))
    with pytest.raises(LimbeckError, match="found none"):
        list(run(tmp_path / "nowhere"))


def test_adapters_are_found_by_their_decorator(monkeypatch: pytest.MonkeyPatch):
    assert find_adapters()["kd"].__name__ == "kd"
    monkeypatch.setattr(cases, "_ADAPTERS", {})

    @adapter("one", "two")
    def first(case: Case) -> Tensor:
        return mean_square(case)

    assert set(cases._ADAPTERS.items()) == {("one", first), ("two", first)}
    assert adapter("one")(first) is first, "reading a module twice does no harm"
    with pytest.raises(LimbeckError, match=r"^two adapters for 'two': .*first and mean_square\.$"):
        adapter("two")(mean_square)
