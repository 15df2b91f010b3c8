"""Every task, source of models and setting of the training, from recipe to report, with data as users have them."""

from __future__ import annotations

import csv
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from limbeck.errors import CodeNotAllowed, LimbeckError, RecipeError
from limbeck.export import export_run
from limbeck.judge import evaluate
from limbeck.report.page import write_report
from limbeck.run import Result, distill
from tests.text_models import save_text_model, sentences

KD = {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 2}}
NETS = {
    "teacher": {"model": "convnet", "args": {"channels": [8, 16]}, "weights": "random"},
    "student": {"model": "convnet", "args": {"channels": [4, 8]}},
}
DIGITS: dict[str, Any] = {
    "task": "classification",
    "data": {"source": "sklearn:digits", "limit": 160},
    **NETS,
    "objective": KD,
    "train": {"epochs": 2, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.01}, "log_every": 1},
}


def run(recipe: dict[str, Any], folder: Path, *, allow_code: bool = False, **overrides: Any) -> Result:
    """Runs a recipe; `a__b=c` overrides `a.b`."""
    changed = {key.replace("__", "."): value for key, value in overrides.items()}
    return distill(recipe, set=changed, out=folder / "run", device="cpu", allow_code=allow_code)


def lines(result: Result, kind: str, stage: str = "distil") -> list[dict[str, Any]]:
    text = (result.folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in text]
    return [line for line in found if line["kind"] == kind and line["stage"] == stage]


def complete(result: Result) -> None:
    """What every run leaves behind."""
    for name in ("recipe.yaml", "environment.json", "metrics.jsonl", "results.json", "report.html", "student/model.json"):
        assert (result.folder / name).stat().st_size > 0, name
    assert json.loads((result.folder / "status.json").read_text())["status"] == "finished"
    weights = load_file(result.folder / "student" / "model.safetensors")
    own = result.student.state_dict()
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[key], own[key]) for key in own)
    assert not result.student.training
    page = result.report.read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script src" not in page


# tasks


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of small photos of differing sizes, one of them greyscale, one with transparency."""
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    for shade, name in enumerate(("bright", "dark", "middle")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(16):
            level = (220, 30, 120)[shade]
            pixels = np.clip(generator.normal(level, 10, (20 + i % 3, 24, 3)), 0, 255).astype(np.uint8)
            picture = image.fromarray(pixels)
            picture = {0: picture.convert("L"), 1: picture.convert("RGBA")}.get(i, picture)
            picture.save(
                tmp_path / "photos" / name / f"{i:02}.{'png' if i % 2 else 'jpg'}" if i != 1 else tmp_path / "photos" / name / "01.png"
            )
    return tmp_path / "photos"


def test_photos_in_folders(photos: Path, tmp_path: Path):
    data = {"source": f"folder:{photos}", "size": 16, "transforms": ["flip", {"crop": {"padding": 2}}, {"color_jitter": {}}]}
    result = run({**DIGITS, "data": data, "baseline": True}, tmp_path, train__epochs=8, train__batch_size=8)
    complete(result)
    assert result.results["data"]["classes"] == ["bright", "dark", "middle"]
    assert result.metrics["accuracy"] > 0.8
    assert result.results["models"].keys() == {"teacher", "alone", "student"}


def test_folders_of_differing_size_ask_for_one(photos: Path, tmp_path: Path):
    with pytest.raises(LimbeckError, match=r"data.source: folder: the images differ in size: .* Set data.size, such as 64"):
        run({**DIGITS, "data": {"source": f"folder:{photos}"}}, tmp_path)


def test_several_labels_of_images(tmp_path: Path):
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, (160, 3))
    x = generator.normal(0.2, 0.05, (160, 8, 8, 3)) + 0.5 * y[:, None, None, :]
    np.savez(tmp_path / "marks.npz", x=np.clip(x, 0, 1).astype(np.float32), y=y)
    recipe = {
        **DIGITS,
        "task": "multilabel",
        "data": {"source": f"npz:{tmp_path / 'marks.npz'}", "args": {"names": ["red", "green", "blue"]}},
        "objective": {"labels": "bce", "answers": {"loss": "mse", "weight": 0.1}},
    }
    result = run(recipe, tmp_path, train__epochs=8, train__batch_size=16)
    complete(result)
    assert result.metrics["map"] > 0.9
    assert {"micro_f1", "macro_f1", "nll"} <= result.metrics.keys()
    assert result.results["data"]["classes"] == ["red", "green", "blue"]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Texts, numbers, truth values and missing cells, as real tables have them."""
    generator = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for i in range(200):
        age = int(generator.integers(18, 80))
        city = ("Berlin", "Paris", "Rome")[int(generator.integers(3))]
        member = bool(generator.integers(2))
        rows.append(
            {
                "id": i,
                "age": "" if i % 11 == 0 else age,
                "city": "NA" if i % 13 == 0 else city,
                "member": str(member).lower(),
                "tags": "|".join(name for name, on in (("old", age > 50), ("north", city == "Berlin"), ("in", member)) if on) or "none",
                "bought": "yes" if age > 50 else "no",
                "spent": round(age * 3 + 20 * (city == "Rome") + float(generator.normal()), 2),
            }
        )
    write_csv(tmp_path / "people.csv", rows)
    return tmp_path / "people.csv"


