"""The numbers of runs by part, model and metric, as studies keep them and pages show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PARTS = ("values", "valid", "last")
"""Of an arm in results.json: on the test split, on the validation split, and with the weights of the last epoch."""
RENAMED = {"size_bytes": "bytes"}
"""Names of metrics that runs of earlier versions have, and what they are called."""
_APART = ("metrics", "cost", "valid", "last", "reliability", "confusion")

Measured = dict[str, dict[str, dict[str, float]]]
"""Part to model to metric to value."""
Table = dict[str, dict[str, dict[str, list[float | None]]]]
"""Part to model to metric to one value a run."""


def measured(results: Mapping[str, Any]) -> Measured:
    """The numbers of one run's results.json; what it lacks is left out.

    Metrics and costs have their own names, all else that of its section before it, such as `agreement.top1`.
    """
    found: Measured = {part: {} for part in PARTS}
    for name, model in (results.get("models") or {}).items():
        if not isinstance(model, Mapping):
            continue
        rest = {key: value for key, value in model.items() if key not in _APART}
        own = {**_numbers(model.get("metrics")), **_numbers(model.get("cost")), **_numbers(rest), **_times(results, name)}
        found["values"][name] = {RENAMED.get(key, key): value for key, value in own.items()}
        found["valid"][name] = _numbers(model.get("valid"))
        last = model.get("last") or {}
        found["last"][name] = {**_numbers(last.get("metrics")), **{f"valid.{key}": v for key, v in _numbers(last.get("valid")).items()}}
    return found


def _numbers(value: Any, prefix: str = "") -> dict[str, float]:
    """The numbers in a mapping, those of inner mappings with a point in their name."""
    if isinstance(value, Mapping):
        inner = (_numbers(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items())
        return {key: number for part in inner for key, number in part.items()}
    return {prefix: value} if prefix and isinstance(value, int | float) and not isinstance(value, bool) else {}


def _times(results: Mapping[str, Any], name: str) -> dict[str, float]:
    """`seconds` that a model was trained, and `step_time`, seconds an update."""
    own = [stage for stage in results.get("stages") or () if isinstance(stage, Mapping) and stage.get("learner") == name]
    seconds, updates = (sum(stage.get(key) or 0 for stage in own) for key in ("seconds", "updates"))
    return {"seconds": seconds, "step_time": seconds / updates} if updates else {}


def table(runs: Sequence[Measured | None]) -> Table:
    """The numbers of several runs side by side; None where a run is missing or has not got one."""
    found: Table = {part: {} for part in PARTS}
    there = [run for run in runs if run is not None]
    for part in PARTS:
        for model in dict.fromkeys(name for run in there for name in run[part]):
            metrics = dict.fromkeys(key for run in there for key in run[part].get(model, {}))
            own = {key: [None if run is None else run[part].get(model, {}).get(key) for run in runs] for key in metrics}
            if own:
                found[part][model] = own
    return found
