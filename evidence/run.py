"""What do the recipes' claims come to? The study of every shipped recipe, five seeds each; writes evidence/SLUG.json.

python evidence/run.py                     all recipes whose evidence is missing or stale
python evidence/run.py --only kd quickstart    these, anew
python evidence/run.py --part 1/2          every second of them, for two machines
python evidence/run.py --list              what would be run

What is found is written after every recipe, and a stopped one goes on where it was. Stages that recipes have in common (most of those on
digits share teachers) are trained once. Recipes that ask for data of the user's own, or for what must be fetched, are left out
(evidence/needs.json). Recipes that take too long are shortened (`SHORTER`), and their evidence says so (`over`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from limbeck.config.load import load_recipe
from limbeck.errors import Interrupted, LimbeckError, RecipeError
from limbeck.evidence import need, needs, slug
from limbeck.files import read_json, write_json, write_text
from limbeck.study.conduct import Wish, study
from limbeck.study.execute import Quiet
from limbeck.study.judging import judge
from limbeck.study.runs import Job
from limbeck.version import __version__

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parent / "recipes"
WORK = HERE.parent / "studies" / "evidence"
SEEDS = 5
SHORTER: dict[str, dict[str, Any]] = {
    "dlf": {"train.steps": 60, "evaluate.generations": 0},
    "fashion_mnist": {"data.limit": 6000},
    "gsm8k": {
        "data.args.test": None,
        "data.split.valid": 0.01,
        "data.split.test": 0.02,
        "train.steps": 100,
        "evaluate.answer": None,
        "evaluate.generations": 0,
    },
    "llava_kd": {"data.limit": 800, "train.steps": 80, "stages.teacher.train.steps": 120, "evaluate.generations": 0},
    "shakespeare": {"train.steps": 100, "stages.teacher.train.steps": 130, "evaluate.generations": 0},
    "sst2_small": {"train.epochs": 4},
}
"""By slug: what is laid over a recipe whose five seeds would take more than five minutes on two cores. Chosen by the time of an update and
of an evaluation alone, before any of these recipes was run over its seeds; what is claimed of a shortened run is claimed of that."""
MADE: dict[str, tuple[str, ...]] = {
    "ernie_tiny": ("-m", "limbeck", "run", "recipes/base/spoken_requests.yaml", "--out", "runs/spoken_requests"),
    "spoken_digits": ("examples/spoken_digits.py", "../shared/data/fsdd/fsdd_8khz.npz", "spoken"),
}
"""By slug: what must be run first, from the top of the repository, for a recipe to find its data: the folder where they end up is last."""

TIMED = ("first_token",)
"""Recipes whose claims are about time: their runs are made one by one."""


def main() -> None:
    """Runs the studies and writes the evidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", metavar="SLUG", default=[], help="recipes to run anew (default: all that are missing or stale)"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"seeds of recipes that say nothing (default: {SEEDS})")
    parser.add_argument("--work", type=Path, default=WORK, help="where the runs lie meanwhile (default: studies/evidence)")
    parser.add_argument("--out", type=Path, default=HERE, help="where the evidence goes (default: evidence)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="runs at once, each in one thread of a process (default: 2)")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="the K-th of N shares of the work (default: 1/1)")
    parser.add_argument("--list", action="store_true", help="only say which recipes would be run")
    args = parser.parse_args()
    found = recipes(make=None if args.list else args.only or list(MADE))
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


def recipes(*, make: Sequence[str] | None) -> dict[str, Path]:
    """Slug to file of every recipe that can be read on this machine; those on digits, which are quick, come first.

    Args:
        make: recipes whose data, where they must be made first, are made; none where only a list is wanted.
    """
    paths: dict[str, tuple[bool, Path]] = {}
    asks = needs(HERE)
    for path in sorted(RECIPES.rglob("*.yaml")):
        name = slug(path)
        if path.parent.name == "base" or need(path, asks) is not None:
            continue
        if make is not None and name in make and name in MADE and not (HERE.parent / MADE[name][-1]).exists():
            subprocess.run([sys.executable, *MADE[name]], cwd=HERE.parent, check=True)  # noqa: S603 - of the table above
        try:
            source = load_recipe(path).recipe.data.source
        except RecipeError as error:
            print(f"{name} cannot be run here: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        paths[name] = (not source.startswith("sklearn:"), path)
    return {name: path for name, (_, path) in sorted(paths.items(), key=lambda item: (item[1][0], item[0]))}


def key(path: Path) -> str:
    """What a recipe and what is laid over it say, but for its description and its claims: evidence of another key is stale."""
    apart = {"about": True, "study": {"claims", "confidence", "correction", "baseline"}}
    recipe = load_recipe(path, set=SHORTER.get(slug(path), {})).recipe.model_dump(mode="json", exclude=apart, exclude_defaults=True)
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
    over, begun = SHORTER.get(name, {}), (folder / "study.json").exists()
    workers = 1 if name in TIMED else args.workers
    clock = Clock(args.work / f"{name}.json")
    try:
        shared = args.work / "shared"
        torch.set_num_threads(workers)  # one for each, so that the numbers are the same with any number of them
        wish = Wish(over, seeds=seeds, workers=workers, out=folder, resume=begun, device="cpu", report=False, shared=shared)
        done = study(path, wish, clock)
    except Interrupted as stop:
        clock.keep()
        raise SystemExit(f"{name}: {str(stop).partition(' Go on with')[0]} The same command goes on.") from None
    except LimbeckError as error:
        clock.keep()
        return f"stopped: {str(error).splitlines()[0]}"
    clock.keep()
    shortened = {"over": over} if over else {}
    evidence = {**trimmed(done.results), **shortened, "key": key(path), **{part: round(spent, 1) for part, spent in clock.spent.items()}}
    write_text(args.out / f"{name}.json", lines(evidence))
    shutil.rmtree(folder)
    clock.file.unlink()
    said = ", ".join(f"{claim['text']}: {claim['verdict']}" for claim in evidence["claims"]) or "no claim"
    failed = ", some runs failed" if evidence["failed"] else ""
    return f"{said} ({evidence['elapsed']:.0f} s, {evidence['processor']:.0f} of a processor{failed})"


class Clock(Quiet):
    """What a study takes, also one that is stopped and gone on with: `elapsed` seconds, and those of a `processor`, which say more where
    others are at work on the machine."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.spent: dict[str, float] = read_json(file) if file.exists() else {"elapsed": 0.0, "processor": 0.0}
        self._before = self._now()

    def ended(self, job: Job, error: str | None) -> None:
        """Writes down what was spent until the end of a run."""
        self.keep()

    def keep(self) -> None:
        """Writes down what was spent until now."""
        now = self._now()
        self.spent = {part: held + now[part] - self._before[part] for part, held in self.spent.items()}
        self._before = now
        write_json(self.file, self.spent)

    @staticmethod
    def _now() -> dict[str, float]:
        times = os.times()
        processor = times.user + times.system + times.children_user + times.children_system
        return {"elapsed": time.perf_counter(), "processor": processor}


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