MLPS = {"teacher": {"model": "mlp", "args": {"hidden": [32, 32]}}, "student": {"model": "mlp", "args": {"hidden": [8]}}}


def table(people: Path, target: str, task: str, learn: Any, imitate: Any, drop: list[str], **args: Any) -> dict[str, Any]:
    return {
        "task": task,
        "data": {"source": f"csv:{people}", "args": {"target": target, "drop": drop, **args}},
        **MLPS,
        "train": {"epochs": 30, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.02}},
        "stages": {
            "teacher": {"learner": "teacher", "objective": {"labels": learn}},
            "distil": {"objective": {"labels": learn, "answers": imitate}},
        },
    }


def test_a_table_with_texts_and_missing_values(people: Path, tmp_path: Path):
    recipe = table(people, "bought", "classification", "cross_entropy", {"loss": "kd", "temperature": 2}, ["id", "spent", "tags"])
    result = run(recipe, tmp_path)
    complete(result)
    assert result.metrics["accuracy"] > 0.85
    assert result.results["models"]["teacher"]["metrics"]["accuracy"] > 0.85
    assert result.results["data"]["classes"] == ["no", "yes"]
    assert any("age" in note or "missing" in note for note in result.results["data"]["notes"])


def test_numbers_of_a_table(people: Path, tmp_path: Path):
    learn = {"loss": "mse", "target": "labels"}
    recipe = table(people, "spent", "regression", learn, "mse", ["id", "bought", "tags"], standardise_target=True)
    result = run(recipe, tmp_path)
    complete(result)
    assert result.metrics["r2"] > 0.6
    assert result.metrics["rmse"] < 0.7  # in units of the standardised target
    assert {"rmse", "mae", "r2"} <= result.metrics.keys()
    assert result.results["models"]["student"].get("reliability") is None


def test_tags_of_a_table(people: Path, tmp_path: Path):
    result = run(table(people, "tags", "multilabel", "bce", "mse", ["id", "bought", "spent"]), tmp_path)
    complete(result)
    assert result.results["data"]["classes"] == ["in", "none", "north", "old"]
    assert result.metrics["map"] > 0.6


