"""A whole study: runs, values, going on, extending, refusing; what runs share has the same bits as what they do alone."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck
from limbeck.errors import LimbeckError, RunError
from limbeck.run import distill
from limbeck.study import execute
from limbeck.study.conduct import Wish, study
from tests.processes import Command, command
from tests.runs import digest
from tests.study.small import ARMS, STUDY, write


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study; its recipe lies above."""
    folder = tmp_path_factory.mktemp("study")
    limbeck.study(write(folder, baseline=True), out=folder / "out", device="cpu")
    return folder / "out"


@pytest.fixture
def hired(monkeypatch: pytest.MonkeyPatch) -> list[execute.Worker]:
    """The workers that a study starts, as it starts them."""
    found: list[execute.Worker] = []
    hire = execute._hire

    def kept(first: Path) -> execute.Worker:
        found.append(hire(first))
        return found[-1]

    monkeypatch.setattr(execute, "_hire", kept)
    return found


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_every_run_is_a_run_directory_and_the_results_hold_its_values(done: Path):
    results = read(done / "results.json")
    assert (results["kind"], results["primary"], results["better"], results["seeds"]) == ("study", "accuracy", "higher", [0, 1])
    assert list(results["arms"]) == ["distilled", "alone"]
    for arm, own in results["arms"].items():
        assert own["set"] == ARMS[arm]
        assert own["runs"] == [f"runs/{arm}/seed-{seed}" for seed in (0, 1)]
        for seed in (0, 1):
            run = read(done / own["runs"][seed] / "results.json")
            assert run["seed"] == seed
            assert (done / own["runs"][seed] / "report.html").exists()
            for model, values in own["values"].items():
                assert values["accuracy"][seed] == run["models"][model]["metrics"]["accuracy"]
                assert values["bytes"][seed] == run["models"][model]["cost"]["bytes"]
            assert own["values"]["student"]["agreement.top1"][seed] == run["models"]["student"]["agreement"]["top1"]
            assert own["valid"]["student"]["accuracy"][seed] == run["models"]["student"]["valid"]["accuracy"]
    assert set(results["arms"]["distilled"]["values"]) == {"student", "teacher", "alone"}
    (claim,) = results["claims"]
    accuracies = [results["arms"][arm]["values"]["student"]["accuracy"] for arm in ("distilled", "alone")]
    assert claim["estimate"] == pytest.approx(sum(a - b for a, b in zip(*accuracies, strict=True)) / 2)
    assert results["ranking"]["metric"] == "accuracy"
    assert read(done / "study.json")["status"] == "finished"
    assert "distilled" in (done / "report.html").read_text()
    assert results["failed"] == {}


def test_the_cut_of_the_data_follows_the_seed_unless_it_is_fixed(done: Path, tmp_path: Path):
    assert "seed: 1  " in (done / "runs" / "alone" / "seed-1" / "recipe.yaml").read_text().partition("split:")[2].partition("student:")[0]
    fixed = study(
        write(tmp_path, {**STUDY, "split_seed": "fixed", "seeds": [1], "arms": {"a": {}}, "claims": []}), Wish(out=tmp_path / "s")
    )
    text = (fixed.folder / "runs" / "a" / "seed-1" / "recipe.yaml").read_text()
    assert "seed: 1  " in text
    assert "seed: 1  " not in text.partition("split:")[2].partition("student:")[0]


def test_what_is_shared_has_the_same_bits_as_what_is_done_alone(done: Path, tmp_path: Path):
    """The second arm took the teacher, and its student alone, from the first; by itself it comes to the same."""
    assert len(list((done / "shared").glob("*.safetensors"))) == 4, "a teacher and a student alone, of two seeds"
    seeds = {"seed": 1, "data.split.seed": 1}
    single = distill(done / "arms" / "alone.yaml", set=seeds, out=tmp_path / "single", device="cpu")
    shared = done / "runs" / "alone" / "seed-1"
    assert digest(shared) == digest(single.folder)
    theirs, own = read(shared / "results.json"), single.results
    for model in ("teacher", "alone", "student"):
        assert theirs["models"][model]["metrics"] == own["models"][model]["metrics"]
        assert theirs["models"][model]["valid"] == own["models"][model]["valid"]
        assert theirs["models"][model]["last"] == own["models"][model]["last"]
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (shared, single.folder)]
    told, alone = ([(line["stage"], line["step"], line["values"]) for line in run] for run in lines)
    assert told == alone
    times = [line["time"] for line in lines[0]]
    assert times == sorted(times)


