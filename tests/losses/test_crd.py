"""Contrastive representation distillation: oracle by loops, the state and what moves it, negatives, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import LimbeckError, SignalMissing
from limbeck.losses.crd import CRD
from limbeck.testing import CHECKS, behaviour, check_name, robustness
from limbeck.types import IGNORE, Signals

INDEX = torch.tensor([7, 2, 4])


def made(examples=9, **fields):
    torch.manual_seed(5)
    loss = CRD(**{"dim": 4, "negatives": 6, **fields})
    loss.allocate(examples)
    student, teacher = signals(*torch.randn(2, 3, 5).unbind())
    loss.setup(student, teacher)
    return loss.double(), *signals(*torch.randn(2, 3, 5, dtype=torch.float64).unbind())


def signals(student, teacher, index=INDEX):
    return Signals(features={"a": student}, extra={"index": index}), Signals.of(teacher)


def embedding(layer, x):
    x = layer.weight.detach() @ x.detach() + layer.bias.detach()
    return x / x.norm()


def oracle(loss, student, teacher, rows, constants=(1.0, 1.0), floor=0.0, counted=None):
    total = 0.0
    noise = (rows.shape[1] - 1) / len(loss.classes)
    for i, row in enumerate(rows.tolist()):
        s, t = embedding(loss.student_embedding, student.feature[i]), embedding(loss.teacher_embedding, teacher.feature[i])
        for own, memory, constant in ((s, loss.teacher_memory.vectors, constants[0]), (t, loss.student_memory.vectors, constants[1])):
            ratios = [math.exp(float(own @ memory[j]) / loss.temperature) / constant for j in row]
            total -= math.log(ratios[0] / (ratios[0] + noise + floor))
            terms = [-math.log(noise / (ratio + noise + floor)) for ratio in ratios[1:]]
            kept = [x for k, x in enumerate(terms) if counted is None or counted[i][k]]
            total += sum(kept) * len(terms) / max(len(kept), 1)
    return total / len(rows)


ROWS = torch.tensor([[7, 0, 1, 1], [2, 8, 0, 3], [4, 5, 6, 7]])


def test_oracle():
    loss, student, teacher = made(temperature=0.5)
    expected = oracle(loss, student, teacher, ROWS)
    assert loss.compare(student.feature, teacher.feature, ROWS).item() == pytest.approx(expected, rel=1e-9)


def test_oracle_of_the_official_code():
    loss, student, teacher = made(temperature=0.5, variant="official")
    sides = (loss.student_embedding, student, loss.teacher_memory), (loss.teacher_embedding, teacher, loss.student_memory)
    products = [
        [float(embedding(layer, x.feature[i]) @ memory.vectors[j]) for i, row in enumerate(ROWS.tolist()) for j in row]
        for layer, x, memory in sides
    ]
    constants = (9 * (torch.tensor(products, dtype=torch.float64) / 0.5).exp().mean(1)).tolist()
    expected = oracle(loss, student, teacher, ROWS, constants, floor=1e-7)
    assert loss.compare(student.feature, teacher.feature, ROWS).item() == pytest.approx(expected, rel=1e-10)
    assert loss.log_normalisers.exp().tolist() == pytest.approx(constants, rel=1e-6)
    kept = loss.log_normalisers.clone()
    expected = oracle(loss, student, teacher, ROWS.flip(1), constants, floor=1e-7)
    assert loss.compare(student.feature, teacher.feature, ROWS.flip(1)).item() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(loss.log_normalisers, kept)


def test_forward_draws_negatives_that_are_others():
    loss, student, teacher = made(negatives=50)
    seen = []
    loss.compare = lambda s, t, rows, labels: (seen.append((s, t, rows, labels)), s.sum())[1]
    labels = torch.tensor([1, 2, 0])
    loss(student, teacher, labels)
    s, t, rows, given = seen[0]
    assert s is student.feature
    assert t is teacher.feature
    assert given is labels
    assert rows.shape == (3, 51)
    assert torch.equal(rows[:, 0], INDEX)
    assert (rows[:, 1:] != INDEX[:, None]).all()
    assert sorted(rows.unique().tolist()) == list(range(9))


def test_a_call_in_training_moves_the_state_and_draws_anew():
    loss, student, teacher = made()
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    loss(student, teacher, torch.tensor([1, 2, 0]))
    after = loss.state_dict()
    assert after["draws"] == before["draws"] + 1
    assert after["classes"].tolist() == [IGNORE, IGNORE, 2, IGNORE, 0, IGNORE, IGNORE, 1, IGNORE]
    for name, layer, x in (("student_memory", loss.student_embedding, student), ("teacher_memory", loss.teacher_embedding, teacher)):
        moved = (before[f"{name}.vectors"] != after[f"{name}.vectors"]).any(1)
        assert moved.nonzero()[:, 0].tolist() == sorted(INDEX.tolist())
        expected = 0.5 * before[f"{name}.vectors"][7] + 0.5 * embedding(layer, x.feature[0])
        torch.testing.assert_close(after[f"{name}.vectors"][7], (expected / expected.norm()).detach())
    assert not torch.equal(loss(student, teacher), loss.eval()(student, teacher))


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_nothing_moves_in_evaluation(variant):
    loss, student, teacher = made(variant=variant)
    loss.eval()
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    first = loss(student, teacher, torch.tensor([1, 2, 0]))
    assert torch.equal(loss(student, teacher, torch.tensor([1, 2, 0])), first)
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_negatives_of_the_own_class_do_not_count():
    loss, student, teacher = made(temperature=0.5)
    loss.classes = torch.tensor([0, 1, 0, IGNORE, 2, 1, 2, 1, 0])
    labels = torch.tensor([1, 0, IGNORE])
    counted = [[True, False, False], [False, False, True], [True, True, True]]
    expected = oracle(loss, student, teacher, ROWS, counted=counted)
    assert loss.eval().compare(student.feature, teacher.feature, ROWS, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({"contrast_with": "example"}, torch.tensor([1, 0, 2])),
        ({}, torch.tensor([1.0, 0.0, 2.0])),
        ({}, torch.zeros(3, 2, dtype=torch.int64)),
        ({}, None),
    ],
)
def test_otherwise_all_other_examples_count(fields, labels):
    loss, student, teacher = made(temperature=0.5, **fields)
    loss.classes = torch.zeros(9, dtype=torch.int64)
    expected = oracle(loss, student, teacher, ROWS)
    assert loss.compare(student.feature, teacher.feature, ROWS, labels).item() == pytest.approx(expected, rel=1e-9)
    assert not loss.classes.any()


@pytest.mark.parametrize("examples", [9, 60])
@pytest.mark.parametrize("chunk", [1, 2])
def test_chunk_changes_neither_value_nor_gradient(chunk, examples):
    values = []
    for size in (64, chunk):
        loss, student, teacher = made(examples, chunk=size)
        own = student.feature.requires_grad_()
        value = loss(student, teacher)
        value.backward()
        values.append((value.detach(), own.grad, loss.student_embedding.weight.grad, loss.student_memory.vectors))
    torch.testing.assert_close(values[0], values[1])


STILL = ("purity", "permutation", "precision", "copies")


@pytest.mark.parametrize("check", [check for check in CHECKS if check_name(check) in STILL])
def test_the_contract_holds_where_the_memory_stands_still(check, monkeypatch):
    _still(monkeypatch)
    check(CRD)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_gradcheck(variant):
    """A constant that is not yet set follows the batch without a gradient, as in the authors' code; here it is set."""
    loss, student, teacher = made(variant=variant)
    loss.eval().log_normalisers = torch.tensor([2.0, 1.0], dtype=torch.float64)
    torch.autograd.gradcheck(lambda x: loss.compare(x, teacher.feature, ROWS), student.feature.requires_grad_())


