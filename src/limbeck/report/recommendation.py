"""The page of a search for a pipeline: what is recommended, why, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..errors import RunError
from ..files import write_text
from .numbers import duration, metric
from .templating import environment

WIDTH, HEIGHT, EDGE = 345, 216, 34
NAMES = {"recommended": "Recommended", "plain": "Plain distillation", "alone": "No distillation"}


def write_page(contents: Mapping[str, Any], out: Path) -> Path:
    """Writes one self-contained HTML page from the contents of a recommendation.json.

    Args:
        contents: what was found.
        out: the file to write.

    Raises:
        RunError: where the page cannot be written.
    """
    if out.is_dir():
        raise RunError(f"{out} is a directory. Expected the name of a file, such as {out / 'report.html'}.")
    page = environment().get_template("recommendation.html")
    write_text(
        out,
        page.render(
            title=f"Recommendation for {Path(contents['recipe']).stem or 'a recipe'}",
            contents=contents,
            metric=metric(contents["primary"]),
            facts=_facts(contents),
            arms=_arms(contents),
            differences=_differences(contents),
            trials=_trials(contents["trials"]),
            history=Markup(history(contents["trials"])),  # noqa: S704 (numbers only)
            importance=sorted(contents["importance"].items(), key=lambda item: -item[1]),
            version=contents["limbeck"],
        ),
    )
    return out


def _facts(contents: Mapping[str, Any]) -> list[str]:
    trials = len(contents["trials"])
    facts = [str(contents["task"]).replace("_", " "), f"{trials} trial{'s' if trials != 1 else ''}"]
    return [*facts, f"budget {duration(contents['budget'])}", f"took {duration(contents['seconds'])}"]


def _arms(contents: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    key, tested = contents["primary"], contents["test"]
    found = []
    for arm, values in (tested.get("arms") or {}).items():
        numbers = values[key]
        found.append((NAMES[arm], f"{sum(numbers) / len(numbers):.4f}", ", ".join(f"{value:.4f}" for value in numbers)))
    if tested.get("teacher"):
        found.append(("Teacher", f"{tested['teacher'][key]:.4f}", ""))
    return found


def _differences(contents: Mapping[str, Any]) -> list[str]:
    found = []
    for item in contents["test"].get("differences") or ():
        text = f"{item['mean']:+.4f} better than {NAMES[item['than']].lower()}"
        if item["low"] is None:
            found.append(f"{text}; one seed, so no interval")
        else:
            text += f", {item['confidence']:.0%} interval {item['low']:+.4f} to {item['high']:+.4f}"
            found.append(text if item["low"] > 0 or item["high"] < 0 else f"{text}: these seeds do not decide it")
    return found


def _trials(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    ordered = sorted(trials, key=lambda trial: (trial["score"] is None, -(trial["score"] or 0.0), trial["number"]))
    return [
        {
            "number": str(trial["number"]),
            "what": trial["summary"],
            "role": trial["role"],
            "score": f"{trial['score']:.4f}" if trial["score"] is not None else trial["state"],
            "seconds": f"{trial['seconds']:.1f}",
            "note": trial["note"],
        }
        for trial in ordered
    ]


def history(trials: Sequence[Mapping[str, Any]]) -> str:
    """A drawing of the scores in the order of the trials, with the best so far as a line; empty where there are fewer than two."""
    points = [(trial["number"], trial["score"]) for trial in trials if trial["score"] is not None]
    if len(points) < 2:
        return ""
    low, high = min(score for _, score in points), max(score for _, score in points)
    # A training that broke down would flatten all others.
    middle = sorted(score for _, score in points)[len(points) // 4]
    low = max(low, middle - 2 * (high - middle) - 1e-9)
    last = max(number for number, _ in points) or 1

    def place(number: float, score: float) -> tuple[float, float]:
        height = (max(score, low) - low) / ((high - low) or 1.0)
        return EDGE + number / last * (WIDTH - 2 * EDGE), HEIGHT - EDGE - height * (HEIGHT - 2 * EDGE)

    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="var(--distilled)"/>' for x, y in (place(*point) for point in points))
    best, corners = points[0][1], []
    for number, score in points:
        corners.append(place(number, best))
        best = max(best, score)
        corners.append(place(number, best))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    said = f"Score of {len(points)} trials in their order, from {points[0][1]:.4f} of the first to {high:.4f} of the best"
    floor = HEIGHT - EDGE + 6
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}" fill="var(--muted)" font-size="12">'
        f'<path d="M{EDGE} {floor}H{WIDTH - EDGE}" stroke="var(--line)"/>'
        f'<polyline points="{line}" fill="none" stroke="var(--muted)" stroke-width="1.5"/>{dots}'
        f'<text x="{EDGE}" y="{EDGE - 14}">best {high:.4f}</text>'
        f'<text x="{EDGE}" y="{HEIGHT - 8}">trial 0</text>'
        f'<text x="{WIDTH - EDGE}" y="{HEIGHT - 8}" text-anchor="end">trial {last}</text></svg>'
    )
