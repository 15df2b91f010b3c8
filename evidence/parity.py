"""Which stored numbers of official implementations does Limbeck reproduce? A line a method, with where it comes from.

python evidence/parity.py ../shared/golden/*/      writes evidence/parity.json, which the documentation shows

Each folder (losses, teachers, language, evidence) holds golden cases as `limbeck parity` reads them, and is named with its methods.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from limbeck.environment import environment

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Runs the cases and writes the evidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="folders of golden cases")
    parser.add_argument("--out", type=Path, default=HERE / "parity.json", help="where the evidence goes")
    args = parser.parse_args()
    methods: dict[str, dict[str, Any]] = {}
    for folder in args.folders:
        methods |= _folder(folder)
    packages = environment()["packages"]
    versions = {name: packages[name] for name in ("limbeck", "torch") if name in packages}
    evidence = {"versions": versions, "methods": dict(sorted(methods.items()))}
    args.out.write_text(_lines(evidence), encoding="utf-8")
    verdicts = [method["verdict"] for method in methods.values()]
    print(", ".join(f"{verdicts.count(word)} {word}" for word in dict.fromkeys(verdicts)) + f"; written to {args.out}")


def _folder(folder: Path) -> dict[str, dict[str, Any]]:
    """What came of every method of a folder."""
    command = [sys.executable, "-m", "limbeck", "parity", str(folder), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603 - our own command
    found: list[dict[str, Any]] = json.loads(done.stdout)
    origins = {about["method"]: about["origin"] for about in map(_read, sorted(folder.rglob("*.json")))}
    cases = {method: [item for item in found if item["method"] == method] for method in origins}
    return {method: {**_method(cases[method], origin), "folder": folder.resolve().name} for method, origin in origins.items()}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _method(cases: list[dict[str, Any]], origin: dict[str, str]) -> dict[str, Any]:
    verdicts = {item["verdict"] for item in cases}
    errors = [item["error"] for item in cases if item["error"] is not None]
    return {
        "verdict": next(word for word in ("missing", "differs", "pass") if word in verdicts),
        "cases": len(cases),
        "error": float(f"{max(errors):.1e}") if errors else None,
        "origin": f"{origin['repo']}, {origin['function']}",
    }


def _lines(evidence: dict[str, Any]) -> str:
    """JSON with a line a method."""
    rows = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in evidence["methods"].items()]
    return "\n".join(["{", f' "versions": {json.dumps(evidence["versions"])},', ' "methods": {', ",\n".join(rows), " }", "}", ""])


if __name__ == "__main__":
    main()