@pytest.mark.slow
def test_it_compiles(monkeypatch):
    _still(monkeypatch)
    robustness.check_compile(CRD)


def _still(monkeypatch):
    rebuild = behaviour.rebuild
    for module in (behaviour, robustness):
        monkeypatch.setattr(module, "rebuild", lambda loss: _small(rebuild, loss).eval())


def _small(rebuild, loss):
    loss.negatives, loss.dim = 10, 4
    return rebuild(loss)


@pytest.mark.slow
def test_training_compiles_too():
    loss, student, teacher = made()
    twin, _, _ = made()
    torch.compiler.reset()
    compiled = torch.compile(twin, fullgraph=True)
    for _ in range(3):
        torch.testing.assert_close(compiled(student, teacher), loss(student, teacher))
    for (_, a), (_, b) in zip(twin.state_dict().items(), loss.state_dict().items(), strict=True):
        torch.testing.assert_close(a, b)


def test_parameters_are_on_the_device_of_the_signals():
    loss = CRD(dim=3)
    loss.setup(*signals(*torch.empty(2, 3, 5, device="meta").unbind()))
    assert {parameter.device.type for parameter in loss.parameters()} == {"meta"}


def test_restarts_with_the_same_negatives():
    loss, student, teacher = made()
    twin, _, _ = made()
    loss(student, teacher)
    twin.load_state_dict(loss.state_dict())
    assert torch.equal(loss(student, teacher), twin(student, teacher))


