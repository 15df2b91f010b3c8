"""limbeck eval: a run or a file of weights, judged again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.runs import SMALL, distill

from limbeck.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval") / "run"
    distill(SMALL, out=folder, device="cpu", allow_code=False)
    return folder


def judged(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, float]:
    assert main(["eval", *words, "--json", "--device", "cpu"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run(run: Path, capsys: pytest.CaptureFixture[str]):
    kept = json.loads((run / "results.json").read_text())["models"]["student"]["metrics"]
    assert judged(capsys, str(run)) == pytest.approx(kept)
    assert main(["eval", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["accuracy", f"{kept['accuracy']:.4f}"]
    assert len(lines) == len(kept)


def test_weights(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    expected = judged(capsys, str(run))
    weights = load_file(run / "student" / "model.safetensors")
    assert judged(capsys, str(run / "student" / "model.safetensors")) == pytest.approx(expected)
    torch.save(weights, tmp_path / "copy.pt")
    assert judged(capsys, str(tmp_path / "copy.pt"), "--recipe", str(run / "recipe.yaml")) == pytest.approx(expected)
    # Other weights give other numbers: the file is what is judged.
    save_file({key: torch.zeros_like(value) for key, value in weights.items()}, tmp_path / "zero.safetensors")
    zero = judged(capsys, str(tmp_path / "zero.safetensors"), "--recipe", str(run / "recipe.yaml"))
    assert zero["nll"] == pytest.approx(torch.log(torch.tensor(10.0)).item(), abs=1e-4)


def test_the_validation_split(run: Path, capsys: pytest.CaptureFixture[str]):
    best = json.loads((run / "results.json").read_text())["stages"][0]["best"]
    assert judged(capsys, str(run), "--split", "valid")[best["metric"]] == pytest.approx(best["value"])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: folder / "nothing", "no such run or file"),
        (lambda folder: folder, "lies in no run; name the recipe of these weights with --recipe"),
        (lambda folder: _file(folder / "a.csv", b"a,b\n"), "--recipe"),
    ],
)
def test_mistakes(make, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["eval", str(make(tmp_path))]) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", b"a,b\n"), ("a.pt", b"no tensors"), ("a.safetensors", b"no tensors"), ("a.pt", b"")]
)
def test_files_that_are_no_weights(name: str, content: bytes, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["eval", str(_file(tmp_path / name, content)), "--recipe", str(run / "recipe.yaml")]) == 2
    err = capsys.readouterr().err
    assert name in err
    assert "Traceback" not in err


def test_weights_of_another_model(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_file({"layer.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    assert main(["eval", str(tmp_path / "other.safetensors"), "--recipe", str(run / "recipe.yaml")]) == 2
    assert "other.safetensors" in capsys.readouterr().err


def test_pickles_are_never_loaded(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    class Harm:
        def __reduce__(self):
            return (Path(tmp_path / "harm").touch, ())

    torch.save(Harm(), tmp_path / "harm.pt")
    assert main(["eval", str(tmp_path / "harm.pt"), "--recipe", str(run / "recipe.yaml")]) == 2
    assert not (tmp_path / "harm").exists()
    assert "harm.pt" in capsys.readouterr().err


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
