"""Every format, read back by the program that others would use, and compared with the student."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from students import NORMALIZATION, make_student

from limbeck.errors import CodeNotAllowed, LimbeckError, RunError, UnknownName
from limbeck.export import export_run
from limbeck.export.base import largest_difference
from limbeck.export.student import load_student

TINY_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}


@pytest.fixture
def run(tmp_path) -> Path:
    return make_student(tmp_path / "run", "convnet", "image", (1, 8, 8), normalization=NORMALIZATION)


@torch.no_grad()
def by_hand(run: Path, x: torch.Tensor) -> torch.Tensor:
    """The student's answer to raw inputs, normalised here and not by the code under test."""
    student = load_student(run)
    norm = student.card["normalization"]
    mean, std = (torch.tensor(norm[key]).view(1, -1, *[1] * (x.ndim - 2)) for key in ("mean", "std"))
    return student.module((x - mean) / std)


def test_onnx_holds_the_normalisation_and_any_batch(run, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    result = export_run(run, "onnx", tmp_path / "s.onnx")
    session = onnxruntime.InferenceSession(result.path, providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["image"]
    assert session.get_inputs()[0].shape[1:] == [1, 8, 8]
    assert isinstance(session.get_inputs()[0].shape[0], str)
    for size in (1, 3, 17):
        x = torch.rand(size, 1, 8, 8)
        got = torch.from_numpy(session.run(["logits"], {"image": x.numpy()})[0])
        torch.testing.assert_close(got, by_hand(run, x), rtol=1e-4, atol=1e-5)
    assert 0 < result.difference < 1e-4 * max(1, result.scale)
    assert session.get_modelmeta().custom_metadata_map["classes"].splitlines() == [f"class {i}" for i in range(4)]


def test_pt2_holds_the_normalisation_and_any_batch(run, tmp_path):
    result = export_run(run, "pt2", tmp_path / "s.pt2")
    program = torch.export.load(result.path).module()
    for size in (1, 3, 17):
        x = torch.rand(size, 1, 8, 8)
        torch.testing.assert_close(program(x), by_hand(run, x))


def test_safetensors_is_the_students_own_state(run, tmp_path):
    result = export_run(run, "safetensors", tmp_path / "s")
    assert load_file(result.path / "model.safetensors").keys() == load_student(run).module.state_dict().keys()
    assert json.loads((result.path / "model.json").read_text()) == json.loads((run / "student" / "model.json").read_text())


def test_default_place_is_inside_the_run_and_can_be_repeated(run):
    for _ in range(2):
        assert export_run(run, "safetensors").path == run / "export" / "safetensors"
        assert export_run(run, "pt2").path == run / "export" / "student.pt2"
    assert sorted(path.name for path in (run / "export").iterdir()) == ["safetensors", "student.pt2"]


def test_tabular_takes_raw_columns(tmp_path):
    norm = {"mean": [10.0, -3.0, 0.0], "std": [5.0, 0.1, 1.0]}
    run = make_student(tmp_path / "run", "mlp", "tabular", (3,), normalization=norm)
    program = torch.export.load(export_run(run, "pt2").path).module()
    x = torch.tensor([[12.0, -3.05, 0.4]])
    torch.testing.assert_close(program(x), by_hand(run, x))


def test_timm_folder_is_loaded_by_timm(tmp_path):
    timm = pytest.importorskip("timm")
    run = make_student(tmp_path / "run", "timm:test_resnet", "image", (1, 32, 32), normalization=NORMALIZATION)
    result = export_run(run, "hf")
    again = timm.create_model(f"local-dir:{result.path}", pretrained=True).eval()
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(again((x - 0.3) / 0.25), by_hand(run, x))
    assert list(again.pretrained_cfg["mean"]) == [0.3]
    assert again.pretrained_cfg["label_names"][:2] == ["class 0", "class 1"]


@pytest.mark.parametrize("to", ["onnx", "pt2", "hf"])
def test_text_student(tmp_path, to):
    pytest.importorskip("transformers")
    text = {"tokenizer": None, "max_length": 32}
    run = make_student(tmp_path / "run", "hf:bert", "text", (32,), args=TINY_BERT, text=text)
    result = export_run(run, to)
    assert result.inputs == ("input_ids", "attention_mask")
    assert result.difference < 1e-5
    if to == "pt2":
        program = torch.export.load(result.path).module()
        ids, mask = torch.randint(0, 100, (1, 9)), torch.ones(1, 9, dtype=torch.long)
        torch.testing.assert_close(program(ids, mask), load_student(run).module(input_ids=ids, attention_mask=mask).logits)


def test_transformers_image_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    args = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}
    run = make_student(tmp_path / "run", "hf:vit", "image", (1, 16, 16), args=args, normalization=NORMALIZATION)
    result = export_run(run, "hf", tmp_path / "out")
    again = transformers.AutoModelForImageClassification.from_pretrained(result.path).eval()
    assert again.config.id2label[2] == "class 2"
    assert json.loads((result.path / "preprocessor_config.json").read_text())["image_mean"] == [0.3]


def test_hf_of_a_built_in_says_what_is_supported(run):
    with pytest.raises(RunError, match="It supports: safetensors, onnx, pt2"):
        export_run(run, "hf")
    assert not (run / "export").exists()


def test_an_export_that_differs_is_refused_and_not_written(run, tmp_path):
    with pytest.raises(RunError, match="differs from the student by"):
        export_run(run, "onnx", tmp_path / "s.onnx", tolerance=1e-12)
    assert list(tmp_path.glob("s.onnx*")) == []


def test_comparison_sees_nan_wrong_shapes_and_failures():
    def draw(size, generator):
        return (torch.rand(size, 2, generator=generator),)

    for wrong, message in (
        (lambda x: x * float("nan"), "differs"),
        (lambda x: x[:1], "shape"),
        (lambda x: x if len(x) != 3 else x.view(7, 7), "fails at batch size 3"),
        (lambda x: x + 1e-3, "differs"),
    ):
        with pytest.raises(RunError, match=message):
            largest_difference(lambda x: x, wrong, draw, tolerance=1e-4, what="it")
    assert largest_difference(lambda x: x, lambda x: x, draw, tolerance=1e-4, what="it")[0] == 0


def test_user_mistakes(run, tmp_path):
    with pytest.raises(RunError, match=r"holds no student.*--resume"):
        export_run(tmp_path, "onnx")
    with pytest.raises(RunError, match="is not a directory"):
        export_run(tmp_path / "nothing", "onnx")
    with pytest.raises(UnknownName, match="Did you mean 'onnx'"):
        export_run(run, "onx")  # pyright: ignore[reportArgumentType]
    full = tmp_path / "mine"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="not empty"):
        export_run(run, "safetensors", full)
    assert (full / "thesis.txt").exists()
    with pytest.raises(RunError, match="is a folder"):
        export_run(run, "pt2", full)
    with pytest.raises(RunError, match="above 0"):
        export_run(run, "pt2", tolerance=0)


