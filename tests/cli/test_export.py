"""`limbeck export`."""

from __future__ import annotations

import argparse
import json

import pytest
from safetensors.torch import save_file

from limbeck.cli import export
from limbeck.errors import RunError
from limbeck.models.base import ModelRequest
from limbeck.models.build import build_model
from limbeck.types import DataInfo


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    export.configure(parser)
    return export.main(parser.parse_args(words))


@pytest.fixture
def run(tmp_path):
    info = DataInfo("tabular", "class", 3, (4,))
    folder = tmp_path / "run" / "student"
    folder.mkdir(parents=True)
    save_file(build_model(ModelRequest("mlp"), info).module.state_dict(), folder / "model.safetensors")
    data = {"kind": "tabular", "labels": "class", "num_outputs": 3, "input_shape": [4], "class_names": [], "mean": None, "std": None}
    card = {"format": 1, "task": "classification", "model": {"model": "mlp", "args": {}}, "normalization": None, "data": data, "text": None}
    (folder / "model.json").write_text(json.dumps(card))
    return folder.parent


def test_prints_place_difference_and_how_to_load(run, tmp_path, capsys):
    assert call(str(run), "--to", "pt2", "--out", str(tmp_path / "s.pt2")) == 0
    out = capsys.readouterr().out
    assert str(tmp_path / "s.pt2") in out
    assert "largest difference to the PyTorch student: 0 " in out
    assert "torch.export.load" in out
    assert call(str(run), "--to", "safetensors") == 0
    assert "byte for byte" in capsys.readouterr().out


def test_mistakes(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        call(str(run), "--to", "tflite")
    assert exit_.value.code == 2
    assert "safetensors" in capsys.readouterr().err
    with pytest.raises(RunError, match="holds no student"):
        call(str(tmp_path), "--to", "pt2")
