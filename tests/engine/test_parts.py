"""The parts of the engine by themselves: averages, rates, optimizers, memory, logs, files."""

# pyright: reportArgumentType=false, reportOptionalSubscript=false

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.engine import checkpoint
from limbeck.engine.backend import Backend, check_precision, pick_device
from limbeck.engine.ema import EMA
from limbeck.engine.optim import LRControl, LRPlan, build_optimizer
from limbeck.engine.samples import SampleState
from limbeck.engine.watch import Journal, LossWatch, Silent
from limbeck.errors import LimbeckError, NonFinite, RunError, UnknownName
from limbeck.files import check_writable, read_json, write_json, write_text, writing_folder
from tests.runs import PLAIN, SMALL, distill


class TestEMA:
    def test_value_by_hand(self) -> None:
        model = nn.Linear(1, 1, bias=False)
        model.weight.data.fill_(1.0)
        ema = EMA(model, 0.9)
        expected = 1.0
        for n in range(1, 200):
            model.weight.data.fill_(float(n))
            ema.update()
            decay = min(0.9, (1 + n) / (10 + n))
            expected = decay * expected + (1 - decay) * n
        assert ema.average["weight"].item() == pytest.approx(expected, rel=1e-5)

    def test_counters_are_copied_and_statistics_averaged(self) -> None:
        model = nn.BatchNorm1d(2)
        ema = EMA(model, 0.5)
        model(torch.randn(8, 2) + 5)
        ema.update()
        assert ema.average["num_batches_tracked"].item() == 1
        assert 0 < ema.average["running_mean"][0] < model.running_mean[0]

    def test_applied_comes_and_goes(self) -> None:
        model = nn.Linear(2, 2)
        ema = EMA(model, 0.5)
        own = model.weight.detach().clone()
        ema.average["weight"].fill_(3.0)
        with ema.applied():
            assert (model.weight == 3).all()
        assert torch.equal(model.weight, own)


class TestRates:
    @pytest.mark.parametrize(
        ("plan", "at", "expected"),
        [
            (LRPlan("constant"), 7, 1.0),
            (LRPlan("cosine"), 0, 1.0),
            (LRPlan("cosine"), 50, 0.5),
            (LRPlan("cosine"), 100, 0.0),
            (LRPlan("cosine", final=0.2), 100, 0.2),
            (LRPlan("cosine", final=0.2), 50, 0.6),
            (LRPlan("linear"), 25, 0.75),
            (LRPlan("linear", final=0.5), 100, 0.5),
            (LRPlan("step", milestones=(0.5, 0.75)), 49, 1.0),
            (LRPlan("step", milestones=(0.5, 0.75)), 50, 0.1),
            (LRPlan("step", milestones=(0.5, 0.75), gamma=0.5), 75, 0.25),
            (LRPlan("constant", warmup=0.1), 0, 1 / 11),
            (LRPlan("constant", warmup=0.1), 9, 10 / 11),
            (LRPlan("constant", warmup=0.1), 10, 1.0),
            (LRPlan("cosine", warmup=20), 60, 0.5),
            (LRPlan("cosine", warmup=20), 20, 1.0),
        ],
    )
    def test_by_hand(self, plan: LRPlan, at: int, expected: float) -> None:
        assert plan.factor(at, 100) == pytest.approx(expected, abs=1e-12)

    def test_plateau_drops_after_patience_and_remembers(self) -> None:
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
        control = LRControl(optimizer, LRPlan("plateau", patience=1, gamma=0.1), 100)
        for score in (0.5, 0.4, 0.4):
            control.watch(score)
        assert control.set(3) == pytest.approx(0.1)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
        other = LRControl(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0), LRPlan("plateau", patience=1, gamma=0.1), 100)
        other.load(json.loads(json.dumps(control.state())))
        assert other.set(3) == pytest.approx(0.1)


