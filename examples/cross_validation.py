"""Every fold of a cross-validation, one run each, and the mean over them: accuracy, sensitivity, specificity and AUC of every model, its
parameters and its latency.

    python examples/cross_validation.py recipes/classification/kd_oct.yaml [KEY=VALUE ...]

The recipe says `data.split.folds`, and, where examples belong together (a patient, a writer), `data.split.group`. The runs lie in
`runs/NAME-fold1` and so on; one that is finished already is read.
"""

from __future__ import annotations

import sys
from math import isfinite, nan
from pathlib import Path
from statistics import mean, stdev

import limbeck
from limbeck.config.load import load_recipe


def main(recipe: str, *changes: str) -> None:
    """Runs the folds, and prints a line for each model."""
    split = load_recipe(recipe, set=changes).recipe.data.split
    if split is None or split.folds is None:
        sys.exit(f"{recipe}: has no data.split.folds; add it, such as data.split.folds=5")
    models: dict[str, list[dict]] = {}
    for fold in range(1, split.folds + 1):
        out = Path("runs") / f"{Path(recipe).stem}-fold{fold}"
        run = limbeck.distill(recipe, set=[*changes, f"data.split.fold={fold}"], out=out, resume=out.exists())
        for name, model in run.results["models"].items():
            models.setdefault(name, []).append(model)
    for name, folds in models.items():
        accuracies = [100 * model["metrics"]["accuracy"] for model in folds]
        cost = folds[0]["cost"]
        print(f"{name:8} {mean(accuracies):.1f}%")
        for key in ("sensitivity", "specificity", "auc"):  # absent in a fold without examples to count
            known = [value for model in folds if isfinite(value := model["metrics"].get(key) or nan)]
            print(f"         {key} {mean(known):.3f}" if known else f"         no {key}")
        spread = stdev(accuracies)
        print(f"         {spread:.1f} points between folds, {cost['parameters']:,} parameters, {cost['latency_ms']:.2f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
