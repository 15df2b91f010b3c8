"""Do the recipes hold on other data? Every recipe of recipes/classification on Fashion-MNIST, one after the other, one seed.

python evidence/other_data.py                  all recipes that evidence/other_data.json does not have yet
python evidence/other_data.py --only kd dkd    these, anew
python evidence/other_data.py --over recipes/base/fashion_mnist_torchvision.yaml

A minute a recipe on one core; teachers and students alone that recipes have in common are trained once. What is found is written after
every recipe, so a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import limbeck
from limbeck import errors
from limbeck.config.load import load_recipe
from limbeck.environment import environment

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parent / "recipes"


def main() -> None:
    """Runs the recipes and writes the evidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="recipes to run anew (default: all that are missing)")
    parser.add_argument("--over", type=Path, default=RECIPES / "base" / "fashion_mnist.yaml", help="what is laid over each recipe")
    parser.add_argument("--out", type=Path, default=HERE / "other_data.json", help="where the evidence goes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    held: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8"))["recipes"] if args.out.exists() else {}
    names = recipes_on_digits()
    if unknown := set(args.only) - set(names):
        parser.error(f"no such recipe on digits: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only or [name for name in names if name not in held]:
            held[name] = run(name, args.over, Path(folder))
            args.out.write_text(lines(held), encoding="utf-8")
            print(f"{name}: {held[name]}", flush=True)
    judged = [found for found in held.values() if "error" not in found]
    ahead = sum(found["distilled"] >= found["alone"] for found in judged)
    print(
        f"{len(held)} of {len(names)} recipes, {len(held) - len(judged)} stopped by an error; distilled at least as good as alone: {ahead}"
    )


def recipes_on_digits() -> list[str]:
    """Names of the recipes that learn digits."""
    found = {path.stem: _source(path) for path in sorted((RECIPES / "classification").glob("*.yaml"))}
    return [name for name, source in found.items() if source == "sklearn:digits"]


def _source(path: Path) -> str | None:
    """The data source of a recipe; None of one that needs data of the user's own."""
    try:
        return load_recipe(path).recipe.data.source
    except errors.RecipeError:
        return None


def run(name: str, over: Path, folder: Path) -> dict[str, Any]:
    """Accuracy of a recipe's models on the test set, and the processor's seconds for what no recipe before had; or what stopped it.

    Args:
        name: of the recipe.
        over: what is laid over it.
        folder: where the stages lie that recipes have in common.
    """
    start = time.process_time()
    recipe, out = RECIPES / "classification" / f"{name}.yaml", folder / "run"
    try:
        result = limbeck.distill(recipe, set={"extends": str(over)}, out=out, device="cpu", shared=folder / "shared", report=False)
    except errors.LimbeckError as error:
        return {"error": str(error)}
    finally:
        shutil.rmtree(out, ignore_errors=True)
    models = result.results["models"]
    named = {"distilled" if model == "student" else str(model): about["metrics"]["accuracy"] for model, about in models.items()}
    found = {model: round(accuracy, 4) for model, accuracy in named.items()}
    return {**found, "seconds": round(time.process_time() - start)}


def lines(held: dict[str, Any]) -> str:
    """JSON with a line a recipe."""
    packages = environment()["packages"]
    versions = {name: packages[name] for name in ("limbeck", "torch") if name in packages}
    rows = [f"  {json.dumps(name)}: {json.dumps(held[name])}" for name in sorted(held)]
    return "\n".join(["{", f' "versions": {json.dumps(versions)},', ' "recipes": {', ",\n".join(rows), " }", "}", ""])


if __name__ == "__main__":
    main()