def test_a_million_examples():
    loss = CRD(dim=2, negatives=100)
    loss.allocate(1_000_000)
    student, teacher = signals(*torch.randn(2, 3, 5).unbind(), index=torch.tensor([0, 500_000, 999_999]))
    loss.setup(student, teacher)
    assert loss(student, teacher).isfinite()


def test_mistakes():
    with pytest.raises(LimbeckError, match=r"^CRD contrasts examples with each other, found a data set of 1; take another loss\.$"):
        CRD().allocate(1)
    CRD().allocate(2)
    loss = CRD()
    student, teacher = signals(*torch.randn(2, 3, 5).unbind())
    loss.setup(student, teacher)
    with pytest.raises(LimbeckError, match=r"^CRD keeps a memory of every example; call allocate\(examples\) before setup\.$"):
        loss(student, teacher)
    with pytest.raises(SignalMissing, match="needs the signal 'index'"):
        loss(Signals.of(student.feature), teacher)


def test_needs_defaults_and_bounds():
    needs = CRD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (False, False, True, "one", "any")
    assert needs.global_batch
    assert needs.extra == ("index",)
    loss = CRD()
    assert (loss.dim, loss.negatives, loss.temperature, loss.momentum) == (128, 16384, 0.1, 0.5)
    assert (loss.contrast_with, loss.variant, loss.chunk) == ("class", "paper", 64)
    with pytest.raises(ValueError, match=r"^CRD\.momentum must be <= 1, got 2$"):
        CRD(momentum=2)


def test_state_before_and_after_allocation():
    loss = CRD(dim=3)
    assert loss.student_memory.vectors.shape == loss.teacher_memory.vectors.shape == (0, 3)
    loss.allocate(4)
    assert loss.student_memory.vectors.shape == (4, 3)
    assert not torch.equal(loss.student_memory.vectors, loss.teacher_memory.vectors)
    assert loss.classes.tolist() == [IGNORE] * 4
    assert loss.log_normalisers.tolist() == [math.inf] * 2
    seeds = [(loss.allocate(2), loss.draws.item())[1] for _ in range(40)]
    assert min(seeds) >= 0
    assert 2**30 < max(seeds) < 2**31


def test_exemptions():
    assert set(CRD.exempt) == {*STILL, "gradcheck", "compile", "equality"}


def test_golden():
    check_parity("crd")
