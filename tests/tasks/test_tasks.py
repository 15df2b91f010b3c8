"""All tasks: calling models, reading their outputs, judging them."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false

import json
import math
from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from limbeck.data.base import DataRequest
from limbeck.data.load import load_data
from limbeck.errors import DataError, ShapeMismatch, SignalMissing
from limbeck.models.base import Normalization
from limbeck.registry import LOSSES, TASKS
from limbeck.taps.tapped import Tapped
from limbeck.types import IGNORE, Batch, DataInfo

NAMES = ["classification", "multilabel", "regression", "text_classification"]


def task(name):
    return TASKS.get(name)()


def info_of(name, outputs=3):
    kind = {"text_classification": "text", "regression": "tabular"}.get(name, "image")
    shape = {"text": (12,), "tabular": (5,), "image": (1, 8, 8)}[kind]
    return DataInfo(kind, task(name).labels, outputs, shape, mean=(0.5,), std=(2.0,))


def test_all_are_found():
    assert TASKS.names() == sorted([*NAMES, "joint", "causal_lm", "masked_lm", "seq2seq_lm", "span_extraction", "token_classification"])


@pytest.mark.parametrize("name", NAMES)
def test_task_is_complete(name):
    one = task(name)
    assert one.loss in LOSSES.names()
    assert one.labels in LOSSES.get(one.loss)().needs.label_kinds
    assert one.monitor in one.maximize
    info = info_of(name, outputs=11)
    labels = one._example_labels(info, 6, "cpu")
    metrics = one.report(torch.randn(6, 11), labels)
    assert set(metrics) == set(one.maximize)
    assert one.predictions(torch.randn(6, 11)).shape[0] == 6
    json.dumps(one.details(torch.randn(6, 11), labels))
    agreement = one.agreement(torch.randn(6, 11), torch.randn(6, 11), labels)
    assert (agreement is None) == (name == "regression")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_examples_fit_the_data(name, device):
    info = info_of(name)
    batch = task(name).example(info, batch=3, device=device)
    tensors = list(batch.inputs.values()) if name == "text_classification" else [batch.inputs]
    for tensor in tensors:
        assert tensor.shape == (3, *info.input_shape)
        assert tensor.device.type == device
    assert batch.labels.shape == ((3,) if info.labels == "class" else (3, 3))
    assert len(batch) == 3


def test_normalisation_and_taps():
    model = nn.Sequential(OrderedDict(flat=nn.Flatten(), head=nn.Linear(64, 3)))
    one, batch = task("classification"), task("classification").example(info_of("classification"), device="cpu")
    normalization = Normalization((0.5,), (2.0,))
    expected = model((batch.inputs - 0.5) / 2)
    plain = one.call(model, normalization, batch)
    torch.testing.assert_close(plain.logits, expected)
    assert plain.features == {}
    tapped = Tapped(model, ["flat"])
    signals = one.call(tapped, normalization, batch)
    torch.testing.assert_close(signals.logits, expected)
    torch.testing.assert_close(signals.features["flat"], ((batch.inputs - 0.5) / 2).flatten(1))
    tapped.close()
    early = Tapped(model, ["flat"], stop_early=True)
    assert one.call(early, None, batch).logits is None
    early.close()
    torch.testing.assert_close(one.call(model, None, batch).logits, model(batch.inputs))


Named = namedtuple("Named", ["logits", "aux"])


@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_every_form(name):
    x = torch.randn(2, 3)
    for output in (x, (x, 1), [x], {"logits": x, "loss": None}, SimpleNamespace(logits=x), Named(x, x + 1)):
        assert task(name).logits(output) is x


@pytest.mark.parametrize("output", [None, {"out": torch.zeros(1)}, (), ("x",), 3])
def test_outputs_without_logits(output):
    with pytest.raises(SignalMissing, match="no logits are found"):
        task("classification").logits(output)


def test_regression_takes_flat_outputs():
    assert task("regression").logits(torch.zeros(4)).shape == (4, 1)


def test_heads_that_do_not_fit():
    one, info = task("classification"), info_of("classification", outputs=10)
    one.check_head(torch.empty(2, 10, device="meta"), info)
    with pytest.raises(
        ShapeMismatch, match=r"the teacher gives outputs of shape \(2, 1000\), the data have 10 classes: expected \(batch, 10\)"
    ):
        one.check_head(torch.empty(2, 1000, device="meta"), info, model="the teacher")


def test_unlabelled_examples_are_not_judged():
    logits = torch.tensor([[5.0, 0.0], [0.0, 5.0], [5.0, 0.0]])
    assert task("classification").report(logits, torch.tensor([0, IGNORE, 1]))["accuracy"] == 0.5
    assert task("regression").report(torch.tensor([[1.0], [9.0]]), torch.tensor([[1.0], [math.nan]]))["mae"] == 0.0
    with pytest.raises(DataError, match="no example to evaluate"):
        task("classification").report(logits, torch.full((3,), IGNORE))


def test_details_of_a_classifier():
    details = task("classification").details(torch.eye(3), torch.tensor([0, 1, 1]))
    assert details["confusion"] == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert sum(details["reliability"]["count"]) == 3


def test_text_model_by_name():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
        num_labels=3,
    )
    model = transformers.BertForSequenceClassification(config).eval()
    one, info = task("text_classification"), info_of("text_classification")
    batch = one.example(info, device="cpu")
    signals = one.call(model, None, batch)
    one.check_head(signals.logits, info)
    batch.inputs["attention_mask"][:, 6:] = 0
    assert not torch.equal(one.call(model, None, batch).logits, signals.logits)


def test_a_linear_classifier_learns_iris():
    """Data, task and metrics together, in a plain loop."""
    splits = load_data(DataRequest("sklearn:iris"), kind=None, labels="class")
    one, model = task("classification"), nn.Linear(4, 3)
    normalization = Normalization(splits.info.mean, splits.info.std)
    batch = splits.train.__getitems__(range(len(splits.train)))
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(one.call(model, normalization, batch).logits, batch.labels).backward()
        optimizer.step()
    test: Batch = splits.test.__getitems__(range(len(splits.test)))
    assert one.report(one.call(model, normalization, test).logits, test.labels)["accuracy"] > 0.9
