"""The end of a search: the best pipelines over more seeds on the validation split, then the test split, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import LimbeckError
from ..files import read_json, write_json
from .clock import Clock
from .pipeline import Pipeline, Scales
from .search import PLAIN, Candidate
from .statistics import paired
from .trying import Trier

RECOMMENDED, ALONE = "recommended", "alone"
"""Names of the arms of the comparison, beside `plain`."""
APART = 1000
"""The comparison's seeds begin so far from those that the choice was made with."""
CONFIDENCE = 0.95
SIZES = ((5, 4, 3), (5, 3, 3), (5, 3, 2), (4, 3, 2), (3, 3, 2), (3, 2, 2), (3, 2, 1), (2, 2, 1), (1, 2, 1), (0, 2, 1))
"""What the end may consist of, the largest first: seeds of the comparison, finalists, and seeds that decide between these."""
MOST = 0.5
"""Share of the time after plain distillation that the end may take."""


@dataclass(frozen=True)
class Ending:
    """What the end consists of."""

    seeds: int
    """Seeds of the comparison on the test split; each trains three students."""
    finalists: int
    tries: int
    """Seeds on which a finalist is judged on the validation split, that of its trial among them."""

    def trainings(self) -> int:
        """Students that it trains."""
        return 3 * self.seeds + self.finalists * (self.tries - 1)


def ending(left: float, training: float) -> Ending:
    """The largest end that fits into its share of the time that is left.

    Args:
        left: seconds.
        training: seconds that a student takes.
    """
    sizes = [Ending(*size) for size in SIZES]
    return next((size for size in sizes if size.trainings() * training <= MOST * left), sizes[-1])


@dataclass(frozen=True)
class Finalist:
    """A pipeline among which is chosen."""

    number: int
    pipeline: Pipeline
    scales: Mapping[str, float]
    role: str
    scores: tuple[float, ...]
    """On the validation split, a value a seed."""

    @property
    def mean(self) -> float:
        """Of its scores."""
        return sum(self.scores) / len(self.scores)


def confirm(
    trier: Trier,
    folder: Path,
    candidates: Sequence[Candidate],
    tries: int,
    clock: Clock,
    reserve: float,
    *,
    seed: int,
    say: Callable[[str], None],
) -> list[Finalist]:
    """Judges pipelines on the validation split with further seeds, one seed of all after the other, while there is time.

    Only whole rounds count, so that all have the same seeds.
    """
    scores = {candidate.number: [candidate.score or 0.0] for candidate in candidates}
    for turn in range(1, tries):
        longest = max((candidate.seconds for candidate in candidates), default=0.0)
        if clock.left - reserve < len(candidates) * longest:
            break
        found: dict[int, float] = {}
        for candidate in candidates:
            place = folder / "finalists" / f"{candidate.number}" / f"seed-{seed + turn}"
            found[candidate.number] = _confirmed(trier, place, candidate, seed + turn)
            clock.note(now=True)
            say(f"finalist {candidate.number}, seed {seed + turn}: {found[candidate.number]:.4f}")
        for number, value in found.items():
            scores[number].append(value)
    return [Finalist(c.number, c.pipeline, c.scales, c.role, tuple(scores[c.number])) for c in candidates]


def _confirmed(trier: Trier, place: Path, candidate: Candidate, seed: int) -> float:
    file = place / "score.json"
    if not file.exists():
        try:
            loaded = trier.recipe(candidate.pipeline, place, Scales(**candidate.scales), seed=seed)
            score = trier.score(trier.train(loaded, place).metrics)
        except LimbeckError:  # a training that breaks with another seed is no pipeline to recommend
            score = -1e9
        write_json(file, {"score": score})
        trier.bench.forget(place / "checkpoints")
    return float(read_json(file)["score"])


def choose(finalists: Sequence[Finalist]) -> Finalist:
    """The finalist with the highest mean; plain distillation where another is only as good."""
    return max(finalists, key=lambda item: (item.mean, item.role == PLAIN))


def compare(
    trier: Trier, folder: Path, chosen: Finalist, plain: Finalist, count: int, clock: Clock, *, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Trains the recommended pipeline, plain distillation and the student alone with fresh seeds, then reads the test split.

    Another seed is begun only where the time suffices for all of it, judged by what the one before took.

    Returns:
        `seeds`, `arms` (metrics by arm, a value a seed), `teacher`, and `differences` with their intervals; empty without a seed.
    """
    arms = {RECOMMENDED: chosen, PLAIN: plain, ALONE: None}
    if chosen.pipeline == plain.pipeline:
        del arms[PLAIN]
    done: list[int] = []
    took = 0.0
    for number in range(count):
        own = seed + APART + number
        if number and clock.left < took:
            break
        began = clock.spent
        for arm, finalist in arms.items():
            _trained(trier, folder / "final" / arm / f"seed-{own}", finalist, own)
            clock.note(now=True)
        took = max(took, clock.spent - began)
        done.append(own)
        say(f"comparison: seed {own} trained")
    return _judged(trier, folder, list(arms), done)


def _trained(trier: Trier, place: Path, finalist: Finalist | None, seed: int) -> None:
    if (place / "trained.json").exists():
        return
    if finalist is None:
        loaded = trier.bench.load(trier.ground.alone(place, seed=seed), place)
    else:
        loaded = trier.recipe(finalist.pipeline, place, Scales(**finalist.scales), seed=seed)
    write_json(place / "trained.json", asdict(trier.train(loaded, place)))


def _judged(trier: Trier, folder: Path, arms: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    if not seeds:
        return {}
    from ..config.load import load_recipe

    values: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
    teacher: dict[str, float] = {}
    for seed in seeds:
        for arm in arms:
            place = folder / "final" / arm / f"seed-{seed}"
            loaded = load_recipe(place / "recipe.yaml", allow_code=trier.bench.allow_code)
            said = trier.bench.judge(loaded, place, teacher=not teacher and arm == RECOMMENDED)
            teacher = teacher or said.get("teacher", {})
            for metric, value in said["student"].items():
                values[arm].setdefault(metric, []).append(value)
    primary = trier.ground.primary
    sign = 1 if trier.ground.maximize else -1
    differences = []
    for other in arms:
        if other != RECOMMENDED:
            gain = [sign * (a - b) for a, b in zip(values[RECOMMENDED][primary], values[other][primary], strict=True)]
            differences.append(_difference(other, gain))
    return {"seeds": list(seeds), "arms": values, "teacher": teacher, "differences": differences}


def _difference(other: str, gain: Sequence[float]) -> dict[str, Any]:
    """By how much the recommended pipeline is better than another, with an interval where there are two seeds or more."""
    found: dict[str, Any] = {"than": other, "mean": sum(gain) / len(gain), "low": None, "high": None, "confidence": CONFIDENCE}
    if len(gain) > 1:
        interval = paired(gain, [0.0] * len(gain), CONFIDENCE)
        found |= {"low": interval.low, "high": interval.high}
    return found
