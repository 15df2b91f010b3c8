"""Candidates as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.config.model_schema import ModelSpec
from limbeck.errors import LimbeckError, RunError
from limbeck.study.candidates import read_candidates, size_of, variants


def test_models_with_arguments() -> None:
    first, second = read_candidates(["convnet channels=[4,8] blocks=2", "timm:resnet18 weights=pretrained normalize=data"])
    assert (first.spec.model, first.spec.args, first.spec.weights) == ("convnet", {"channels": [4, 8], "blocks": 2}, None)
    assert (second.spec.weights, second.spec.normalize, second.spec.args) == ("pretrained", "data", {})
    assert first.name == "convnet channels=[4,8] blocks=2"


def test_a_file_with_a_list(tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    file.write_text("- mlp hidden=[8]\n- {model: convnet, args: {channels: [4]}}\n- {name: mine, model: resnet}\n")
    assert [entry.name for entry in read_candidates([str(file), "resnet depth=8"])] == [
        "mlp hidden=[8]",
        "convnet channels=[4]",
        "mine",
        "resnet depth=8",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: mlp\n", r"expected a list of models, such as `- convnet channels=\[8,16\]`, found dict"),
        ("- 5\n", "entry 1: expected a model, as text or as a mapping with `model`, found 5"),
        ("- {model: mlp, arg: {}}\n", "entry 1: arg: extra inputs are not permitted. Did you mean 'args'"),
        ("- [\n", "is no valid YAML"),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "list.yaml"
    file.write_text(content)
    with pytest.raises(RunError, match=message):
        read_candidates([str(file)])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["no/such.yaml"], "no/such.yaml: cannot be read"),
        (["mlp hidden"], r"expected KEY=VALUE after the model, such as channels=\[8,16\], found 'hidden'"),
        (["mlp", "mlp"], "the candidate 'mlp' is named twice"),
        ([" "], "expected a model, found an empty text"),
        (["mlp hidden=["], "the value of hidden cannot be read"),
    ],
)
def test_wrong_texts(texts: list[str], message: str) -> None:
    with pytest.raises(RunError, match=message):
        read_candidates(texts)


def test_widths_are_varied_and_nothing_else() -> None:
    found = variants(ModelSpec(model="convnet", args={"channels": [8, 16], "blocks": 2}, weights="x.pt"))
    assert [entry.spec.args["channels"] for entry in found] == [[2, 4], [4, 8], [6, 12], [8, 16], [12, 24], [16, 32]]
    assert {entry.spec.args["blocks"] for entry in found} == {2}
    assert {entry.spec.weights for entry in found} == {None}
    with pytest.raises(RunError, match="no widths are found in the arguments of 'timm:resnet18'"):
        variants(ModelSpec(model="timm:resnet18"))


@pytest.mark.parametrize(("text", "value"), [("250k", 250e3), ("1.5M", 1.5e6), ("2e6", 2e6), ("3 GFLOPs", 3e9), ("10MB", 1e7), ("7", 7)])
def test_sizes(text: str, value: float) -> None:
    assert size_of(text, "flops") == value


@pytest.mark.parametrize("text", ["much", "-1k", "0", "inf", ""])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(LimbeckError, match=r"--budget-bytes: expected a number above zero, such as 250k or 1\.5M, found"):
        size_of(text, "bytes")
