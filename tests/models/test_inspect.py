"""The table of layers, and the command that prints it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck.cli.main import main
from limbeck.errors import ModelError
from limbeck.models.inspect import layer_table
from limbeck.taps.tapped import Tapped


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.body = nn.ModuleList([nn.Linear(4, 4)])
        self.rnn = nn.LSTM(4, 5, batch_first=True)
        self.unused = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).mean(2).transpose(1, 2)
        return self.rnn(self.body[0](self.body[0](x)))[0]


def test_rows_by_hand() -> None:
    model = Net()
    model.body.eval()
    rows = {row.path: row for row in layer_table(model, torch.zeros(1, 1, 6, 6))}
    assert list(rows) == ["", "conv", "body", "body.0", "rnn", "unused"]
    conv = rows["conv"]
    assert (conv.type, conv.outputs, conv.parameters, conv.calls, conv.depth) == ("Conv2d", {"conv": (1, 4, 6, 6)}, 36, 1, 1)
    assert conv.flops == 2 * 36 * 36
    assert rows["body.0"].calls == 2
    assert rows["body.0"].flops == 2 * 2 * 6 * 16
    assert rows["body"].outputs == {}
    assert rows["unused"].calls == 0
    assert list(rows["rnn"].outputs) == ["rnn:output.0", "rnn:output.1.0", "rnn:output.1.1"]
    assert rows[""].parameters == sum(p.numel() for p in model.parameters())
    assert rows[""].flops >= conv.flops + rows["body.0"].flops
    assert model.training
    assert model.conv.training
    assert not model.body.training, "each layer's mode is as it was"
    assert not model.conv._forward_hooks


def test_every_output_can_be_tapped_as_it_is_named() -> None:
    model = Net()
    rows = layer_table(model, torch.zeros(1, 1, 6, 6))
    wanted = {tap: shape for row in rows if row.calls == 1 for tap, shape in row.outputs.items()}
    _, got = Tapped(model, list(wanted))(torch.zeros(1, 1, 6, 6))
    assert {tap: tuple(value.shape) for tap, value in got.items()} == wanted


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match=r"Net cannot run on inputs of shape \(1, 3, 6, 6\)"):
        layer_table(Net(), torch.zeros(1, 3, 6, 6))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["inspect", *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "convnet", "--input", "1,8,8", "--arg", "channels=[4, 6]")
    assert (status, err) == (0, "")
    assert "stage2" in out
    assert "6 x 4 x 4" in out
    assert "student: [PATH]" in out
    assert "conv" not in out.replace("convnet", "").replace("ConvNet", "")
    _, deep, _ = run(capsys, "convnet", "--input", "1x8x8", "--depth", "0")
    assert "stage2.0.conv" in deep


def test_paths_are_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    monkeypatch.setenv("COLUMNS", "40")
    status, out, _ = run(capsys, "timm:vit_tiny_patch16_224", "--depth", "0")
    assert status == 0
    assert "blocks.11.attn.q_norm" in out
    assert "…" not in out


def test_text_models(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    status, out, _ = run(capsys, "hf:bert", "--arg", "num_hidden_layers=1", "--arg", "hidden_size=24")
    assert status == 0
    assert ".last_hidden_state 32 x 24" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convnt"], "Did you mean 'convnet'?"),
        (["timm:resnt18"], "Did you mean 'resnet18'"),
        (["convnet", "--input", "3,x"], "--input is the shape of one input"),
        (["convnet", "--input", "0,8,8"], "--input is the shape of one input"),
        (["convnet", "--input", "12"], "convnet reads images"),
        (["resnet", "--arg", "depth"], "--arg is written KEY=VALUE"),
        (["resnet", "--arg", "dept=20"], "Did you mean 'depth'?"),
        (["mlp", "--arg", "hidden=[3"], "the value cannot be read"),
        (["mine:Net"], "--allow-code"),
        ([], "name a model"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert message in err


def test_models_of_a_recipe(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    recipe = str(root / "recipes" / "quickstart.yaml")
    status, out, err = run(capsys, "--recipe", recipe)
    assert (status, err) == (0, "")
    assert "student: " in out
    assert "teacher: " in out
    status, out, _ = run(capsys, "student", "--recipe", recipe)
    assert "teacher: " not in out
    status, _, err = run(capsys, "studnt", "--recipe", recipe)
    assert status == 2
    assert "Did you mean 'student'?" in err
