"""What do the recipes' claims come to? The study of every shipped recipe, five seeds each; writes evidence/SLUG.json.

python evidence/run.py                     all recipes whose evidence is missing or stale
python evidence/run.py --only kd quickstart    these, anew
python evidence/run.py --part 1/2          every second of them, for two processes at once
python evidence/run.py --list              what would be run

What is found is written after every recipe, and a stopped one goes on where it was. Stages that recipes have in common (most of those on
digits share teachers) are trained once. Recipes that ask for data of the user's own, or for those that torchvision fetches, are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from limbeck.config.load import load_recipe
from limbeck.errors import LimbeckError, RecipeError
from limbeck.evidence import slug
from limbeck.files import write_text
from limbeck.study.conduct import Wish, study
from limbeck.study.judging import judge
from limbeck.version import __version__

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parent / "recipes"
WORK = HERE.parent / "studies" / "evidence"
SEEDS = 5


def main() -> None:
    """Runs the studies and writes the evidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", metavar="SLUG", default=[], help="recipes to run anew (default: all that are missing or stale)"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"seeds of recipes that say nothing (default: {SEEDS})")
    parser.add_argument("--work", type=Path, default=WORK, help="where the runs lie meanwhile (default: studies/evidence)")
    parser.add_argument("--out", type=Path, default=HERE, help="where the evidence goes (default: evidence)")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="the K-th of N shares of the work (default: 1/1)")
    parser.add_argument("--list", action="store_true", help="only say which recipes would be run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = recipes()
    if unknown := set(args.only) - set(found):
        parser.error(f"no such recipe: {', '.join(sorted(unknown))}. Known: {', '.join(found)}")
    todo = args.only or [name for name, path in found.items() if not fresh(args.out / f"{name}.json", path)]
    share, _, shares = args.part.partition("/")
    todo = todo[int(share) - 1 :: int(shares)]
    if args.list:
        print("\n".join(todo))
        return
    for number, name in enumerate(todo, start=1):
        print(f"{number}/{len(todo)} {name}: {run(name, found[name], args)}", flush=True)


def recipes() -> dict[str, Path]:
    """Slug to file of every recipe that can be read on this machine; those on digits, which are quick, come first."""
    paths: dict[str, tuple[bool, Path]] = {}
    for path in sorted(RECIPES.rglob("*.yaml")):
        if path.parent.name == "base":
            continue
        try:
            source = load_recipe(path).recipe.data.source
        except RecipeError:
            continue
        if source.startswith("torchvision:"):
            continue
        paths[slug(path)] = (not source.startswith("sklearn:"), path)
    return {name: path for name, (_, path) in sorted(paths.items(), key=lambda item: (item[1][0], item[0]))}


def key(path: Path) -> str:
    """What a recipe says, but for its description and its claims: evidence of another key is stale."""
    apart = {"about": True, "study": {"claims", "confidence", "correction", "baseline"}}
    recipe = load_recipe(path).recipe.model_dump(mode="json", exclude=apart, exclude_defaults=True)
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def fresh(file: Path, path: Path) -> bool:
    """Whether the evidence is there and is that of the recipe as it stands; where only the claims are others, they are decided anew."""
    if not file.exists():
        return False
    held = json.loads(file.read_text(encoding="utf-8"))
    if held.get("key") != key(path) or held.get("failed"):
        return False
    study = load_recipe(path).recipe.study
    if study is not None and study.claims and study.claims != [claim["text"] for claim in held["claims"]]:
        write_text(file, lines(_rounded({**held, **judge(held, study.claims, study)})))
        print(f"{file.stem}: the same runs, other claims", flush=True)
    return True


def run(name: str, path: Path, args: argparse.Namespace) -> str:
    """Runs a study and writes what it found; returns a line that says so."""
    folder = args.work / name
    mine = load_recipe(path).recipe.study
    seeds = None if mine is not None else args.seeds
    began = time.perf_counter()
    try:
        wish = Wish(
            seeds=seeds, out=folder, resume=(folder / "study.json").exists(), device="cpu", report=False, shared=args.work / "shared"
        )
        done = study(path, wish)
    except LimbeckError as error:
        return f"stopped: {str(error).splitlines()[0]}"
    evidence = {**trimmed(done.results), "key": key(path), "elapsed": round(time.perf_counter() - began, 1)}
    write_text(args.out / f"{name}.json", lines(evidence))
    shutil.rmtree(folder)
    said = ", ".join(f"{claim['text']}: {claim['verdict']}" for claim in evidence["claims"]) or "no claim"
    return f"{said} ({evidence['elapsed']:.0f} s{', some runs failed' if evidence['failed'] else ''})"


def trimmed(results: Any) -> dict[str, Any]:
    """The results without folders, with the recipe's path from the top of the repository, and numbers of six digits."""
    path = Path(results["recipe"]).resolve()
    recipe = path.relative_to(HERE.parent).as_posix() if path.is_relative_to(HERE.parent) else path.name
    arms = {arm: {part: value for part, value in own.items() if part != "runs"} for arm, own in results["arms"].items()}
    environment = {name: value for name, value in results["environment"].items() if name != "commit"}  # the tree may be ahead of it
    return _rounded({**results, "recipe": recipe, "limbeck": __version__, "arms": arms, "environment": environment})


def lines(value: Any) -> str:
    """JSON with a list of numbers in one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return re.sub(r"\[\s+([^\[\]{}\"]*?)\s+\]", lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