def test_damaged_student(run):
    card = run / "student" / "model.json"
    good = json.loads(card.read_text())
    card.write_text(json.dumps({"format": 1}))
    with pytest.raises(RunError, match="no card of a student"):
        export_run(run, "pt2")
    card.write_text(json.dumps({**good, "model": {"model": "own_code:make", "args": {}}}))
    with pytest.raises(CodeNotAllowed):
        export_run(run, "pt2")
    card.write_text(json.dumps(good))
    (run / "student" / "model.safetensors").write_bytes(b"not a file of weights")
    with pytest.raises(LimbeckError):
        export_run(run, "pt2")


def test_weights_of_an_adapter_in_the_student_are_an_error(run):
    """The bare student's own names are all that may leave."""
    from safetensors.torch import save_file

    file = run / "student" / "model.safetensors"
    state = load_file(file)
    save_file({**state, "adapters.hint.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(LimbeckError, match=r"adapters\.hint\.weight"):
        export_run(run, "safetensors")


def test_missing_package_says_how_to_install_it(run, monkeypatch):
    import importlib

    real = importlib.import_module

    def without(name, *rest):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(LimbeckError, match=r"pip install 'limbeck\[export\]'"):
        export_run(run, "onnx")


def test_run_can_be_moved_after_training(run, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(run, moved)
    exported = export_run(moved, "pt2")
    assert exported.path.exists()
    assert exported.path.is_relative_to(moved)
