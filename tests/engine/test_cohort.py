"""Peers: models that learn in the same updates, each from what the others say."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from limbeck.engine.checkpoint import latest, load
from limbeck.engine.cohort import Cohort
from limbeck.engine.learner import Learner
from limbeck.engine.watch import Silent
from limbeck.errors import NonFinite
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.hint import Hint
from limbeck.losses.kd import KD
from limbeck.objective import Counts, Objective, Ramp, Term
from limbeck.types import Batch, Signals
from tests.engine.test_resume import kill_after, lines
from tests.processes import command, pair
from tests.runs import PLAIN, SMALL, digest, distill

COHORT: dict[str, Any] = {
    "task": "classification",
    "data": {"source": "sklearn:digits", "limit": 200},
    "student": PLAIN,
    "models": {
        "wide": {"model": "mlp", "args": {"hidden": [24]}, "optimizer": {"name": "sgd", "lr": 0.1}},
        "maps": {"model": "convnet", "args": {"channels": [4, 8]}},
    },
    "peers": ["wide", "maps"],
    "objective": {"labels": "cross_entropy", "mutual": {"loss": "kd", "temperature": 1, "from": "peers"}},
    "train": {"epochs": 2, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.01}, "log_every": 2},
}
"""Deep mutual learning of three models, two of them without batch statistics."""
ABSURD = {"models.maps": {"model": "mlp", "args": {"hidden": [24], "channels": None}, "optimizer": {"name": "sgd", "lr": 1e30}}}


class Messages(Silent):
    """What the user is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def message(self, text: str) -> None:
        self.told.append(text)


def values(run: Path, kind: str) -> list[dict[str, Any]]:
    return [line["values"] for line in lines(run) if line["kind"] == kind]


def saved(run: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """The last checkpoint."""
    point = latest(run / "checkpoints")
    assert point is not None
    return load(point)


# the module


def linear(seed: int, inputs: int = 3) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, 4)


def call(model: Any, batch: Batch) -> Signals:
    return Signals(model(batch.inputs))


def cohort(*terms: list[Term]) -> Cohort:
    members = {}
    for name, own in zip(("student", "a", "b"), terms, strict=False):
        learner = Learner(linear(len(members)), Objective(own), call)
        learner.objective.setup(Signals(torch.randn(2, 4)), {x: Signals(torch.randn(2, 4)) for x in ("student", "a", "b")})
        members[name] = learner
    return Cohort(members)


def mutual(label: str, source: str, weight: float | Ramp = 1.0, part_of: str = "") -> Term:
    return Term(label, KD(temperature=1.0), weight, source=source, peer=True, part_of=part_of)


def dml() -> Cohort:
    """Three members, each listening to the mean of the two others."""
    others = {"student": ("a", "b"), "a": ("student", "b"), "b": ("student", "a")}
    own = [[Term("labels", CrossEntropy()), *(mutual(f"m:{x}", x, 0.5, "m") for x in other)] for other in others.values()]
    return cohort(*own)


def example() -> Batch:
    torch.manual_seed(9)
    return Batch(torch.randn(6, 3), torch.randint(4, (6,)), torch.arange(6))