class TestOptimizers:
    @pytest.mark.parametrize("name", ["sgd", "AdamW", "rmsprop", "timm:lion"])
    def test_by_name(self, name: str) -> None:
        model = nn.Linear(2, 2)
        optimizer = build_optimizer(name, 0.1, {}, model.parameters())
        before = model.weight.detach().clone()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        assert not torch.equal(before, model.weight)

    def test_mistakes(self) -> None:
        parameters = list(nn.Linear(1, 1).parameters())
        with pytest.raises(UnknownName, match=r"no optimizer is called 'adamwx'. Did you mean 'adamw'"):
            build_optimizer("adamwx", 0.1, {}, parameters)
        with pytest.raises(LimbeckError, match=r"optimizer 'sgd' has no argument 'momentun'. Did you mean 'momentum'\?"):
            build_optimizer("sgd", 0.1, {"momentun": 0.9}, parameters)
        with pytest.raises(LimbeckError, match=r"optimizer 'adam': Invalid beta parameter"):
            build_optimizer("adam", 0.1, {"betas": [2.0, 0.9]}, parameters)
        with pytest.raises(LimbeckError, match=r"nothing learns in this stage"):
            build_optimizer("adam", 0.1, {}, [p.requires_grad_(False) for p in parameters])

    @pytest.mark.parametrize("name", ["adamw", "sgd", "adagrad", "timm:lamb"])
    def test_state_goes_through_tensors_and_json(self, name: str) -> None:
        def after(steps: int, cut: int | None) -> torch.Tensor:
            torch.manual_seed(0)
            model, options = nn.Linear(3, 2), {"momentum": 0.9} if name == "sgd" else {}
            optimizer = build_optimizer(name, 0.05, options, model.parameters())
            for step in range(steps):
                if step == cut:
                    tensors, plain = checkpoint.split_optimizer(optimizer)
                    optimizer = build_optimizer(name, 0.7, options, model.parameters())
                    checkpoint.join_optimizer(optimizer, {k: v.clone() for k, v in tensors.items()}, json.loads(json.dumps(plain)))
                model(torch.full((4, 3), float(step + 1))).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
            return model.weight.detach()

        assert torch.equal(after(6, None), after(6, 3))


