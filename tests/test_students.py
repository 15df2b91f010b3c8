"""Students made from their teacher, trained and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck.export import export_run
from limbeck.judge import evaluate
from tests.runs import distill
from tests.text_models import save_text_model, sentences

KD = {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 2}}


def test_a_student_made_of_the_layers_of_its_teacher(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    rows = [f"{line},{('bad', 'good')[label]}" for line, label in sentences(60)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    teacher = save_text_model(tmp_path / "teacher", hidden=32, layers=4, seed=1)
    recipe = {
        "task": "text_classification",
        "data": {"source": f"csv:{tmp_path / 'reviews.csv'}", "max_length": 16},
        "teacher": {"model": f"hf:{teacher}", "weights": "pretrained"},
        "student": {"from": "teacher", "shrink": {"layers": "importance", "count": 2, "intermediate": 40}},
        "objective": KD,
        "train": {"epochs": 1, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.0}},
    }
    result = distill(recipe, out=tmp_path / "run", device="cpu")
    card = json.loads((result.folder / "student" / "model.json").read_text())
    assert card["model"]["args"] == {"num_hidden_layers": 2, "intermediate_size": 40}
    student: Any = result.student
    own: Any = transformers.BertForSequenceClassification.from_pretrained(teacher)
    theirs = [tuple(layer.attention.self.query.weight.flatten()[:3].tolist()) for layer in own.bert.encoder.layer]
    mine = [tuple(student.bert.encoder.layer[i].attention.self.query.weight.flatten()[:3].tolist()) for i in (0, 1)]
    assert mine[0] in theirs
    assert mine[1] in theirs[theirs.index(mine[0]) + 1 :]

    assert export_run(result.folder, "hf", tmp_path / "exported").difference < 1e-4
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "exported")
    assert (again.config.num_hidden_layers, again.config.intermediate_size) == (2, 40)
    assert evaluate(result.folder, device="cpu") == pytest.approx(dict(result.metrics))