def test_finished_runs_are_not_repeated_and_claims_may_be_added(done: Path, tmp_path: Path):
    before = {path: path.stat().st_mtime_ns for path in (done / "runs").rglob("*") if path.is_file()}
    claims = ["distilled.accuracy > alone.accuracy", "alone.last.accuracy >= -9"]
    told = {"notes": "Nothing that is said about a recipe makes another one of it."}
    again = study(write(tmp_path, {**STUDY, "claims": claims}, baseline=True, about=told), Wish(out=done, resume=True))
    assert {path: path.stat().st_mtime_ns for path in (done / "runs").rglob("*") if path.is_file()} == before
    assert list(again.claims) == claims
    assert again.claims["alone.last.accuracy >= -9"] == "holds"


def test_another_arm_of_the_same_name_is_refused_with_what_differs(done: Path, tmp_path: Path):
    changed = write(tmp_path, {**STUDY, "arms": {**ARMS, "alone": {"objective.logits": None, "train.epochs": 3}}}, baseline=True)
    with pytest.raises(RunError) as caught:
        study(changed, Wish(out=done, resume=True))
    assert str(caught.value) == (
        f"{done}: the arm 'alone' was another one when its runs were begun (train.epochs: 2 there, 3 here; "
        "stages.distil.train.epochs: 2 there, 3 here). Choose another folder with --out, or give the arm another name."
    )


def test_a_study_is_extended_by_seeds_and_gone_on_with_from_its_folder(tmp_path: Path):
    recipe = write(tmp_path, {"seeds": 1, "arms": ARMS})
    first = study(recipe, Wish(out=tmp_path / "s", report=False))
    assert not (tmp_path / "s" / "runs" / "alone" / "seed-0" / "report.html").exists()
    kept = first.results["arms"]["alone"]["values"]["student"]["accuracy"]
    more = study(tmp_path / "s", Wish(resume=True, seeds=2, report=False))
    assert more.folder == tmp_path / "s"
    assert more.results["arms"]["alone"]["values"]["student"]["accuracy"][:1] == kept
    assert more.results["seeds"] == [0, 1]
    with pytest.raises(RunError, match=r"holds a study already. Add --resume to go on with it, or choose another folder"):
        study(recipe, Wish(out=tmp_path / "s"))
    with pytest.raises(LimbeckError, match=r"is the folder of a study\. Add --resume to go on with it"):
        study(tmp_path / "s")


def test_arms_with_another_loss_are_gone_on_with_from_the_folder(tmp_path: Path):
    """The defaults of the loss that they replace are not in their way."""
    arms = {"kd": {}, "dkd": {"objective.logits": {"loss": "dkd"}}}
    study(write(tmp_path, {"seeds": 1, "arms": arms}), Wish(out=tmp_path / "s", report=False))
    assert "divergence" in (tmp_path / "s" / "arms" / "kd.yaml").read_text()
    more = study(tmp_path / "s", Wish(resume=True, seeds=2, report=False))
    assert more.results["failed"] == {}
    assert all(len(more.results["arms"][arm]["values"]["student"]["accuracy"]) == 2 for arm in arms)


def test_folders_are_numbered_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    recipe = write(tmp_path, {"seeds": 1, "arms": {"a": {"train.steps": 1}}})
    with pytest.raises(RunError, match=r"studies/small: --resume was asked for, but no study of this recipe was begun"):
        study(recipe, Wish(resume=True))
    folders = [study(recipe, Wish(report=False)).folder for _ in range(2)]
    assert folders == [Path("studies/small"), Path("studies/small-2")]
    assert study(recipe, Wish(resume=True)).folder == Path("studies/small-2")


def test_a_run_that_fails_leaves_a_gap_and_the_others_go_on(tmp_path: Path):
    arms = {"good": {}, "bad": {"train.optimizer": {"name": "sgd", "lr": 1e30}}}
    found = study(write(tmp_path, {"seeds": 2, "arms": arms, "claims": ["good.accuracy > bad.accuracy"]}), Wish(out=tmp_path / "s"))
    assert set(found.results["failed"]) == {"bad, seed 0", "bad, seed 1"}
    assert "became" in found.results["failed"]["bad, seed 0"]
    assert found.results["arms"]["bad"]["values"] == {}
    assert found.claims == {"good.accuracy > bad.accuracy": "undecided"}
    assert read(tmp_path / "s" / "study.json")["status"] == "incomplete"


