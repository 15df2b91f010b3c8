"""A whole distillation from Python: the recipe is a dictionary, the result an object.

python examples/from_python.py        about three seconds; the run goes into a temporary folder
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import limbeck

RECIPE = {
    "task": "classification",
    "data": {"source": "sklearn:wine", "label_fraction": 0.2},
    "teacher": {"model": "mlp", "args": {"hidden": [64, 64]}},
    "student": {"model": "mlp", "args": {"hidden": [4]}},
    "baseline": True,
    "train": {"epochs": 40, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 1e-2}},
    "stages": {
        "teacher": {"learner": "teacher", "data": {"label_fraction": 1.0}, "objective": {"labels": "cross_entropy"}},
        "distil": {"objective": {"labels": {"loss": "cross_entropy", "weight": 0.1}, "logits": {"loss": "kd", "temperature": 2.0}}},
    },
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = limbeck.distill(RECIPE, out=Path(folder) / "wine", set={"seed": 1})
        models = run.results["models"]
        for name in ("teacher", "alone", "student"):
            print(f"{name:8} {models[name]['metrics']['accuracy']:.1%}")
        print(f"{run.report.stat().st_size:,} bytes of report; the student is a {type(run.student).__name__}")


if __name__ == "__main__":
    main()
