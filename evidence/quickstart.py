"""Is the quickstart's claim true? Its recipe over several seeds, with the paired differences and their interval.

python evidence/quickstart.py                 five seeds, a few minutes; writes evidence/quickstart.json
python evidence/quickstart.py --seeds 2 --out /tmp/q.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from scipy import stats

import limbeck
from limbeck.environment import environment

HERE = Path(__file__).resolve().parent
RECIPE = HERE.parent / "recipes" / "quickstart.yaml"


def main() -> None:
    """Runs the seeds and writes the evidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds (default: 5)")
    parser.add_argument("--out", type=Path, default=HERE / "quickstart.json", help="where the evidence goes")
    args = parser.parse_args()
    runs = []
    for seed in range(args.seeds):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            # The split of the data follows the seed too, so that the interval covers more than the training's chance.
            result = limbeck.distill(RECIPE, set={"seed": seed, "data.split.seed": seed}, out=Path(folder) / "run", device="cpu")
        models = result.results["models"]
        runs.append({"seed": seed, "seconds": round(time.perf_counter() - start, 1), **{name: m["metrics"] for name, m in models.items()}})
        print(f"seed {seed}: " + ", ".join(f"{name} {m['metrics']['accuracy']:.4f}" for name, m in models.items()), flush=True)
    gains = [run["student"]["accuracy"] - run["alone"]["accuracy"] for run in runs]
    mean, error = statistics.mean(gains), statistics.stdev(gains) / len(gains) ** 0.5
    half = float(stats.t.ppf(0.975, len(gains) - 1)) * error
    evidence = {
        "recipe": "recipes/quickstart.yaml",
        "claim": "distilled.accuracy > alone.accuracy",
        "verdict": "holds" if mean - half > 0 else "fails" if mean + half < 0 else "undecided",
        "difference": {"mean": mean, "low": mean - half, "high": mean + half, "confidence": 0.95, "seeds": len(gains)},
        "runs": runs,
        "environment": environment(),
        "threads": torch.get_num_threads(),
    }
    args.out.write_text(json.dumps(evidence, indent=1) + "\n", encoding="utf-8")
    print(f"difference {mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]: {evidence['verdict']}; written to {args.out}")


if __name__ == "__main__":
    main()
