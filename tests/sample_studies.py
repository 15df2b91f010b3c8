"""The folder of a study for the tests of its report: really trained runs (see `sample_runs`), with the intervals that they give."""

from __future__ import annotations

import itertools
import json
import statistics
from pathlib import Path
from typing import Any

from scipy import stats

from tests.sample_runs import make_run

ARMS = {"plain": {"t": 4.0}, "cold": {"t": 1.0}, "wide": {"t": 4.0, "width": 12}}
SEEDS = [0, 1, 2]


def make_study(folder: Path, *, epochs: int = 4) -> Path:
    """Trains three arms over three seeds and writes the folder of the study; some ten seconds."""
    for name, options in ARMS.items():
        for seed in SEEDS:
            make_run(folder / "runs" / name / f"seed-{seed}", seed=seed, epochs=epochs, **options)
    arms = {name: arm(folder, name) for name in ARMS}
    results = {
        "format": 1,
        "kind": "study",
        "limbeck": "0.1.0",
        "slug": "digits",
        "recipe": "recipes/digits.yaml",
        "about": {"title": "Which temperature, and how wide?", "paper": "arXiv:1503.02531", "claim": "Width matters more.", "notes": ""},
        "task": "classification",
        "primary": "accuracy",
        "better": "higher",
        "seeds": SEEDS,
        "arms": arms,
        "claims": claims(arms),
        "ranking": ranking(arms),
        "environment": {"python": "3.11"},
        "threads": 1,
        "seconds": 12.5,
    }
    (folder / "results.json").write_text(json.dumps(results))
    plan = {"format": 1, "kind": "study", "recipe": "recipes/digits.yaml", "status": "finished", "seeds": SEEDS}
    plan["arms"] = {name: {"set": own["set"]} for name, own in arms.items()}
    (folder / "study.json").write_text(json.dumps(plan))
    (folder / "recipe.yaml").write_text((folder / "runs" / "plain" / "seed-0" / "recipe.yaml").read_text())
    return folder


def arm(folder: Path, name: str) -> dict[str, Any]:
    """An arm of results.json, from its runs."""
    runs = [f"runs/{name}/seed-{seed}" for seed in SEEDS]
    models = [json.loads((folder / run / "results.json").read_text())["models"] for run in runs]
    values: dict[str, dict[str, list[float]]] = {}
    for model in ("student", "teacher", "alone"):
        for found in models:
            flat = {**found[model]["metrics"], **{f"agreement.{k}": v for k, v in (found[model]["agreement"] or {}).items()}}
            cost = found[model]["cost"]
            flat |= {
                "parameters": cost["parameters"],
                "flops": cost["flops"],
                "bytes": cost["bytes"],
                "latency_ms": cost["latency_ms"],
            }
            for key, value in flat.items():
                values.setdefault(model, {}).setdefault(key, []).append(value)
    valid = {"student": {"accuracy": [value + 0.01 for value in values["student"]["accuracy"]]}}
    options = ARMS[name]
    changes = {"objective.logits.temperature": options["t"], **({"student.args.channels": [12, 24]} if "width" in options else {})}
    return {"set": changes, "runs": runs, "values": values, "valid": valid, "last": valid}


def difference(ours: list[float], theirs: list[float]) -> tuple[float, float, float, float]:
    """Mean, interval and p of the paired differences."""
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    middle, error = statistics.mean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5
    half = float(stats.t.ppf(0.975, len(gaps) - 1)) * error
    return middle, middle - half, middle + half, float(stats.ttest_rel(ours, theirs).pvalue)


def claims(arms: dict[str, Any]) -> list[dict[str, Any]]:
    """A claim that holds, one that fails and one that is open."""
    accuracy = {name: own["values"]["student"]["accuracy"] for name, own in arms.items()}
    found = []
    for text, a, b, offset in (
        ("wide.accuracy > plain.accuracy - 0.9", "wide", "plain", -0.9),
        ("plain.accuracy > cold.accuracy + 0.9", "plain", "cold", 0.9),
        ("plain.accuracy > cold.accuracy", "plain", "cold", 0.0),
    ):
        middle, low, high, p = difference(accuracy[a], [value + offset for value in accuracy[b]])
        verdict = "holds" if low > 0 else "fails" if high < 0 else "undecided"
        needed = 17 if verdict == "undecided" else None
        row = {"text": text, "verdict": verdict, "estimate": middle, "low": low, "high": high, "confidence": 0.95, "p": p}
        found.append({**row, "p_adjusted": min(1.0, 3 * p), "seeds": len(SEEDS), "needed_seeds": needed, "reason": ""})
    return found


def ranking(arms: dict[str, Any]) -> dict[str, Any]:
    """Mean ranks, Friedman's test and all pairs."""
    accuracy = {name: own["values"]["student"]["accuracy"] for name, own in arms.items()}
    ranks = [stats.rankdata([-values[i] for values in accuracy.values()]) for i in range(len(SEEDS))]
    means = {name: float(statistics.mean(row[i] for row in ranks)) for i, name in enumerate(accuracy)}
    pairs = []
    for a, b in itertools.combinations(accuracy, 2):
        middle, low, high, p = difference(accuracy[a], accuracy[b])
        pairs.append({"a": a, "b": b, "mean": middle, "low": low, "high": high, "p_adjusted": min(1.0, 3 * p)})
    order = sorted(means, key=means.__getitem__)
    return {
        "metric": "accuracy",
        "order": order,
        "mean_rank": means,
        "friedman_p": float(stats.friedmanchisquare(*accuracy.values()).pvalue),
        "critical_difference": 1.91,
        "cliques": [order[:2], order[1:]],
        "pairs": pairs,
    }