class TestCheckpoints:
    def test_random_state_goes_through_tensors_and_json(self) -> None:
        import random

        checkpoint.seed_everything(5)
        random.random(), np.random.random(), torch.rand(1)
        tensors, plain = checkpoint.random_state()
        expected = random.random(), np.random.random(), np.random.standard_normal(), torch.rand(3)
        checkpoint.restore_random_state({k: v.clone() for k, v in tensors.items()}, json.loads(json.dumps(plain)))
        found = random.random(), np.random.random(), np.random.standard_normal(), torch.rand(3)
        assert found[:3] == expected[:3]
        assert torch.equal(found[3], expected[3])

    def test_the_newest_is_found_and_the_old_are_removed(self, tmp_path: Path) -> None:
        for i in range(3):
            checkpoint.save(tmp_path, f"c{i}", {"a": {"x": torch.tensor([float(i)])}}, {"i": i})
        found = checkpoint.latest(tmp_path)
        assert found is not None
        assert sorted(path.name for path in tmp_path.iterdir()) == ["c2", "latest.json"]
        groups, state = checkpoint.load(found)
        assert (groups["a"]["x"].item(), state) == (2.0, {"i": 2})

    def test_one_can_be_loaded_at_every_moment_of_a_second_save_at_the_same_update(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checkpoint.save(tmp_path, "c", {"a": {"x": torch.zeros(1)}}, {"i": 0})
        seen: list[int] = []

        def watched(kept: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **settings: Any) -> Any:
                result = kept(*args, **settings)
                found = checkpoint.latest(tmp_path)
                assert found is not None
                seen.append(checkpoint.load(found)[1]["i"])
                return result

            return call

        monkeypatch.setattr(Path, "replace", watched(Path.replace))
        monkeypatch.setattr(shutil, "rmtree", watched(shutil.rmtree))
        for i in (1, 2):
            checkpoint.save(tmp_path, "c", {"a": {"x": torch.full((1,), float(i))}}, {"i": i})
        assert sorted(set(seen)) == [0, 1, 2]
        assert seen == sorted(seen)
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.safetensors").write_bytes(b"no tensors here")
        with pytest.raises(RunError, match=r"a\.safetensors: cannot be read"):
            checkpoint.load_tensors(tmp_path / "a.safetensors")

    def test_tied_tensors_are_saved(self, tmp_path: Path) -> None:
        shared = torch.ones(3)
        checkpoint.save_tensors(tmp_path / "t.safetensors", {"a": shared, "b": shared, "view": shared[:2]})
        assert set(checkpoint.load_tensors(tmp_path / "t.safetensors")) == {"a", "b", "view"}


class TestFiles:
    def test_a_failed_write_leaves_the_old_file(self, tmp_path: Path) -> None:
        write_text(tmp_path / "f", "old")
        with pytest.raises(ZeroDivisionError):
            _write_half(tmp_path / "f")
        assert (tmp_path / "f").read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["f"]

    def test_a_failed_folder_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError):
            _write_half_a_folder(tmp_path / "d")
        assert not list(tmp_path.iterdir())

    def test_nan_becomes_null(self, tmp_path: Path) -> None:
        write_json(tmp_path / "f.json", {"a": [math.nan, math.inf, 1.0], "b": {"c": -math.inf}})
        assert read_json(tmp_path / "f.json") == {"a": [None, None, 1.0], "b": {"c": None}}

    def test_too_little_space_is_said_before(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"the run needs about .* MiB, only .* MiB are free"):
            check_writable(tmp_path, 2**60)

    def test_a_file_in_the_way_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("")
        with pytest.raises(RunError, match=r"cannot be written: .*Choose another folder with --out"):
            check_writable(tmp_path / "f" / "run", 1)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_without_permission_is_said(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(RunError, match=r"Permission denied"):
            check_writable(tmp_path / "run", 1)


def _write_half(path: Path) -> None:
    from limbeck.files import writing

    with writing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError


def _write_half_a_folder(path: Path) -> None:
    with writing_folder(path) as folder:
        (folder / "x").write_text("x")
        raise ZeroDivisionError


class TestWatch:
    def test_the_first_bad_update_is_named(self) -> None:
        watch = LossWatch("distil", ("labels", "logits"), lambda x: x)
        watch.add(1, torch.tensor([1.0, 2.0]), [torch.tensor([3, 4])])
        watch.add(2, torch.tensor([1.0, math.inf]), [torch.tensor([7]), torch.tensor([9])])
        watch.add(3, torch.tensor([math.nan, math.nan]), [torch.tensor([5])])
        text = r"stage 'distil': the term objective\.logits became inf at update 2, on the training examples 7, 9\."
        with pytest.raises(NonFinite, match=text):
            watch.flush()

    def test_means_since_the_last_line(self) -> None:
        watch = LossWatch("s", ("a",), lambda x: x)
        assert watch.flush() == {}
        for value in (1.0, 2.0, 6.0):
            watch.add(1, torch.tensor([value]), [])
        assert watch.flush() == {"a": 3.0}
        assert watch.flush() == {}

    def test_a_journal_forgets_what_came_after_the_checkpoint(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "m.jsonl", Silent())
        for step in range(4):
            journal.write(stage="s", round=0, kind="train", step=step, epoch=0, values={"a": math.nan})
        again = Journal(tmp_path / "m.jsonl", Silent())
        again.resume(2, 10.0)
        again.write(stage="s", round=0, kind="train", step=9, epoch=0, values={})
        steps = [json.loads(line)["step"] for line in (tmp_path / "m.jsonl").read_text().splitlines()]
        assert steps == [0, 1, 9]
        assert again.seconds >= 10

    @pytest.mark.parametrize("term", ["labels", "logits"])
    def test_a_run_that_explodes_stops_and_keeps_its_checkpoint(self, tmp_path: Path, term: str) -> None:
        train = {**SMALL["train"], "optimizer": {"name": "sgd", "lr": 1e20}, "schedule": "constant"}
        recipe = {**SMALL, "student": PLAIN, "train": train}
        text = r"stage 'distil': the term objective\.\w+ became (nan|inf) at update \d+, on the training examples \d+, \d+"
        with pytest.raises(NonFinite, match=text):
            distill(recipe, set={f"objective.{term}": None}, out=tmp_path / "run", device="cpu")
        groups, _ = checkpoint.load(checkpoint.latest(tmp_path / "run" / "checkpoints"))
        assert all(value.isfinite().all() for value in groups["learner"].values())


class TestSamples:
    def test_rows_by_index(self) -> None:
        state = SampleState(5, (2,), fill=-1)
        state.write(torch.tensor([3, 0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        rows, seen = state.read(torch.tensor([0, 1, 3]))
        assert rows.tolist() == [[3, 4], [-1, -1], [1, 2]]
        assert seen.tolist() == [True, False, True]
        other = SampleState(5, (2,))
        other.load({name: value.clone() for name, value in state.state().items()})
        assert torch.equal(other.rows, state.rows)


class TestBackend:
    def test_two_runs_in_one_process_may_differ_in_precision(self) -> None:
        assert Backend(precision="bf16", device="cpu").precision == "bf16"
        assert Backend(precision="fp32", device="cpu").precision == "fp32"

    def test_devices(self) -> None:
        assert pick_device("cpu") == "cpu"
        with pytest.raises(LimbeckError, match=r"expected auto, cpu, cuda, cuda:N or mps, found 'gpu'"):
            pick_device("gpu")
        with pytest.raises(LimbeckError, match=r"fp16 needs a GPU"):
            check_precision("fp16", "cpu")
        if not torch.cuda.is_available():
            with pytest.raises(LimbeckError, match=r"'cuda' was asked for, but this machine offers"):
                pick_device("cuda")

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_a_run_in_every_precision(self, tmp_path: Path, precision: str) -> None:
        result = distill(SMALL, set={"train.precision": precision, "train.clip": 1.0}, out=tmp_path / "run", device="cpu")
        assert 0 <= result.metrics["accuracy"] <= 1
        assert all(p.dtype == torch.float32 for p in result.student.parameters())


class TestTrackers:
    def test_tensorboard_writes_below_the_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("tensorboard")
        monkeypatch.chdir(tmp_path)
        result = distill({**SMALL, "track": ["tensorboard"]}, device="cpu")
        assert result.folder == Path("runs/run")
        events = [path for path in tmp_path.rglob("*tfevents*") if path.stat().st_size > 500]
        assert events
        assert all(path.is_relative_to(tmp_path / result.folder) for path in events)

    def test_a_missing_package_is_said_where_it_is_asked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import importlib.util

        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else real(name, *rest))
        text = r"track: \[wandb\] needs wandb, which is not installed. Install it: pip install 'limbeck\[track\]'"
        with pytest.raises(LimbeckError, match=text):
            distill({**SMALL, "track": ["wandb"]}, out=tmp_path / "run", device="cpu")


def test_a_run_whose_last_update_explodes_does_not_look_finished(tmp_path: Path) -> None:
    """With one update there is no later loss to notice; the evaluation does."""
    train = {"steps": 1, "optimizer": {"name": "sgd", "lr": 1e30, "momentum": 0.9}, "schedule": "constant", "batch_size": 32}
    with pytest.raises(NonFinite, match=r"student: its outputs are not a number for \d+ of \d+ held-out examples, such as 0, 1"):
        distill({**SMALL, "student": PLAIN, "train": train}, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "results.json").exists()
