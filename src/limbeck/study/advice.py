"""What a search found, told: reasons for every choice, and the recommended recipe as a file to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.render import flow
from .clock import words
from .finals import ALONE, RECOMMENDED
from .ground import Ground
from .pipeline import FEATURES, LOGITS, PAST, Pipeline
from .search import PLAIN, Candidate

ARMS = {RECOMMENDED: "recommended", PLAIN: "plain distillation", ALONE: "no distillation"}
"""The arms of the comparison as a reader would call them."""
WORDS = {
    "logits": "loss on outputs",
    "temperature": "temperature",
    "share": "weight of the teacher",
    "strength": "strength of the loss on outputs",
    "target": "change of the outputs",
    "features": "loss on inner layers",
    "taps": "layers",
    "adapter": "adapter",
    "pull": "strength of the loss on inner layers",
    "teacher": "teacher",
    "augment": "augmentation",
    "mix": "mixing",
    "rate": "factor of the learning rate",
    "average": "average of the weights",
}
"""Every factor as a reader would call it."""


def shown(value: Any) -> str:
    """A value in a sentence."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def summary(pipeline: Pipeline, plain: Pipeline) -> str:
    """A pipeline in a line: its losses, and what else is not as in plain distillation."""
    values, usual = pipeline.values(), plain.values()
    parts = [pipeline.logits] + ([f"+ {pipeline.features} at {pipeline.taps}"] if pipeline.features != "none" else [])
    skipped = ("logits", "features", "taps")
    parts += [f"{name} {shown(values[name])}" for name in values if name not in skipped and values[name] != usual[name]]
    return ", ".join(parts)


def reasons(chosen: Pipeline, plain: Pipeline, trials: Sequence[Candidate], importance: Mapping[str, float]) -> dict[str, str]:
    """Why each factor is as it is: how the trials did that had this value, and those that had not."""
    found = {}
    for name, value in chosen.values().items():
        complete = [c for c in trials if c.score is not None]
        numbers = isinstance(value, float)
        near = [c for c in complete if _near(c.pipeline.values()[name], value)]
        far = [c for c in complete if not _near(c.pipeline.values()[name], value)]
        if value == plain.values()[name] and not far:
            continue
        text = f"best of {len(near)} with {'about this' if numbers else shown(value)}: {_best(near)}"
        text += f"; of {len(far)} without: {_best(far)}" if far else ""
        if name in importance:
            text += f"; explains {importance[name]:.0%} of the differences between trials"
        found[name] = text
    return found


def _near(value: Any, other: Any) -> bool:
    """Whether two values are the same, or numbers within a quarter of each other."""
    if isinstance(value, float) and isinstance(other, float):
        return abs(value - other) <= 0.25 * max(abs(value), abs(other))
    return value == other


def _best(candidates: Sequence[Candidate]) -> str:
    scores = [c.score for c in candidates if c.score is not None]
    return f"{max(scores):.4f}" if scores else "none"


def recipe_text(ground: Ground, recipe: Mapping[str, Any], why: Mapping[str, str], head: Sequence[str]) -> str:
    """The recommended recipe as YAML, with the reasons beside what they are about."""
    above = () if ground.stage is None else ("stages", ground.stage)
    places = {
        (*above, "objective", LOGITS, "loss"): "logits",
        (*above, "objective", LOGITS, "temperature"): "temperature",
        (*above, "objective", LOGITS, "weight"): "share",
        (*above, "objective", LOGITS, "targets"): "target",
        (*above, "objective", FEATURES, "loss"): "features",
        (*above, "objective", FEATURES, "student"): "taps",
        (*above, "objective", FEATURES, "adapter"): "adapter",
        (*above, "objective", FEATURES, "weight"): "pull",
        (*above, "objective", PAST, "loss"): "teacher",
        (*above, "data", "transforms"): "augment",
        (*above, "data", "mix"): "mix",
        (*above, "train", "optimizer", "lr"): "rate",
        (*above, "train", "ema"): "average",
    }
    comments = {place: f"{WORDS[name]}: {why[name]}" for place, name in places.items() if name in why}
    return "\n".join([*(f"# {line}".rstrip() for line in head), *_lines(recipe, (), comments)]) + "\n"


def _lines(values: Mapping[str, Any], path: tuple[str, ...], comments: Mapping[tuple[str, ...], str]) -> list[str]:
    found: list[str] = []
    indent = "  " * len(path)
    for key, value in values.items():
        own = (*path, str(key))
        if own in comments:
            found.append(f"{indent}# {comments[own]}")
        nested = isinstance(value, Mapping) and value and any(place[: len(own)] == own for place in comments)
        if nested or (isinstance(value, Mapping) and value and len(path) < 2 and len(flow(value)) > 100):
            found += [f"{indent}{key}:", *_lines(value, own, comments)]
        else:
            found.append(f"{indent}{key}: {flow(value)}")
    return found


def headline(contents: Mapping[str, Any]) -> list[str]:
    """What was found, in a few lines: how it was chosen, and how it does on the test split."""
    metric, tested = contents["primary"], contents["test"]
    trials = contents["trials"]
    counts = {state: sum(trial["state"] == state for trial in trials) for state in ("complete", "pruned", "failed")}
    seeds = len(contents["finalists"][0]["scores"])
    told = f"{counts['complete']} complete, {counts['pruned']} stopped early, {counts['failed']} failed"
    lines = [
        f"Recommended for {Path(contents['recipe']).name or 'the recipe'}: {contents['chosen']['summary']}",
        f"Chosen on the validation split ({contents['data']['valid']} examples) among {len(trials)} trials ({told})",
        f"and {len(contents['finalists'])} finalists with {seeds} seed(s), in {words(contents['seconds'])}.",
    ]
    if not tested:
        return [*lines, "The budget left no time for a comparison on the test split."]
    for arm, values in tested["arms"].items():
        numbers = values[metric]
        lines.append(f"Test split, {ARMS[arm]}: {metric} {sum(numbers) / len(numbers):.4f} (mean of {len(numbers)} fresh seed(s))")
    for item in tested["differences"]:
        lines.append(f"Better than {ARMS[item['than']]} by {item['mean']:+.4f}{verdict(item)}")
    return lines


def verdict(item: Mapping[str, Any]) -> str:
    """The interval of a difference, and what it says."""
    if item["low"] is None:
        return " (one seed: no interval)"
    sure = "" if item["low"] > 0 or item["high"] < 0 else "; not decided by these seeds"
    return f" ({item['confidence']:.0%} interval {item['low']:+.4f} to {item['high']:+.4f}{sure})"