def test_texts(tmp_path: Path):
    pytest.importorskip("transformers")
    rows = [{"text": line, "label": ("bad", "good")[label]} for line, label in sentences(120)]
    write_csv(tmp_path / "reviews.csv", rows)
    teacher = save_text_model(tmp_path / "teacher", hidden=32, layers=2, seed=1)
    student = save_text_model(tmp_path / "student", hidden=16, layers=1, seed=2)
    layer = "bert.encoder.layer.{}.output.LayerNorm"
    recipe = {
        "task": "text_classification",
        "data": {"source": f"csv:{tmp_path / 'reviews.csv'}", "max_length": 16},
        "teacher": {"model": f"hf:{teacher}", "weights": "pretrained"},
        "student": {"model": f"hf:{student}", "weights": "pretrained"},
        "train": {"epochs": 12, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.01}, "clip": 1.0},
        "stages": {
            "teacher": {"learner": "teacher", "objective": {"labels": "cross_entropy"}},
            "distil": {"objective": {**KD, "hidden": {"loss": "hint", "student": layer.format(0), "teacher": layer.format(1)}}},
        },
    }
    result = run(recipe, tmp_path)
    complete(result)
    assert result.metrics["accuracy"] > 0.9
    adapters = result.results["adapters"]
    made = next(iter(adapters.values()))
    assert made["kind"] == "linear"
    assert (made["student"][-1], made["teacher"][-1]) == (16, 32)
    assert not any("adapter" in name for name in result.student.state_dict())

    exported = export_run(result.folder, "hf", tmp_path / "exported")
    assert exported.difference < 1e-4
    import transformers

    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "exported")
    assert again.config.id2label == {0: "bad", 1: "good"}
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")("the film").input_ids[0] == 2
    assert evaluate(result.folder, device="cpu") == pytest.approx(dict(result.metrics))


# models


