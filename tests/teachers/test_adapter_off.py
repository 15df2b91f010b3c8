"""The student without its adapters as its own teacher."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError, ModelError
from limbeck.models.base import BuiltModel, ModelRequest
from limbeck.models.build import build_model
from limbeck.models.lora import Lora, adapters, without_adapters
from limbeck.taps.tapped import Tapped
from limbeck.teachers.adapter_off import AdapterOffTeacher
from limbeck.teachers.base import Setting, TeacherRequest
from limbeck.types import Batch, DataInfo, Signals

INFO = DataInfo("text", "token", 61, (16,), language="causal_lm")
ARGS = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "resid_pdrop": 0.5}
IDS = torch.arange(3, 21).view(2, 9)
TAP = "transformer.h.1.mlp.c_proj"
BATCH = Batch({"input_ids": IDS}, None, torch.arange(2))


def student(lora: Lora | None) -> BuiltModel:
    """A GPT-2 in training, whose adapters, if it has any, have learnt."""
    torch.manual_seed(0)
    built = build_model(ModelRequest("hf:gpt2", args=ARGS, lora=lora), INFO)
    torch.manual_seed(1)
    for _, parameter in adapters(built.module):
        nn.init.normal_(parameter, 0, 0.3)
    return built


def call(model: Any, batch: Batch) -> Signals:
    said = model(**batch.inputs)
    output, features = said if isinstance(model, Tapped) else (said, {})
    none: Any = None
    return Signals(none if output is None else output.logits, features)


def opened(built: BuiltModel, *taps: str, logits: bool = True, precision: torch.dtype | None = None) -> AdapterOffTeacher:
    teacher = AdapterOffTeacher()
    request = TeacherRequest(taps, logits, torch.device("cpu"), precision)
    teacher.open(Setting(request, call, learner=built.module, bare=partial(without_adapters, built.module, built.frozen)))
    return teacher


def test_it_says_what_the_student_began_with():
    built, plain = student(Lora(rank=2)), student(None).module.eval()
    built.module.get_submodule("transformer.h.0").eval()  # a part that is kept from training stays so
    before = {name: value.clone() for name, value in built.module.state_dict().items()}
    modes, asks = [m.training for m in built.module.modules()], [p.requires_grad for p in built.module.parameters()]
    random = torch.get_rng_state()
    said = opened(built, TAP).signals(BATCH)
    with torch.no_grad():
        output, values = Tapped(plain, [TAP])(IDS)
    assert torch.equal(said.logits, output.logits)
    assert torch.equal(said.features[TAP], values[TAP])
    assert not said.logits.requires_grad
    assert not said.features[TAP].requires_grad
    assert [m.training for m in built.module.modules()] == modes
    assert [p.requires_grad for p in built.module.parameters()] == asks
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in built.module.state_dict().items())


def test_only_the_layers_that_are_read():
    built, ran = student(Lora(rank=2)), []
    built.module.get_submodule("lm_head").register_forward_hook(lambda *_: ran.append(1))
    teacher = opened(built, "transformer.h.0", logits=False)
    teacher.signals(BATCH)
    ran.clear()
    said = teacher.signals(BATCH)
    assert said.logits is None
    assert said.features.keys() == {"transformer.h.0"}
    assert not ran
    assert built.module.training


def test_it_holds_nothing_of_its_own():
    built = student(Lora(rank=2))
    teacher = opened(built)
    assert teacher.state() == {}
    first = teacher.signals(BATCH).logits
    with torch.no_grad():
        for _, parameter in adapters(built.module):
            parameter.add_(1.0)
    assert torch.equal(teacher.signals(BATCH).logits, first)


def test_the_student_learns_between_its_answers():
    """Its forward before, and its backward after the teacher was asked, are as if nobody had."""
    found: list[list[Tensor | None]] = []
    for asked in (False, True):
        built = student(Lora(rank=2))
        teacher = opened(built, TAP)
        torch.manual_seed(2)
        loss = built.module(**BATCH.inputs).logits.square().mean()
        if asked:
            teacher.signals(BATCH)
        loss.backward()
        found.append([p.grad for _, p in adapters(built.module)])
    assert len(found[0]) == 16
    assert all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_wrong_answer_leaves_the_student_as_it_was():
    built = student(Lora(rank=2))
    teacher = opened(built)
    with pytest.raises(ValueError, match="input_ids"):
        teacher.signals(Batch({"input_id": IDS}, None, torch.arange(2)))
    assert built.module.training
    assert not torch.equal(built.module.eval()(IDS).logits, teacher.signals(BATCH).logits)


def test_its_precision():
    built = student(Lora(rank=2))
    assert opened(built, precision=torch.bfloat16).signals(BATCH).logits.dtype == torch.bfloat16


def test_closed_it_leaves_no_hook():
    built = student(Lora(rank=2))
    teacher = opened(built, TAP)
    layer = built.module.get_submodule(TAP)
    assert len(layer._forward_hooks) == 1
    teacher.close()
    assert len(layer._forward_hooks) == 0


def test_it_needs_adapters():
    with pytest.raises(ModelError, match=r"the student has no adapters to switch off: give it some with `lora`"):
        opened(student(None)).signals(BATCH)
    with pytest.raises(LimbeckError, match=r"a teacher of kind 'adapter_off' needs a student with adapters"):
        AdapterOffTeacher().open(Setting(TeacherRequest((), True, torch.device("cpu")), call, learner=nn.Linear(1, 1)))
