"""What all losses share."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import limbeck.losses
from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.base import Loss, as_many, extra_of, head_of, logit_pair, logits_of, pairs, required, views_of
from limbeck.registry import LOSSES
from limbeck.types import Head, Signals

ONE = torch.ones(2, 3)


def test_every_loss_is_found_by_its_class_name():
    for name in LOSSES.names():
        loss_class = LOSSES.get(name)
        assert getattr(limbeck.losses, loss_class.__name__) is loss_class


@pytest.mark.parametrize("name", ["Nothing", "dkd_", "Dkd", "DKd"])
def test_other_names_are_not(name):
    with pytest.raises(AttributeError, match=f"module 'limbeck.losses' has no attribute '{name}'"):
        getattr(limbeck.losses, name)


def test_importing_the_package_does_not_import_torch():
    subprocess.run([sys.executable, "-c", "import sys, limbeck.losses\nassert 'torch' not in sys.modules"], check=True)


def test_pairs_go_by_the_order_of_the_term():
    a, b, c, d = torch.eye(4).unbind()
    got = pairs(Signals(a, {"z": b, "a": c}), Signals(a, {"m": d, "b": a}))
    assert [(s is x, t is y) for (s, t), (x, y) in zip(got, [(b, d), (c, a)], strict=True)] == [(True, True)] * 2


def test_pairs_without_anything():
    with pytest.raises(SignalMissing, match=r"^the student gave no logits; its signals hold nothing\.$"):
        pairs(Signals(), Signals())
    with pytest.raises(SignalMissing, match=r"^the teacher gave no logits; its signals hold nothing\.$"):
        pairs(Signals(torch.zeros(1, 2)), Signals())


def test_pairs_need_as_many_on_both_sides():
    text = (
        r"^features come in pairs, found 1 of the student \['a'\] and 2 of the teacher \['0', '1'\]; "
        r"name as many teacher layers as student layers\.$"
    )
    with pytest.raises(SignalMissing, match=text):
        pairs(Signals(features={"a": ONE}), Signals.of(ONE, ONE))


def test_logits_must_be_there_and_of_one_shape():
    assert logits_of(Signals(ONE)) is ONE
    with pytest.raises(SignalMissing, match=r"^the student gave no logits; its signals hold \['a', 'b'\]\.$"):
        logits_of(Signals(features={"b": ONE, "a": ONE}))
    with pytest.raises(SignalMissing, match=r"^the critic gave no logits; its signals hold nothing\.$"):
        logits_of(Signals(), "critic")
    student, teacher = logit_pair(Signals(ONE), Signals(2 * ONE))
    assert (student.tolist(), teacher.tolist()) == (ONE.tolist(), (2 * ONE).tolist())
    text = r"^student \[2, 3\] and teacher \[2, 1\] must have the same shape here; "
    with pytest.raises(ShapeMismatch, match=text + r"pick layers that agree or let an adapter map the student's onto the teacher's\.$"):
        logit_pair(Signals(ONE), Signals(ONE[:, :1]))


def test_a_classifier_must_be_there():
    head = Head(ONE)
    assert head_of(Signals(head=head)) is head
    for who, arguments in (("teacher", ()), ("student", ("student",))):
        text = rf"^this loss needs the classifier of the {who}, and the signals hold none; give it as Signals\.head\.$"
        with pytest.raises(SignalMissing, match=text):
            head_of(Signals(), *arguments)


def test_further_signals_must_be_there():
    assert extra_of(Signals(extra={"mask": ONE}), "mask") is ONE
    with pytest.raises(SignalMissing, match=r"^this loss needs the signal 'index' of the batch, found \['depth', 'mask'\]\.$"):
        extra_of(Signals(extra={"mask": ONE, "depth": ONE}), "index")
    with pytest.raises(SignalMissing, match=r"^this loss needs the signal 'index' of the batch, found none\.$"):
        extra_of(Signals(), "index")


@pytest.mark.parametrize("count", [0, 2, 4])
def test_three_views_must_be_there(count):
    views = (Signals(ONE),) * 3
    assert views_of(Signals(views=views)) is views
    with pytest.raises(SignalMissing, match=rf"^this loss needs the model's answers to three rotations of the images, found {count}\.$"):
        views_of(Signals(views=(Signals(ONE),) * count))


def test_labels_must_be_there_and_as_many_as_outputs():
    assert required(ONE) is ONE
    text = r"^this loss needs labels, and the batch has none; remove the term or use labelled data\.$"
    with pytest.raises(SignalMissing, match=text):
        required(None)
    assert as_many(ONE, 2 * ONE).tolist() == (2 * ONE).tolist()
    text = r"^outputs \[2, 3\] and labels \[2\] must have the same shape; the model needs one output for every label\.$"
    with pytest.raises(ShapeMismatch, match=text):
        as_many(ONE, ONE[:, 0])


def test_losses_have_nothing_to_make_unless_they_say_so():
    loss = LOSSES.get("kd")()
    loss.allocate(3)
    loss.setup(Signals(ONE), Signals(ONE))
    assert [*loss.parameters(), *loss.buffers()] == []


def test_repr_shows_the_hyper_parameters():
    assert repr(LOSSES.get("dkd")(beta=2.0)) == "DKD(alpha=1.0, beta=2.0, temperature=4.0, variant='paper')"


def test_a_loss_does_not_teach_unless_it_says_so():
    assert not Loss.teaches
