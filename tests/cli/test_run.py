"""limbeck run: folders, resuming, Ctrl-C at every phase, full disks, and what is printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.processes import Command
from tests.runs import PATIENCE, digest, environment

from limbeck.cli.main import main
from limbeck.run import distill

RECIPE = """about: {title: A small one}
task: classification
data: {source: "sklearn:digits", limit: 160}
teacher: {model: convnet, args: {channels: [8, 16]}}
student: {model: convnet, args: {channels: [4, 8]}}
baseline: true
train: {epochs: 3, batch_size: 32, optimizer: {name: adamw, lr: 1e-2}, log_every: 2}
stages:
  teach: {learner: teacher, objective: {labels: cross_entropy}}
  distil:
    objective:
      labels: cross_entropy
      logits: {loss: kd, temperature: 2}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIMBECK_DEBUG", raising=False)
    (tmp_path / "small.yaml").write_text(RECIPE)
    return tmp_path / "small.yaml"


def run(*words: str) -> int:
    return main(["run", *words, "--device", "cpu"])


def test_a_run_from_the_command(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("small.yaml") == 0
    out = capsys.readouterr().out
    for stage, learner in (("teach", "teacher"), ("alone", "alone"), ("distil", "student")):
        assert f"{stage}: training {learner}, 15 updates" in out
        assert len(re.findall(rf"^{stage}: 15/15 .*\| valid accuracy", out, re.MULTILINE)) == 1
    assert re.search(r"Teacher +Alone +Distilled", out)
    for row in ("Accuracy", "Calibration error", "Agreement with teacher", "Parameters", "FLOPs", "Size", "Latency"):
        assert re.search(rf"^ {row} ", out, re.MULTILINE), row
    assert "report   runs/small/report.html" in out
    assert (tmp_path / "runs" / "small" / "report.html").is_file()

    # The same again goes beside it; the folder of a run is never written over.
    before = digest(tmp_path / "runs" / "small")
    assert run("small.yaml", "--set", "seed=1") == 0
    assert (tmp_path / "runs" / "small-2" / "report.html").is_file()
    assert digest(tmp_path / "runs" / "small") == before
    assert digest(tmp_path / "runs" / "small-2") != before
    results = json.loads((tmp_path / "runs" / "small-2" / "results.json").read_text())
    assert results["command"] == "limbeck run small.yaml --set seed=1"


@pytest.fixture
def finished(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run("small.yaml", "--set", "train.epochs=1", "--out", "done") == 0
    capsys.readouterr()
    return tmp_path / "done"


def test_folders_that_are_taken_or_empty(finished: Path, capsys: pytest.CaptureFixture[str]):
    changed = (finished / "results.json").stat().st_mtime_ns
    assert run("small.yaml", "--out", "done") == 2
    assert "done: holds a run already. Add --resume to go on with it, or choose another folder with --out." in capsys.readouterr().err
    assert run("done") == 2
    assert "holds a run already" in capsys.readouterr().err
    assert run("small.yaml", "--out", "done", "--resume") == 2
    assert "begun with another recipe (train.epochs: 1 there, 3 here" in capsys.readouterr().err
    assert run("small.yaml", "--out", "nothing", "--resume") == 2
    assert "nothing: --resume was asked for, but no run was begun there." in capsys.readouterr().err
    assert run("small.yaml", "--resume") == 2
    assert "--resume was asked for, but no run of this recipe was begun" in capsys.readouterr().err
    assert run("done", "--resume") == 0
    out = capsys.readouterr().out
    assert "this run is finished; its results are shown as they are" in out
    assert "Accuracy" in out
    assert (finished / "results.json").stat().st_mtime_ns == changed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nothing.yaml"], "nothing.yaml:1:1: expected a recipe file, found none"),
        (["small.yaml", "--device", "gpu"], "--device: expected auto, cpu, cuda, cuda:N or mps, found 'gpu'"),
        (["small.yaml", "--set", "train.epochs=many"], "train.epochs: expected a whole number, found 'many' (text)"),
        (["small.yaml", "--out", "small.yaml"], "small.yaml: cannot be written"),
        (["small.yaml", "--set", "data.source=folder:nowhere"], "data.source: expected a path that exists"),
    ],
)
def test_mistakes_before_anything_is_written(
    words: list[str], expected: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["run", *words]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert "Traceback" not in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.yaml"]


def test_weights_that_do_not_fit(recipe: Path, capsys: pytest.CaptureFixture[str], finished: Path):
    weights = finished / "student" / "model.safetensors"
    assert run("small.yaml", "--set", f"teacher.weights={weights}", "--out", "other") == 2
    err = capsys.readouterr().err
    assert err.startswith("limbeck run: teacher: ")
    assert "stage1.0.conv.weight" in err
    assert "Traceback" not in err
    (finished / "student" / "broken.safetensors").write_bytes(weights.read_bytes()[:100])
    assert run("small.yaml", "--set", "teacher.weights=done/student/broken.safetensors", "--out", "another") == 2
    assert "broken.safetensors" in capsys.readouterr().err


def test_code_of_ones_own_needs_permission(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "my_nets_of_run.py").write_text(
        "from torch import nn\n"
        "def small(*, num_outputs, input_shape):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_outputs))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["small.yaml", "--set", "student={model: 'my_nets_of_run:small', args: null}", "--set", "train.steps=2"]
    assert run(*words) == 2
    assert "limbeck run: 'my_nets_of_run:small' is code of your own; add --allow-code to run it" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert run(*words, "--allow-code") == 0
    assert main(["eval", "runs/small"]) == 2
    assert main(["eval", "runs/small", "--allow-code"]) == 0


# folders that cannot be written


def test_a_folder_that_cannot_be_made(recipe: Path, capsys: pytest.CaptureFixture[str]):
    if not Path("/proc/self").exists():
        pytest.skip("needs a folder that nobody can write to")
    assert run("small.yaml", "--out", "/proc/limbeck") == 2
    err = capsys.readouterr().err
    assert "limbeck run: /proc/limbeck: cannot be written: " in err
    assert "Choose another folder with --out" in err


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no small disk could be mounted here: {done.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_a_disk_that_is_too_small_is_refused_before_training(recipe: Path, tiny_disk: Path, capsys: pytest.CaptureFixture[str]):
    (tiny_disk / "others").write_bytes(b"x" * (3 * 2**19))
    assert run("small.yaml", "--out", str(tiny_disk / "run")) == 2
    err = capsys.readouterr().err
    assert re.search(r"the run needs about \d+ MiB, only \d+ MiB are free", err), err


@pytest.mark.slow
def test_a_disk_that_fills_up_keeps_the_last_checkpoint(recipe: Path, tiny_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tiny_disk / "run"
    words = ["run", "small.yaml", "--out", str(out), "--device", "cpu", "--set", "train.epochs=100", "--set", "baseline=false"]
    with Command(*words, cwd=tmp_path) as process:
        _wait_for(process, out / "checkpoints" / "latest.json")
        with (tiny_disk / "others").open("wb") as file:  # leaves a few KiB
            free = shutil.disk_usage(tiny_disk).free
            file.write(b"x" * max(free - 8192, 0))
        _, err = process.communicate()
    assert process.returncode == 2, err
    assert "No space left on device" in err
    assert "Free some space, then go on with --resume" in err
    assert "Traceback" not in err
    (tiny_disk / "others").unlink()
    # A hundred epochs of metrics may fill it again; then that is said again.
    assert run(str(out), "--resume") == 0 or "No space left on device" in capsys.readouterr().err


# Ctrl-C


def _wait_for(process: subprocess.Popen[str] | Command, file: Path, text: str = "") -> None:
    limit = time.monotonic() + PATIENCE
    while not (file.exists() and text in file.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.002)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.yaml").write_text(RECIPE)
    distill(folder / "small.yaml", set={"train.epochs": 20}, out=folder / "run", device="cpu")
    return digest(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["teach", "valid", "distil"])
def test_ctrl_c_at_every_phase(moment: str, recipe: Path, tmp_path: Path, whole: str, capsys: pytest.CaptureFixture[str]):
    with Command("run", "small.yaml", "--out", "run", "--device", "cpu", "--set", "train.epochs=20", cwd=tmp_path) as process:
        _wait_for(process, tmp_path / "run" / "metrics.jsonl", f'"{moment}"')
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert re.search(r"stopped at update \d+ of stage '\w+'; everything is saved\. Go on with: limbeck run run --resume", err), err
    assert "Traceback" not in err
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "running"

    assert main(["eval", "run"]) == 2
    assert "Finish it: limbeck run run --resume" in capsys.readouterr().err
    assert run("run", "--resume") == 0
    assert digest(tmp_path / "run") == whole
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_two_ctrl_c_stop_at_once(recipe: Path, tmp_path: Path):
    words = [sys.executable, "-m", "limbeck", "run", "small.yaml", "--out", "run", "--device", "cpu", "--set", "train.epochs=400"]
    process = subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for(process, tmp_path / "run" / "metrics.jsonl", '"teach"')
    for _ in range(2):
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in err


@pytest.mark.slow
def test_ctrl_c_while_the_program_starts(recipe: Path, tmp_path: Path):
    """Python's own start cannot be covered; from the first line of the command on, there is no traceback."""
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell in the background has it ignored
        "from limbeck.cli import main, run\n"
        "sys.modules['limbeck.cli.run'].main = lambda args: signal.raise_signal(signal.SIGINT)\n"
        "sys.exit(main.main(['run', 'small.yaml']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "\ninterrupted\n"