def test_a_foreign_timm_teacher(tmp_path: Path):
    """Its own normalisation, and a checkpoint whose names begin with `module.`."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(3)
    teacher = timm.create_model("test_resnet.r160_in1k", pretrained=False, num_classes=10, in_chans=1)
    save_file({f"module.{key}": value.contiguous() for key, value in teacher.state_dict().items()}, tmp_path / "teacher.safetensors")
    spec = {"model": "timm:test_resnet.r160_in1k", "weights": str(tmp_path / "teacher.safetensors"), "prefix": {"module.": ""}}
    recipe = {**DIGITS, "teacher": {**spec, "normalize": {"mean": [0.449], "std": [0.226]}}}
    recipe["objective"] = {**KD, "middle": {"loss": "hint", "student": "stage2", "teacher": "layer1"}}
    result = run(recipe, tmp_path)
    complete(result)
    assert result.results["adapters"]["objective.middle.adapter"]["kind"] == "conv1x1"

    # The report's numbers of the teacher are those of the weights under its own normalisation.
    from limbeck.data.base import DataRequest
    from limbeck.data.load import load_data

    test = load_data(DataRequest("sklearn:digits", limit=160), kind="image", labels="class").test
    batch = test.__getitems__(list(range(len(test))))
    with torch.no_grad():
        logits = teacher.eval()((batch.inputs - 0.449) / 0.226)
    expected = float((logits.argmax(1) == batch.labels).float().mean())
    assert result.results["models"]["teacher"]["metrics"]["accuracy"] == pytest.approx(expected)

    with pytest.raises(LimbeckError, match=r"module\..*prefix"):
        run({**recipe, "teacher": {**spec, "prefix": {}}}, tmp_path / "wrong")


def test_a_torchvision_teacher_for_colour(tmp_path: Path):
    pytest.importorskip("torchvision")
    generator = np.random.default_rng(0)
    y = np.arange(48) % 2
    x = np.clip(generator.normal(0.3, 0.1, (48, 32, 32, 3)) + 0.3 * y[:, None, None, None], 0, 1).astype(np.float32)
    np.savez(tmp_path / "colour.npz", x=x, y=y)
    recipe = {
        **DIGITS,
        "data": {"source": f"npz:{tmp_path / 'colour.npz'}"},
        "teacher": {"model": "torchvision:squeezenet1_1", "weights": "random"},
        "objective": {**KD, "look": {"loss": "at", "student": "stage2", "teacher": "features.5"}},
    }
    result = run(recipe, tmp_path, train__batch_size=8, train__epochs=1)
    complete(result)
    assert result.results["models"]["teacher"]["reference"] == "torchvision:squeezenet1_1"


def test_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_end_to_end_nets.py").write_text(
        "from torch import nn\n"
        "def small(*, num_outputs, input_shape, width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_outputs))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    recipe = {**DIGITS, "student": {"model": "my_end_to_end_nets:small", "args": {"width": 6}}}
    with pytest.raises(CodeNotAllowed, match=r"my_end_to_end_nets:small.*--allow-code"):
        run(recipe, tmp_path)
    assert not (tmp_path / "run" / "results.json").exists()
    result = run(recipe, tmp_path / "allowed", allow_code=True)
    complete(result)
    assert result.student[1].out_features == 6  # pyright: ignore[reportIndexIssue]
    with pytest.raises(CodeNotAllowed):
        evaluate(result.folder, device="cpu")
    assert evaluate(result.folder, device="cpu", allow_code=True) == pytest.approx(dict(result.metrics))


def test_several_teachers(tmp_path: Path):
    recipe = {key: value for key, value in DIGITS.items() if key != "teacher"} | {
        "teachers": {
            "wide": {"model": "convnet", "args": {"channels": [8, 16]}, "weights": "random"},
            "flat": {"model": "mlp", "args": {"hidden": [16]}, "weights": "random"},
        },
        "objective": {
            "labels": "cross_entropy",
            "one": {"loss": "kd", "from": "wide", "weight": 0.5},
            "two": {"loss": "kd", "from": "flat", "weight": 0.5},
            "look": {"loss": "at", "from": "wide", "student": "stage1", "teacher": "stage1"},
        },
    }
    result = run(recipe, tmp_path)
    complete(result)
    assert {"wide", "flat", "student"} <= result.results["models"].keys()
    assert result.results["models"]["flat"]["reference"] == "mlp"
    with pytest.raises(RecipeError, match=r"no teacher is called 'wde'. Did you mean 'wide'"):
        run(recipe, tmp_path / "typo", objective__one__from="wde")


def test_a_teacher_from_another_run(tmp_path: Path):
    first = run(DIGITS, tmp_path / "first")
    recipe = {**DIGITS, "teacher": {"model": "convnet", "args": {"channels": [4, 8]}, "weights": str(first.folder)}}
    second = run(recipe, tmp_path / "second")
    taught = second.results["models"]["teacher"]["metrics"]
    assert taught == pytest.approx(dict(first.metrics))


def test_a_teacher_that_only_gives_features_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    forward = torch.nn.Linear.forward

    def counted(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        calls.append(self.in_features)
        return forward(self, x)

    monkeypatch.setattr(torch.nn.Linear, "forward", counted)
    seen: list[tuple[int, int]] = []

    class Watch:
        """Notes how often the heads ran during training: 16 inputs are the teacher's, 8 the student's."""

        def stage(self, *args: Any) -> None:
            calls.clear()

        def update(self, update: int) -> None:
            seen.append((calls.count(16), calls.count(8)))

        def record(self, record: Any) -> None: ...

        def message(self, text: str) -> None: ...

    recipe = {**DIGITS, "objective": {"labels": "cross_entropy", "look": {"loss": "at", "student": "stage1", "teacher": "stage1"}}}
    distill(recipe, set={"train.steps": 4, "train.epochs": None}, out=tmp_path / "run", device="cpu", listener=Watch())
    assert seen == [(0, 1), (0, 2), (0, 3), (0, 4)]


# training


def test_stages_with_parts_that_learn(tmp_path: Path):
    recipe = {
        **DIGITS,
        "stages": {
            "hint": {
                "objective": {"labels": None, "logits": None, "middle": {"loss": "hint", "student": "stage1", "teacher": "stage1"}},
                "trainable": ["stage1.*"],
                "train": {"select": "last"},
            },
            "rest": {"trainable": ["stage2.*", "head.*"]},
        },
    }
    result = run(recipe, tmp_path)
    complete(result)
    assert [stage["name"] for stage in result.results["stages"]] == ["hint", "rest"]
    first = run({**recipe, "stages": {"hint": recipe["stages"]["hint"]}}, tmp_path / "first")
    after_hint, after_rest = first.student.state_dict(), result.student.state_dict()
    assert torch.equal(after_hint["stage1.0.conv.weight"], after_rest["stage1.0.conv.weight"])
    assert not torch.equal(after_hint["stage2.0.conv.weight"], after_rest["stage2.0.conv.weight"])
    with pytest.raises(RecipeError, match="no parameter is called"):
        run(recipe, tmp_path / "typo", stages__rest__trainable=["stag2.*"])


def test_schedules_of_weight_and_temperature(tmp_path: Path):
    recipe = {
        **DIGITS,
        "objective": {
            "labels": {"loss": "cross_entropy", "weight": {"schedule": "linear", "start": 0, "end": 1}},
            "logits": {"loss": "kd", "temperature": {"schedule": "linear", "start": 8, "end": 1}, "weight": 0.5},
        },
    }
    result = run(recipe, tmp_path, train__steps=5)
    complete(result)
    values = [line["values"] for line in lines(result, "train")]
    shares = [(value["total"] - 0.5 * value["logits"]) / value["labels"] for value in values]
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-4)
    with pytest.raises(RecipeError, match=r"objective.logits.temperature.end: expected a number > 0, found 0"):
        run(recipe, tmp_path / "zero", objective__logits__temperature={"schedule": "linear", "start": 4, "end": 0})


@pytest.mark.parametrize(
    "settings",
    [
        {"ema": 0.9},
        {"clip": 0.1},
        {"precision": "bf16"},
        {"accumulate": 4},
        {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True}},
        {"optimizer": {"name": "timm:lamb", "lr": 0.01}},
        {"schedule": {"name": "step", "milestones": [0.5], "gamma": 0.1, "warmup": 2}},
        {"schedule": "linear"},
        {"channels_last": True},
        {"workers": 1},
        {"select": "last"},
        {"evaluate_every": 2, "checkpoint_every": 1},
    ],
    ids="-".join,
)
def test_settings_of_the_training(settings: dict[str, Any], tmp_path: Path):
    if "timm" in str(settings):
        pytest.importorskip("timm")
    result = run({**DIGITS, "train": {**DIGITS["train"], **settings}}, tmp_path)
    complete(result)
    values = [line["values"] for line in lines(result, "train")]
    assert len(values) == 10
    assert all(math.isfinite(value["total"]) for value in values)
    if settings.get("accumulate"):
        plain = run(DIGITS, tmp_path / "plain")
        first = lines(plain, "train")[0]["values"]
        # Statistics of batch normalisation are of the parts of a batch, so only the first value nearly agrees.
        assert values[0]["total"] == pytest.approx(first["total"], rel=0.2)
    if settings.get("schedule") == "linear":
        rates = [value["lr"] for value in values]
        assert rates == sorted(rates, reverse=True)
        assert rates[-1] < rates[0] / 5


def test_early_stop_and_plateau(tmp_path: Path):
    settings = {**DIGITS["train"], "optimizer": {"name": "sgd", "lr": 0.0}, "epochs": 30}
    still = {"model": "mlp", "args": {"hidden": [8]}}  # without batch statistics, which move at a rate of zero too
    stopped = run({**DIGITS, "student": still, "train": {**settings, "early_stop": 3}}, tmp_path / "stop")
    complete(stopped)
    assert len(lines(stopped, "valid")) == 4  # the first is the best, then three without progress
    assert stopped.results["stages"][0]["best"]["step"] == 5

    schedule = {"name": "plateau", "patience": 1, "gamma": 0.5}
    slow = {**settings, "optimizer": {"name": "sgd", "lr": 1e-9}, "epochs": 8, "schedule": schedule}
    result = run({**DIGITS, "student": still, "train": slow}, tmp_path / "plateau")
    rates = [line["values"]["lr"] for line in lines(result, "train")]
    assert rates[0] == 1e-9
    assert rates[-1] <= 0.25e-9
    assert all(later in (earlier, pytest.approx(earlier / 2)) for earlier, later in pairwise(rates))


def test_few_labels_and_the_rest_without(tmp_path: Path):
    result = run(DIGITS, tmp_path, data__label_fraction=0.2, baseline=True)
    complete(result)
    data = result.results["data"]
    assert (data["train"], data["labelled"]) == (160, 32)
    alone = next(stage for stage in result.results["stages"] if stage["learner"] == "alone")
    assert alone["updates"] == next(stage for stage in result.results["stages"] if stage["learner"] == "student")["updates"]


def test_a_loss_that_explodes_names_term_step_and_examples(tmp_path: Path):
    with pytest.raises(LimbeckError) as caught:
        run(DIGITS, tmp_path, train__optimizer={"name": "sgd", "lr": 1e30}, train__epochs=5)
    text = str(caught.value)
    assert "labels" in text or "logits" in text
    assert "update" in text or "step" in text
    assert "limbeck run" in text or "checkpoint" in text


# what comes after


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    return run(DIGITS, folder, baseline=True).folder


@pytest.mark.parametrize("to", ["safetensors", "onnx", "pt2"])
def test_export(finished: Path, to: Any, tmp_path: Path):
    if to == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    suffix = {"onnx": ".onnx", "pt2": ".pt2"}.get(to, "")
    result = export_run(finished, to, tmp_path / f"student{suffix}")
    assert result.difference < 1e-4
    assert result.path.exists()


def test_export_of_a_timm_student(tmp_path: Path):
    timm = pytest.importorskip("timm")
    recipe = {**DIGITS, "student": {"model": "timm:test_resnet"}}
    folder = run(recipe, tmp_path, train__steps=2).folder
    export_run(folder, "hf", tmp_path / "exported")
    again = timm.create_model(f"local-dir:{tmp_path / 'exported'}", pretrained=True)
    assert again.get_classifier().out_features == 10
    assert export_run(folder, "onnx", tmp_path / "student.onnx").difference < 1e-3


def test_a_convnet_cannot_become_a_hub_model(finished: Path, tmp_path: Path):
    with pytest.raises(LimbeckError, match="hf"):
        export_run(finished, "hf", tmp_path / "hub")


def test_eval_of_a_run_and_of_its_weights(finished: Path, tmp_path: Path):
    kept = json.loads((finished / "results.json").read_text())["models"]["student"]["metrics"]
    assert evaluate(finished, device="cpu") == pytest.approx(kept)
    assert evaluate(finished / "student" / "model.safetensors", device="cpu") == pytest.approx(kept)
    torch.save(load_file(finished / "student" / "model.safetensors"), tmp_path / "copy.pt")
    assert evaluate(tmp_path / "copy.pt", recipe=finished / "recipe.yaml", device="cpu") == pytest.approx(kept)
    assert evaluate(finished, split="valid", device="cpu") != pytest.approx(kept)
    with pytest.raises(LimbeckError, match="lies in no run; name the recipe of these weights with --recipe"):
        evaluate(tmp_path / "copy.pt", device="cpu")


def test_report_of_several_runs(finished: Path, tmp_path: Path):
    other = run(DIGITS, tmp_path, objective__logits__temperature=8.0)
    write_report([finished, other.folder], tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text()
    assert page.count("<html") == 1
    assert "temperature" in page


def test_the_resolved_recipe_of_a_run_runs_again_to_the_same_weights(finished: Path, tmp_path: Path):
    again = distill(finished / "recipe.yaml", out=tmp_path / "again", device="cpu")
    first = load_file(finished / "student" / "model.safetensors")
    assert all(torch.equal(value, first[key]) for key, value in again.student.state_dict().items())
