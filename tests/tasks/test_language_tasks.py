"""Language models: what the tasks make of a model's answer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.language_models import inputs, tiny
from torch import nn

from limbeck.errors import DataError, ShapeMismatch, SignalMissing, TapError
from limbeck.ops.projection import project
from limbeck.registry import TASKS
from limbeck.taps.tapped import Tapped
from limbeck.tasks._language import Language, at_rows
from limbeck.tokens import Hidden, Logits, Projection
from limbeck.types import Batch, DataInfo, Signals

ROWS = torch.tensor([0, 3, 4, 8])


def task(name: str = "causal_lm") -> Any:
    return TASKS.get(name)()


def batch(model: nn.Module) -> Batch:
    return Batch(inputs(model), torch.tensor([5, 6, 7, 8]), torch.arange(2), rows=ROWS)


def logits_of(signals: Signals) -> torch.Tensor:
    assert isinstance(signals.tokens, Hidden)
    return project(signals.tokens.hidden, signals.tokens.head)


@pytest.mark.parametrize(
    ("name", "kind"), [("causal_lm", "gpt2"), ("causal_lm", "gemma2"), ("causal_lm", "cohere"), ("masked_lm", "bert"), ("seq2seq_lm", "t5")]
)
def test_rows_are_those_of_the_models_own_logits(name: str, kind: str) -> None:
    model = tiny(kind)
    given = batch(model)
    with torch.no_grad():
        expected = model(**given.inputs).logits.flatten(0, 1)[ROWS]
        found = task(name).call(model, None, given)
    assert found.logits is None
    torch.testing.assert_close(logits_of(found), expected, rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_the_logits() -> None:
    model = tiny("gpt2")
    given = batch(model)
    weight = torch.randn(4, 61, generator=torch.Generator().manual_seed(0))
    (model(**given.inputs).logits.flatten(0, 1)[ROWS] * weight).sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    (logits_of(task().call(model, None, given)) * weight).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_layers_are_read_at_the_same_rows() -> None:
    model = tiny("gpt2")
    given = batch(model)
    with torch.no_grad():
        whole = model(**given.inputs, output_hidden_states=True).hidden_states[1]
        tapped = Tapped(model, ["transformer.h.0"])
        found = task().call(tapped, None, given)
    torch.testing.assert_close(found.features["transformer.h.0"], whole.flatten(0, 1)[ROWS])
    assert found.tokens is not None


def test_a_forward_that_ends_early_has_no_tokens() -> None:
    model = tiny("gpt2")
    with torch.no_grad():
        found = task().call(Tapped(model, ["transformer.h.0"], stop_early=True), None, batch(model))
    assert found.tokens is None
    assert found.features["transformer.h.0"].shape == (4, 32)


def test_a_copy_of_a_model_has_a_head_of_its_own() -> None:
    model = tiny("gpt2")
    own = task()
    first = own.head(model)
    assert own.head(model) is first
    other = copy.deepcopy(model)
    assert own.head(other).layer is other.lm_head


def test_batches_must_say_which_tokens_are_trained() -> None:
    model = tiny("gpt2")
    with pytest.raises(SignalMissing, match="which tokens are trained"):
        task().call(model, None, Batch(inputs(model), None, torch.arange(2)))


def test_values_at_rows() -> None:
    value = torch.arange(2 * 7 * 3).reshape(2, 7, 3)
    expected = torch.stack([value[0, 0], value[0, 3], value[0, 4], value[1, 1]])
    assert torch.equal(at_rows(value, ROWS, (2, 7), "x"), expected)
    maps = torch.arange(2 * 5 * 7 * 7).reshape(2, 5, 7, 7)
    found = at_rows(maps, ROWS, (2, 7), "x")
    assert found.shape == (4, 5, 7)
    assert torch.equal(found[3], maps[1, :, 1])
    with pytest.raises(TapError, match=r"'pooler' has values of shape \[2, 3\], not one for each of \[2, 7\] tokens"):
        at_rows(torch.zeros(2, 3), ROWS, (2, 7), "pooler")


def test_a_head_that_knows_too_few_tokens() -> None:
    info = DataInfo("text", "token", 70, (7,))
    with pytest.raises(ShapeMismatch, match="student knows 61 tokens, and the tokenizer of the data has 70"):
        task().check_head(task().call(tiny("gpt2"), None, batch(tiny("gpt2"))).tokens, info, model="student")
    task().check_head(Logits(torch.zeros(2, 72)), info)


def test_statistics_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.tasks import _language

    calls: list[int] = []
    real = _language.token_statistics
    monkeypatch.setattr(_language, "token_statistics", lambda *given: calls.append(1) or real(*given))
    own = task()
    said, labels = Hidden(torch.randn(6, 4), Projection(torch.randn(9, 4))), torch.arange(6)
    report, details = own.report(said, labels), own.details(said, labels)
    assert calls == [1]
    assert set(report) == set(own.maximize)
    assert sum(details["reliability"]["count"]) == 6
    other = Hidden(torch.randn(6, 4), said.head)
    assert own.report(other, labels)["nll"] != report["nll"]
    assert own.agreement(said, said, labels)["top1"] == 1


def test_nothing_to_evaluate_is_told() -> None:
    with pytest.raises(DataError, match="no token to evaluate"):
        task().report(Hidden(torch.randn(0, 4), Projection(torch.randn(9, 4))), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("name", ["causal_lm", "masked_lm", "seq2seq_lm"])
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_example_batches_run(name: str, device: str) -> None:
    own = task(name)
    assert isinstance(own, Language)
    given = own.example(DataInfo("text", "token", 61, (7,), language=name), device=device)  # pyright: ignore[reportArgumentType]
    model = tiny({"causal_lm": "gpt2", "masked_lm": "bert", "seq2seq_lm": "t5"}[name]).to(device)
    found = own.call(model, None, given)
    assert isinstance(found.tokens, Hidden)
    assert found.tokens.hidden.shape == (14, 32)
    assert found.tokens.hidden.device.type == device