def test_answers_are_written_down_once_a_seed(tmp_path: Path):
    arms = {"stored": {}, "soft": {"objective.logits.temperature": 3}, "asked": {"live": True}}
    found = study(write(tmp_path, {"seeds": 1, "arms": arms, "label": "topk:k=3"}), Wish(out=tmp_path / "s", report=False))
    assert found.results["failed"] == {}
    assert [path.name for path in (tmp_path / "s" / "stores").iterdir() if not path.name.endswith(".teacher")] == ["seed-0"]
    values = found.results["arms"]
    assert "teacher" not in values["stored"]["values"]
    assert "teacher" in values["asked"]["values"]


@pytest.mark.slow
def test_workers_come_to_the_same_numbers(done: Path, tmp_path: Path):
    found = study(write(tmp_path, baseline=True), Wish(workers=2, out=tmp_path / "s", report=False))
    assert found.results["failed"] == {}
    theirs = read(done / "results.json")["arms"]
    for arm in ARMS:
        assert found.results["arms"][arm]["values"]["student"]["nll"] == pytest.approx(theirs[arm]["values"]["student"]["nll"])
    assert not list((tmp_path / "s" / "runs").rglob("*.log"))


@pytest.mark.slow
def test_a_worker_does_one_run_after_the_other(tmp_path: Path, hired: list[execute.Worker]):
    """Also after one that ended with a mistake of the user's; what was printed is kept where something went wrong."""
    arms = {"good": {}, "bad": {"train.optimizer": {"name": "sgd", "lr": 1e30}}}
    found = study(write(tmp_path, {"seeds": 2, "arms": arms}), Wish(workers=2, out=tmp_path / "s", report=False))
    assert set(found.results["failed"]) == {"bad, seed 0", "bad, seed 1"}
    assert len(found.results["arms"]["good"]["values"]["student"]["accuracy"]) == 2
    assert len(hired) == 2
    assert all(worker.poll() is not None for worker in hired)
    assert {path.parent.name for path in (tmp_path / "s" / "runs").rglob("*.log")} == {"bad"}
    assert found.results["threads"] == max(1, torch.get_num_threads() // 2)


@pytest.mark.slow
def test_a_worker_that_dies_takes_only_its_own_run_along(tmp_path: Path, hired: list[execute.Worker], monkeypatch: pytest.MonkeyPatch):
    give = execute._write

    def fatal(worker: execute.Worker, order: Mapping[str, Any]) -> None:
        if "bad" in order["job"]["folder"]:
            worker.kill()
        give(worker, order)

    monkeypatch.setattr(execute, "_write", fatal)
    arms = {"bad": {"train.batch_size": 32}, "good": {}}
    found = study(write(tmp_path, {"seeds": 2, "arms": arms}), Wish(workers=2, out=tmp_path / "s", report=False))
    assert set(found.results["failed"]) == {"bad, seed 0", "bad, seed 1"}
    assert "the worker ended with status -9; see " in found.results["failed"]["bad, seed 0"]
    assert len(found.results["arms"]["good"]["values"]["student"]["accuracy"]) == 2
    assert 2 < len(hired) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_kill_only_the_runs_in_hand_are_gone_on_with(done: Path, tmp_path: Path, workers: int):
    recipe = write(tmp_path, baseline=True)
    words = ("study", str(recipe), "--out", str(tmp_path / "s"), "--workers", str(workers))
    first = tmp_path / "s" / "runs" / "distilled" / "seed-0" / "status.json"
    with Command(*words, cwd=tmp_path) as process:
        while process.poll() is None and not (first.exists() and read(first)["status"] == "finished"):
            time.sleep(0.02)
        assert process.poll() is None, "it was over before it could be killed"
        process.kill()
    time.sleep(1.0)  # workers end with the study
    finished = {path: path.stat().st_mtime_ns for path in first.parent.rglob("*") if path.is_file()}
    there = sum(read(path)["status"] == "finished" for path in (tmp_path / "s" / "runs").rglob("status.json"))
    assert there < 4
    again = command(*words, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"4 runs, {there} of them finished already" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in first.parent.rglob("*") if path.is_file()} == finished
    for arm in ARMS:
        for seed in (0, 1):
            assert digest(tmp_path / "s" / "runs" / arm / f"seed-{seed}") == digest(done / "runs" / arm / f"seed-{seed}")
