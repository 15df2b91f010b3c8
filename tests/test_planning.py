"""A plan says what a run will cost: FLOPs by hand, sizes to the byte, times from what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck import finishing as finishing_module
from limbeck import planning
from limbeck.calibration import Labelled, Pace
from limbeck.cli.main import main
from limbeck.config.load import load_recipe
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.errors import RecipeError
from limbeck.finishing import finishing
from limbeck.labelling import Labelling, label
from limbeck.planning import plan
from limbeck.session import Session
from limbeck.store.manage import parse_codec
from tests.runs import SMALL

RECIPE: dict[str, Any] = {
    "task": "classification",
    "data": {"source": "sklearn:digits", "limit": 300},
    "teacher": {"model": "mlp", "args": {"hidden": [64]}, "weights": "random"},
    "student": {"model": "mlp", "args": {"hidden": [8]}},
    "objective": {
        "labels": "cross_entropy",
        "logits": {"loss": "kd"},
        "hint": {"loss": "hint", "student": "hidden1", "teacher": "hidden1"},
    },
    "train": {"epochs": 3, "batch_size": 50, "optimizer": {"name": "sgd", "lr": 0.01}},
    "baseline": True,
}


@pytest.fixture(scope="module")
def outlook() -> planning.Outlook:
    return plan(RECIPE, device="cpu", budget=0.01, machines=2)


def test_what_is_arithmetic_is_exact(outlook: planning.Outlook) -> None:
    alone, distil = outlook.stages
    assert (alone.name, distil.name, distil.learner) == ("alone", "distil", "student")
    assert (distil.batch, distil.rounds, distil.epochs) == (50, 1, 3)
    assert distil.updates == 3 * (300 // 50)
    forward = 2 * (64 * 8 + 8 * 10)
    assert alone.flops_forward == distil.flops_forward == forward
    assert alone.flops_training == forward + 2 * (64 * 8 + 8 * 10 * 2)  # nobody asks for the gradient of the inputs
    assert distil.flops_teachers == {"teacher": 2 * (64 * 64 + 64 * 10)}
    adapter = 2 * 8 * 64
    assert distil.flops_training == alone.flops_training + 3 * adapter
    whole = distil.flops_training + distil.flops_teachers["teacher"]
    assert distil.teacher_share_of_flops == pytest.approx(distil.flops_teachers["teacher"] / whole)
    assert (alone.flops_teachers, alone.teacher_share_of_time, alone.stored_seconds) == ({}, 0.0, None)


def test_times_fit_together(outlook: planning.Outlook) -> None:
    distil = outlook.stages[1]
    assert 0 < distil.teacher_share_of_time < 1
    assert distil.seconds >= distil.updates * distil.seconds_per_update
    assert outlook.training_seconds == pytest.approx(sum(stage.seconds for stage in outlook.stages))
    assert outlook.total_seconds == pytest.approx(outlook.setup_seconds + outlook.training_seconds + outlook.judging_seconds)
    assert outlook.labelling_seconds == outlook.stores[0].labelling_seconds > 0
    two = outlook.machines[0]
    assert (two.machines, two.labelling_seconds) == (2, outlook.labelling_seconds)  # one shard cannot be divided
    assert outlook.stored_training_seconds is not None
    assert distil.stored_seconds_per_update is not None
    saved = distil.updates * (distil.seconds_per_update - distil.stored_seconds_per_update)
    assert outlook.stored_training_seconds == pytest.approx(outlook.training_seconds - saved)


def test_memory_holds_models_and_what_the_forward_keeps(outlook: planning.Outlook) -> None:
    weights = 4 * (64 * 8 + 8 + 8 * 10 + 10)
    alone, distil = outlook.stages
    assert 2 * weights + 4 * 50 * (64 + 8 + 10) < alone.peak_memory_bytes < distil.peak_memory_bytes
    assert distil.peak_memory_bytes > alone.peak_memory_bytes + 4 * 64 * (64 + 10)
    assert outlook.peak_memory_bytes == distil.peak_memory_bytes < 1_000_000


def test_sizes_are_those_of_real_stores(outlook: planning.Outlook, tmp_path: Path) -> None:
    store = outlook.stores[0]
    assert (store.teacher, store.examples) == ("teacher", 300)
    assert store.signals["hidden1"]["shape"] == [64]
    label(RECIPE, Labelling(tmp_path / "whole", {}), device="cpu")
    assert store.bytes == pytest.approx(size(tmp_path / "whole"), rel=0.001)
    alone = {**RECIPE, "objective": {"logits": "kd"}}
    for codec, expected in store.signals["logits"]["bytes"].items():
        label(alone, Labelling(tmp_path / codec, dict([parse_codec(f"logits={codec}")])), device="cpu")
        assert expected == pytest.approx(size(tmp_path / codec), rel=0.01), codec


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_epoch_from_which_storing_pays() -> None:
    pace = pace_of(update=0.5, teachers={"teacher": 0.4})
    planner: Any = planning._Planner.__new__(planning._Planner)
    planner.writing, planner.labelled = {}, {"teacher": Labelled(example=0.01, writing=0.0, reading=0.1)}
    assert planner._stored(pace) == pytest.approx(0.2)
    stage = planner._stage(phase(), pace)
    assert stage.seconds == pytest.approx(2 * (20 * 0.5 + 4 * (1.0 + 0.25) + 0.25))
    assert stage.stored_seconds == pytest.approx(stage.seconds - 2 * 20 * 0.3)
    assert stage.teacher_share_of_time == pytest.approx(0.8)
    assert stage.teacher_share_of_flops == pytest.approx(0.75)
    assert planning._break_even([pace], [stage], 6.0) == pytest.approx(6.0 / (5 * 0.3))
    assert planning._break_even([pace], [stage], None) is None
    planner.labelled = {"teacher": Labelled(0.01, 0.0, 0.4)}
    assert planning._break_even([pace], [planner._stage(phase(), pace)], 6.0) is None
    planner.labelled = {}
    assert planner._stored(pace) is None


def test_whole_shards_are_divided_among_machines() -> None:
    planner: Any = planning._Planner.__new__(planning._Planner)
    planner.labelled = {"teacher": Labelled(example=0.5, writing=7.0, reading=0.1)}
    store = planning.StorePlan("teacher", 10_000, 0, {}, 0.0)
    assert planner._shared_labelling(store, 1) == 5007
    assert planner._shared_labelling(store, 2) == 8192 * 0.5 + 7
    assert planner._shared_labelling(store, 3) == planner._shared_labelling(store, 30) == 4096 * 0.5 + 7


def test_a_teacher_that_is_trained_first_is_no_part_of_a_run_from_its_store() -> None:
    planner: Any = planning._Planner.__new__(planning._Planner)
    planner.writing, planner.stores, planner.labelled = {}, {"teacher": None}, {"teacher": Labelled(example=0.01, writing=0.0, reading=0.1)}
    taught, alone = pace_of(update=0.5, teachers={"teacher": 0.4}), pace_of(update=0.3)
    stages = [planner._stage(phase(name), pace) for name, pace in (("teacher", alone), ("alone", alone), ("student", taught))]
    assert planner._from_stores(stages) == pytest.approx(stages[1].seconds + stages[2].stored_seconds)
    planner.stores = {}
    assert planner._from_stores(stages) is None


def test_the_end_of_a_run_is_timed(tmp_path: Path) -> None:
    backend = Backend(device="cpu")
    session = Session(load_recipe(RECIPE), tmp_path, backend, Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    one, two = (finishing(session, names, 0.01) for names in (["student"], ["student", "teacher"]))
    assert 0 < one < 60
    assert 0 < two < 60
    assert finishing_module._drawing(40) > 2 * finishing_module._drawing(1)


def test_the_plan_of_a_recipe_that_trains_its_teacher() -> None:
    teacher = {"model": "mlp", "args": {"hidden": [64]}}
    stages = {"teacher": {"learner": "teacher", "objective": {"labels": "cross_entropy"}}, "distil": {}}
    found = plan({**RECIPE, "teacher": teacher, "stages": stages}, device="cpu", budget=0.01)
    by_name = {stage.name: stage for stage in found.stages}
    assert found.teacher_training_seconds == by_name["teacher"].seconds > 0
    assert found.stored_training_seconds == pytest.approx(by_name["alone"].seconds + (by_name["distil"].stored_seconds or 0.0))


def phase(learner: str = "student") -> Any:
    return type("Phase", (), {"name": "distil", "learner": learner})


def pace_of(**changes: Any) -> Pace:
    values: dict[str, Any] = {
        "batch": 10,
        "updates": 20,
        "per_epoch": 5,
        "rounds": 2,
        "evaluations": 4,
        "update": 1.0,
        "teachers": {},
        "evaluation": 1.0,
        "saving": 0.25,
        "flops": 400,
        "teacher_flops": {"teacher": 300},
        "forward_flops": 10,
        "peak": 1,
        "exchanged": 1,
    }
    return Pace(**{**values, **changes})


def test_nothing_is_left_behind_and_nothing_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(7)
    plan(SMALL, device="cpu", budget=0.01)
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_that_follows_the_student_is_not_stored() -> None:
    found = plan({**RECIPE, "teacher": {"kind": "ema"}, "baseline": False}, device="cpu", budget=0.01)
    assert (found.stores, found.labelling_seconds, found.stored_training_seconds, found.break_even_epochs) == ([], None, None, None)
    assert found.teacher_training_seconds is None
    assert found.notes == ["teacher: a teacher of kind 'ema' follows the student, so its answers cannot be stored."]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(json.dumps(RECIPE))
    words = ["plan", "r.yaml", "--device", "cpu", "--seconds", "0.01"]
    assert main([*words, "--json", "--machines", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"], found["device"], found["machines"][0]["machines"]) == ("r.yaml", "cpu", 2)
    assert found["stores"][0]["signals"]["logits"]["bytes"].keys() >= {"dense:dtype=fp16", "topk:k=5,dtype=fp16"}
    assert main([*words, "--machines", "3"]) == 0
    out = capsys.readouterr().out
    for text in (
        "Stages on cpu",
        "distil",
        "A store of 'teacher': 300 examples, one view",
        "topk:k=5,dtype=fp16",
        "on 3 machines:",
        "peak",
    ):
        assert text in out
    assert main([*words, "--machines", "51"]) == 2
    assert "--machines 51: an update of stage 'alone' has 50 examples" in capsys.readouterr().err
    for name, value in (("--machines", "0"), ("--seconds", "0")):
        assert main([*words, name, value]) == 2
        assert f"{name} must be" in capsys.readouterr().err


def test_what_is_wrong_with_a_recipe_is_said_first() -> None:
    with pytest.raises(RecipeError, match="student"):
        plan({**RECIPE, "student": {"model": "mlpp"}}, device="cpu")


def test_a_teacher_that_is_renewed_between_rounds_is_not_stored() -> None:
    stages = {"distil": {"repeat": 2, "between": "refresh_teacher"}}
    same = {"model": "mlp", "args": {"hidden": [8]}, "weights": "random"}
    objective = {"labels": "cross_entropy", "logits": {"loss": "kd"}}
    found = plan({**RECIPE, "teacher": same, "stages": stages, "baseline": False, "objective": objective}, device="cpu", budget=0.01)
    assert found.stores == []
    assert found.stages[0].rounds == 2
    assert "models are exchanged between the rounds" in found.notes[0]


def test_a_store_that_is_there_already_is_read(tmp_path: Path) -> None:
    label(RECIPE, Labelling(tmp_path / "store", {}), device="cpu")
    found = plan({**RECIPE, "teacher": {"stored": str(tmp_path / "store")}, "baseline": False}, device="cpu", budget=0.01)
    assert found.stages[0].flops_teachers == {"teacher": 0}
    assert (found.stores, found.break_even_epochs) == ([], None)
