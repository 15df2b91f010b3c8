"""Layered self-supervised distillation: an oracle by loops, joint labels, what is a target."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import SignalMissing
from limbeck.losses.lsskd import LSSKD
from limbeck.types import IGNORE, Head, Signals

LABELS = torch.tensor([0, 2, 1])
HEAD = Head(torch.zeros(3, 8))


def student(*, grad=False):
    generator = torch.Generator().manual_seed(0)

    def one():
        features = {name: torch.randn(3, *shape, generator=generator) for name, shape in (("a", (4, 4, 4)), ("b", (5, 2, 2)), ("c", (6,)))}
        features = {name: value.requires_grad_(grad) for name, value in features.items()}
        return Signals(features=features, head=HEAD)

    whole = one()
    whole.views = (one(), one(), one())
    return whole


def ready(**fields):
    torch.manual_seed(0)
    loss = LSSKD(**fields)
    loss.setup(student(), Signals())
    return loss


def test_oracle():
    said, loss = student(), ready(temperature=3.0, exit_weight=0.5, feature_weight=0.1)
    shown = (said, *said.views)
    expected = torch.zeros(3)
    for i, label in enumerate(LABELS.tolist()):
        for turn, view in enumerate(shown):
            answers = [branch(view.features[name][i : i + 1]) for branch, name in zip(loss.exits, "abc", strict=True)]
            vector, logits = answers[-1]
            for depth, (own, answer) in enumerate(answers):
                value = -answer.log_softmax(1)[0, 4 * label + turn]
                if depth < 2:
                    soft = F.kl_div((answer / 3).log_softmax(1), (logits / 3).softmax(1), reduction="sum")
                    value = value + 0.5 * 9 * soft + 0.1 * (own - vector).square().sum()
                expected[i] = expected[i] + value / 4
    torch.testing.assert_close(loss(said, Signals(), LABELS), expected)


def test_exits_know_class_and_rotation():
    loss = ready()
    assert [tuple(loss.get_parameter(f"exits.{i}.head.weight").shape) for i in range(3)] == [(12, 6)] * 3
    loss(student(), Signals(), LABELS).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in loss.exits.parameters() if p.ndim > 1)


def test_the_deepest_exit_is_a_target_only():
    """Its gradient is that of its labels alone, whatever the weights of what it teaches."""
    found = []
    for weights in ({"exit_weight": 0.0, "feature_weight": 0.0}, {"exit_weight": 3.0, "feature_weight": 2.0}):
        said, loss = student(grad=True), ready(**weights)
        loss(said, Signals(), LABELS).sum().backward()
        found.append((said.features["c"].grad, said.views[1].features["c"].grad, said.features["a"].grad))
    assert all(torch.equal(found[0][i], found[1][i]) for i in (0, 1))
    assert not torch.equal(found[0][2], found[1][2])


def test_tokens_are_as_wide_as_their_channels():
    loss = LSSKD()
    loss.setup(Signals(features={"a": torch.zeros(2, 9, 7)}, head=HEAD), Signals())
    assert loss.get_parameter("exits.0.head.weight").shape == (12, 7)


def test_one_layer_is_enough():
    said = student()
    only = Signals(features={"c": said.features["c"]}, head=HEAD)
    only.views = tuple(Signals(features={"c": view.features["c"]}) for view in said.views)
    loss = LSSKD()
    loss.setup(only, Signals())
    assert loss(only, Signals(), LABELS).shape == (3,)


def test_unlabelled_examples_do_not_count():
    said, loss = student(), ready()
    got, full = loss(said, Signals(), torch.tensor([0, IGNORE, 1])), loss(said, Signals(), LABELS)
    assert got[1] == 0
    torch.testing.assert_close(got[[0, 2]], full[[0, 2]])


def test_mistakes():
    assert LSSKD(exit_weight=0.0, feature_weight=0.0).exit_weight == 0
    with pytest.raises(ValueError, match=r"^LSSKD\.temperature must be > 0, got 0$"):
        LSSKD(temperature=0)
    with pytest.raises(ValueError, match=r"^LSSKD\.exit_weight must be >= 0, got -1$"):
        LSSKD(exit_weight=-1)
    with pytest.raises(ValueError, match=r"^LSSKD\.feature_weight must be >= 0, got -1$"):
        LSSKD(feature_weight=-1)
    with pytest.raises(SignalMissing, match="LSSKD needs 1 or more layers of the student, the deepest last; found none"):
        LSSKD().setup(Signals(head=HEAD), Signals())
    said = student()
    with pytest.raises(SignalMissing, match="needs the classifier of the student"):
        LSSKD().setup(Signals(features=said.features), Signals())
    said.views = ()
    with pytest.raises(SignalMissing, match="three rotations"):
        ready()(said, Signals(), LABELS)


def test_defaults_and_needs():
    loss = LSSKD()
    assert (loss.temperature, loss.exit_weight, loss.feature_weight, loss.teaches) == (3.0, 1.0, 0.03, True)
    needs = loss.needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.rotations) == (False, True, False, "many", True)
    assert (needs.label_kinds, needs.head) == (("class",), "student")