def test_each_member_gets_the_gradient_of_its_own_objective():
    group, batch = dml(), example()
    total, found = group(batch, {}, Counts(6.0, 6.0))
    total.backward()
    logits = {name: group[name].model(batch.inputs) for name in group.names}
    sums, expected = [], []
    for name in group.names:
        terms = [nn.functional.cross_entropy(logits[name], cast(torch.Tensor, batch.labels))]
        for other in group.names:
            if other != name:
                p, log_q = logits[other].detach().softmax(-1), logits[name].log_softmax(-1)
                terms.append((p * (p.log() - log_q)).sum(-1).mean())
        loss = terms[0] + 0.5 * (terms[1] + terms[2])
        gradients = torch.autograd.grad(loss, list(group[name].model.parameters()), retain_graph=True)
        for parameter, gradient in zip(group[name].model.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
        sums.append(loss.item())
        expected += [term.item() for term in terms]
    assert total.item() == pytest.approx(sum(sums))
    assert found.tolist() == pytest.approx(expected)
    assert not found.requires_grad


@pytest.mark.parametrize("broken", [math.nan, math.inf, 1e30])
def test_a_broken_member_spoils_nobody_else(broken):
    healthy, group, batch = dml(), dml(), example()
    with torch.no_grad():
        next(p for p in group["b"].parameters() if p.ndim == 1)[0] = broken
    total, found = group(batch, {}, Counts(6.0, 6.0))
    total.backward()
    for name in ("student", "a"):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in group[name].parameters())
    labels = [f"{name}/{term}" for name in group.names for term in group[name].objective.terms]
    said = dict(zip(labels, found.tolist(), strict=True))
    assert said["student/m:b"] == said["a/m:b"] == 0
    assert not math.isfinite(said["b/labels"]) or said["b/labels"] > 1e20
    # the others' gradients are those of a cohort in which nobody listens to b
    healthy.retire("b")
    for name in ("student", "a"):
        healthy[name].objective.terms["m:a" if name == "student" else "m:student"].weight = 0.5
        healthy[name].objective._settled = False
        healthy[name].objective.set_progress(0.0)
    total, _ = healthy(batch, {}, Counts(6.0, 6.0))
    total.backward()
    for name in ("student", "a"):
        for mine, theirs in zip(group[name].parameters(), healthy[name].parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_retired_member_is_neither_run_nor_heard():
    group, batch = dml(), example()
    assert group.retire("b") == []
    assert group.active == ["student", "a"]
    total, found = group(batch, {}, Counts(6.0, 6.0))
    total.backward()
    assert len(found) == 4
    assert all(p.grad is None for p in group["b"].parameters())
    assert group["student"].objective.weights == {"labels": 1.0, "m:a": 1.0}, "its share of the mean goes to the others"
    assert group.retire("a") == []
    assert list(group["student"].objective.terms) == ["labels"]


def test_shares_that_change_go_to_the_others_too():
    ramp = Ramp("linear", 0.0, 1.0)
    objective = Objective([mutual("m:a", "a", ramp, "m"), mutual("m:b", "b", ramp, "m"), mutual("other", "b")])
    objective.setup(Signals(torch.randn(2, 4)), {x: Signals(torch.randn(2, 4)) for x in ("a", "b")})
    objective.set_progress(0.5)
    assert objective.leave_out("b")
    assert objective.weights["m:a"] == 1.0
    objective.set_progress(1.0)
    assert objective.weights["m:a"] == 2.0
    assert list(objective.terms) == ["m:a"]
    assert not objective.leave_out("a")


def test_who_is_left_with_nothing_is_named():
    group = cohort([Term("labels", CrossEntropy())], [mutual("m", "student")], [mutual("m", "a")])
    assert group.retire("a") == ["b"]


# whole runs


def test_every_member_runs_once_a_batch(tmp_path: Path) -> None:
    forwards: Counter[str] = Counter()

    def count(module: nn.Module, args: Any, output: Any) -> None:
        if module.training:
            forwards[type(module).__name__] += 1

    hook = nn.modules.module.register_module_forward_hook(count)
    try:
        distill({**COHORT, "train": {**COHORT["train"], "steps": 5, "accumulate": 2}}, out=tmp_path / "run", device="cpu")
    finally:
        hook.remove()
    assert forwards["MLP"] == 2 * 5 * 2, "two of the members are MLPs"
    assert forwards["ConvNet"] == 5 * 2
    assert forwards["Cohort"] == 5 * 2


def test_all_learn_are_judged_and_handed_on(tmp_path: Path) -> None:
    result = distill({**COHORT, "baseline": True}, set={"train.epochs": 4}, out=tmp_path / "run", device="cpu", report=True)
    models = result.results["models"]
    assert {name: model["role"] for name, model in models.items()} == {
        "wide": "peer", "maps": "peer", "alone": "alone", "student": "distilled",
    }  # fmt: skip
    assert all(0 < model["metrics"]["accuracy"] <= 1 for model in models.values())
    stage = result.results["stages"][-1]
    assert set(stage["peers"]) == {"wide", "maps"}
    assert stage["peers"]["wide"]["failed_at"] is None
    valid = [line["values"] for line in lines(result.folder) if line["kind"] == "valid" and line["stage"] == "distil"]
    for name in ("wide", "maps"):
        kept = load_file(result.folder / "checkpoints" / f"best-distil-0-{name}.safetensors")
        handed_on = load_file(result.folder / "checkpoints" / "models.safetensors")
        assert all(torch.equal(handed_on[f"{name}/{key}"], value) for key, value in kept.items())
        scores = [line[f"{name}/accuracy"] for line in valid]
        assert stage["peers"][name]["best"]["value"] == max(scores)
        assert stage["peers"][name]["best"]["step"] == 6 * (1 + scores.index(max(scores)))
    text = result.report.read_text()
    assert "distil: wide" in text
    assert "maps" in text


def test_lines_of_metrics(tmp_path: Path) -> None:
    result = distill(COHORT, out=tmp_path / "run", device="cpu")
    line = values(result.folder, "train")[0]
    own = ["total", "labels", "mutual:wide", "mutual:maps", "lr"]
    wide, maps = ["total", "labels", "mutual:student", "mutual:maps", "lr"], ["total", "labels", "mutual:student", "mutual:wide", "lr"]
    assert list(line) == [*own, *(f"wide/{key}" for key in wide), *(f"maps/{key}" for key in maps)]
    assert line["total"] == pytest.approx(line["labels"] + (line["mutual:wide"] + line["mutual:maps"]) / 2)
    assert line["wide/total"] == pytest.approx(line["wide/labels"] + (line["wide/mutual:student"] + line["wide/mutual:maps"]) / 2)
    assert line["wide/lr"] == pytest.approx(10 * line["lr"]), "its own optimizer"
    assert line["maps/lr"] == line["lr"], "that of the training"


def test_a_failing_peer_does_not_stop_the_others(tmp_path: Path) -> None:
    told = Messages()
    result = distill(COHORT, set=ABSURD, out=tmp_path / "run", device="cpu", listener=told, report=True)
    assert all(p.isfinite().all() for p in result.student.parameters())
    models, peers = result.results["models"], result.results["stages"][0]["peers"]
    assert models["maps"]["metrics"] == {}
    assert models["wide"]["metrics"]["accuracy"] > 0
    assert models["student"]["metrics"]["accuracy"] > 0
    assert peers["wide"]["failed_at"] is None
    at = peers["maps"]["failed_at"]
    assert at in (2, 4, 5)
    assert values(result.folder, "failed") == [{"maps": at}]
    assert any(text.startswith(f"stage 'distil': the peer 'maps' failed by update {at}: ") for text in told.told)
    last = values(result.folder, "valid")[-1]
    assert "wide/accuracy" in last
    assert "maps/accuracy" not in last
    groups, state = saved(result.folder)
    assert state["members"]["maps"]["failed"] == at
    for group in ("learner", "player-wide"):
        assert all(value.isfinite().all() for value in groups[group].values())
    assert {"report.html", "student", "results.json"} <= {path.name for path in result.folder.iterdir()}


def test_the_failure_of_a_peer_is_named_at_its_update(tmp_path: Path) -> None:
    told = Messages()
    recipe = {**COHORT, "models": {**COHORT["models"], "maps": {"model": "tests.engine.pieces:Breaking", "args": {"at": 3}}}}
    result = distill(recipe, set={"train.log_every": 5, "train.steps": 12}, out=tmp_path / "run", device="cpu", listener=told)
    text = "stage 'distil': the peer 'maps' failed by update 5: its term labels became nan at update 3. It is left out from here on; "
    assert told.told[-1] == text + "the others go on."
    assert result.results["stages"][0]["peers"]["maps"] == {
        "best": None, "failed_at": 5, "reason": "its term labels became nan at update 3",
    }  # fmt: skip
    first, second = values(result.folder, "train")[:2]
    assert first["maps/labels"] is None
    assert "mutual:maps" not in second
    assert second["total"] == pytest.approx(second["labels"] + second["mutual:wide"])


def test_a_peer_that_fails_late_keeps_its_best_weights(tmp_path: Path) -> None:
    recipe = {**COHORT, "models": {**COHORT["models"], "maps": {"model": "tests.engine.pieces:Breaking", "args": {"at": 8}}}}
    result = distill(recipe, out=tmp_path / "run", device="cpu")
    assert result.results["models"]["maps"]["metrics"]["accuracy"] > 0
    assert result.results["stages"][0]["peers"]["maps"]["failed_at"] == 8
    assert result.results["stages"][0]["peers"]["maps"]["best"]["step"] == 6


def test_a_failing_student_is_an_error(tmp_path: Path) -> None:
    recipe = {**COHORT, "student": {"model": "tests.engine.pieces:Breaking", "args": {"at": 2}}}
    with pytest.raises(NonFinite, match=r"stage 'distil': the term objective\.labels became nan at update 2"):
        distill(recipe, out=tmp_path / "run", device="cpu")


def test_a_student_that_listens_to_nobody_else_ends_with_its_teacher(tmp_path: Path) -> None:
    recipe = {**SMALL, "objective": {"logits": "kd"}, "peers": {"teacher": {"objective": {"labels": "cross_entropy"}}}}
    recipe["teacher"] = {"model": "tests.engine.pieces:Breaking", "args": {"at": 2}}
    with pytest.raises(NonFinite, match=r"the peer 'teacher' failed .* 'student' has nothing else to learn from"):
        distill(recipe, out=tmp_path / "run", device="cpu")


def test_a_co_trained_teacher(tmp_path: Path) -> None:
    """The teacher learns from labels and from its student; it needs no weights and ends up trained."""
    recipe = {**SMALL, "teacher": {"model": "mlp", "args": {"hidden": [24]}}}
    own = {"labels": "cross_entropy", "back": {"loss": "kd", "from": "student", "temperature": 2, "weight": 0.1}}
    recipe["peers"] = {"teacher": {"objective": own, "optimizer": {"name": "sgd", "lr": 0.2}}}
    result = distill(recipe, out=tmp_path / "run", device="cpu")
    line = values(result.folder, "train")[0]
    assert list(line) == ["total", "labels", "logits", "lr", "teacher/total", "teacher/labels", "teacher/back", "teacher/lr"]
    assert line["teacher/lr"] == pytest.approx(20 * line["lr"])
    assert line["teacher/total"] == pytest.approx(line["teacher/labels"] + 0.1 * line["teacher/back"])
    assert result.results["models"]["teacher"]["role"] == "teacher"
    assert result.results["models"]["student"]["agreement"] is not None
    before = distill(
        {**recipe, "peers": None, "teacher": {**recipe["teacher"], "weights": "random"}}, out=tmp_path / "frozen", device="cpu"
    )
    assert result.results["models"]["teacher"]["metrics"]["nll"] < before.results["models"]["teacher"]["metrics"]["nll"]


def test_layers_of_unlike_peers_meet_through_adapters(tmp_path: Path) -> None:
    """A layer of an MLP and a map of a convolutional network, each adapted to the other, once for every pair."""
    hints = {"labels": "cross_entropy", "hint": {"loss": "hint", "from": "maps", "student": "hidden1", "teacher": "head:input"}}
    back = {"labels": "cross_entropy", "hint": {"loss": "hint", "from": "student", "student": "head:input", "teacher": "hidden1"}}
    recipe = {**COHORT, "objective": hints, "peers": {"maps": {"objective": back}}}
    result = distill(recipe, out=tmp_path / "run", device="cpu")
    assert set(result.results["adapters"]) == {"objective.hint.adapter", "peers.maps.objective.hint.adapter"}
    groups, _ = saved(result.folder)
    assert any("adapters" in name for name in groups["learner"])
    assert any("adapters" in name for name in groups["player-maps"])
    assert values(result.folder, "train")[-1]["hint"] > 0
    resolved = (result.folder / "recipe.yaml").read_text()
    assert "linear" not in resolved, "what two members share has no one adapter"


def test_a_frozen_teacher_teaches_all_members(tmp_path: Path) -> None:
    recipe = {**COHORT, "teacher": SMALL["teacher"], "objective": {**COHORT["objective"], "logits": {"loss": "kd", "temperature": 2}}}
    result = distill(recipe, out=tmp_path / "run", device="cpu")
    line = values(result.folder, "train")[0]
    assert {"logits", "wide/logits", "maps/logits"} <= line.keys()


def test_averages_of_all_members(tmp_path: Path) -> None:
    result = distill(COHORT, set={"train.ema": 0.9, "train.select": "last"}, out=tmp_path / "run", device="cpu")
    groups, _ = saved(result.folder)
    handed_on = load_file(result.folder / "checkpoints" / "models.safetensors")
    for name in ("student", "wide", "maps"):
        assert all(
            torch.equal(handed_on[f"{name}/{key}"], value) for key, value in groups["ema" if name == "student" else f"ema-{name}"].items()
        )
    assert not torch.equal(groups["player-wide"]["model.head.weight"], groups["ema-wide"]["head.weight"])


@pytest.mark.parametrize(
    "extra", [{"train.precision": "bf16"}, {"train.clip": 0.1}, {"train.channels_last": True}], ids=["bf16", "clip", "last"]
)
def test_other_ways_to_train(tmp_path: Path, extra: dict[str, Any]) -> None:
    result = distill(COHORT, set={**extra, "train.steps": 4}, out=tmp_path / "run", device="cpu")
    assert all(p.isfinite().all() for p in result.student.parameters())


def test_a_fresh_stage_restarts_the_peers_and_a_plain_one_trains_none(tmp_path: Path) -> None:
    recipe = {
        **COHORT,
        "stages": {"first": {"train": {"steps": 2}}, "second": {"start": "fresh", "train": {"steps": 1}}, "third": {"peers": None}},
    }
    result = distill(recipe, set={"stages.third.objective.mutual": None}, out=tmp_path / "run", device="cpu")
    stages = result.results["stages"]
    assert ["peers" in stage for stage in stages] == [True, True, False]
    assert [line["stage"] for line in lines(result.folder) if "wide/total" in line["values"]] == ["first", "second"]


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulation_is_exact(tmp_path: Path, accumulate: int) -> None:
    plain = {
        **COHORT,
        "peers": ["wide"],
        "train": {"steps": 3, "batch_size": 24, "optimizer": {"name": "sgd", "lr": 0.1}, "select": "last"},
    }
    runs = [distill(plain, set={"train.accumulate": n}, out=tmp_path / str(n), device="cpu") for n in (1, accumulate)]
    one, other = (load_file(run.folder / "checkpoints" / "models.safetensors") for run in runs)
    assert {name.split("/")[0] for name in one} == {"student", "wide"}
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=2e-5, atol=2e-6)


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    """Also where a member breaks and is left out on the way."""
    (tmp_path / "tests").symlink_to(Path(__file__).resolve().parents[1])
    train = {"steps": 6, "batch_size": 24, "optimizer": {"name": "sgd", "lr": 0.1}, "select": "last", "log_every": 2}
    models = {**COHORT["models"], "maps": {"model": "tests.engine.pieces:Breaking", "args": {"at": 3}}}
    recipe = {**COHORT, "data": {**COHORT["data"], "label_fraction": 0.5}, "models": models, "train": train}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    one = distill(recipe, out=tmp_path / "one", device="cpu")
    done = pair("run", "recipe.yaml", "--out", "two", "--device", "cpu", "--allow-code", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    mine, theirs = (load_file(run / "checkpoints" / "models.safetensors") for run in (one.folder, tmp_path / "two"))
    for name, value in mine.items():
        if not name.startswith("maps/"):
            torch.testing.assert_close(theirs[name], value, rtol=2e-5, atol=2e-6)
    assert values(tmp_path / "two", "failed") == values(one.folder, "failed") == [{"maps": 4}]


@pytest.mark.slow
@pytest.mark.parametrize("counts", [[2], [5, 9]])
def test_killed_and_resumed_is_the_same_run(tmp_path: Path, counts: list[int]) -> None:
    recipe = {
        **COHORT,
        "train": {**COHORT["train"], "epochs": 3, "ema": 0.9, "checkpoint_every": 2, "schedule": {"name": "plateau", "patience": 0}},
    }
    recipe["models"] = {
        **COHORT["models"],
        "maps": {"model": "mlp", "args": {"hidden": [8], "dropout": 0.2}, "optimizer": {"name": "sgd", "lr": 1e9}},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    whole = distill(recipe, out=tmp_path / "whole", device="cpu")
    assert values(whole.folder, "failed")
    for i, count in enumerate(counts):
        assert kill_after(tmp_path, count, resume=i > 0), f"kill {i} came too late"
    done = command("run", "recipe.yaml", "--out", "run", "--device", "cpu", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "run") == digest(whole.folder)
    assert lines(tmp_path / "run") == lines(whole.folder)
    one, other = (saved(run)[0] for run in (whole.folder, tmp_path / "run"))
    for name in ("player-wide", "optimizer-wide", "ema-wide", "learner"):
        assert all(torch.equal(one[name][key], other[name][key]) for key in one[name]), name


def test_what_only_others_read_is_run_too() -> None:
    reads = Objective([Term("hint", Hint(), student=("hidden1",), teacher=(".",), source="a", peer=True)])
    taps = reads.teacher_taps("a")
    assert Learner(nn.Linear(3, 4), Objective([]), call, taps=taps).stops_early
    assert not Learner(nn.Linear(3, 4), Objective([]), call, taps=taps, logits=True).stops_early
    learner = Learner(nn.Linear(3, 4), Objective([]), lambda model, batch: model(batch.inputs), taps=taps)
    learner.close()
