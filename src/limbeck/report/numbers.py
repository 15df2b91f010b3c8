"""How numbers are written: metrics with their title and direction, amounts with their unit, differences with a sign."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

ABSENT = "–"  # noqa: RUF001 (an en dash is the typographic sign for "no value")
MINUS = "−"  # noqa: RUF001 (a true minus sign is as wide as a digit)
Style = Literal["percent", "number", "amount", "size", "milliseconds", "seconds"]


@dataclass(frozen=True)
class Metric:
    """A quantity of results.json and how people read it."""

    key: str
    title: str
    better: Literal["higher", "lower", "neither"]
    style: Style = "number"
    help: str = ""

    def text(self, value: Any) -> str:
        """The value as it stands in a table."""
        number = finite(value)
        if number is None:
            return ABSENT
        return _WRITERS[self.style](number)

    def delta(self, value: float) -> str:
        """A difference with its sign: `+1.2 pts`."""
        if self.style == "percent":
            return signed(100 * value, 1) + " pts"
        if self.style == "number":
            return signed(value, 3 if abs(value) < 10 else 1)
        sign = "+" if value > 0 else MINUS if value < 0 else "±"
        return sign + self.text(abs(value))

    @property
    def noun(self) -> str:
        """The title inside a sentence: `accuracy`, but `RMSE`."""
        abbreviation = any(sign.isupper() for sign in self.title[1:])
        return self.title if abbreviation else self.title[:1].lower() + self.title[1:]

    def gain(self, value: float, other: float) -> float:
        """By how much `value` is better than `other`; negative where it is worse."""
        return other - value if self.better == "lower" else value - other


METRICS = {
    metric.key: metric
    for metric in (
        Metric("accuracy", "Accuracy", "higher", "percent"),
        Metric("perplexity", "Perplexity", "lower", "number", "exponential of the mean loss of a token"),
        Metric("exact_match", "Exact match", "higher", "percent", "held-out prompts whose greedy answer agrees with the reference"),
        Metric("top5", "Top-5 accuracy", "higher", "percent"),
        Metric("macro_f1", "Macro F1", "higher", "percent", "mean of the F1 scores of the classes"),
        Metric("balanced_accuracy", "Balanced accuracy", "higher", "percent", "mean over the classes of the share that is found"),
        Metric("sensitivity", "Sensitivity", "higher", "percent", "examples of a class that are found; mean over more than two classes"),
        Metric("specificity", "Specificity", "higher", "percent", "other examples that are not taken for a class; mean likewise"),
        Metric("auc", "AUC", "higher", "number", "area under the ROC curve; of more than two classes, mean of one against the rest"),
        Metric("micro_f1", "Micro F1", "higher", "percent", "F1 over all labels together"),
        Metric("map", "mAP", "higher", "percent", "mean average precision over the labels"),
        Metric("r2", "R²", "higher", "number", "explained share of the variance"),
        Metric("rmse", "RMSE", "lower", "number", "root mean squared error"),
        Metric("mae", "MAE", "lower", "number", "mean absolute error"),
        Metric("mse", "MSE", "lower", "number", "mean squared error"),
        Metric("ece", "Calibration error", "lower", "number", "expected calibration error over 15 equal bins"),
        Metric("adaptive_ece", "Adaptive calibration error", "lower", "number", "the same over 15 bins of equally many answers"),
        Metric(
            "classwise_ece", "Class-wise calibration error", "lower", "number", "the same of each class's probability; mean over classes"
        ),
        Metric("nll", "Negative log-likelihood", "lower", "number", "mean over the test split"),
        Metric("brier", "Brier score", "lower", "number", "squared error of the probabilities"),
        Metric("aurc", "AURC", "lower", "number", "area under the risk-coverage curve, times 1000: are its errors the answers it doubts?"),
        Metric("eaurc", "E-AURC", "lower", "number", "the part of AURC that a better order of the same answers would avoid, times 1000"),
        Metric("equalised_odds_gap", "Equalised-odds gap", "lower", "percent", "largest difference between groups of one class's answers"),
        Metric("parity_gap", "Parity gap", "lower", "percent", "largest difference between groups in how often a class is answered"),
        Metric("membership_auc", "Membership AUC", "lower", "number", "how well training examples are told from others; 0.5 is by chance"),
        Metric("membership_tpr", "Members found", "lower", "percent", "training examples that are found where 1% of others are mistaken"),
        Metric("exposure", "Exposure", "lower", "number", "of planted secrets, in bits; about 1.4 where the model never saw them"),
        Metric("kernel_alignment", "Kernel alignment", "neither", "number", "of the tangent kernel with the labels, on training examples"),
        Metric("kernel_alignment_start", "Kernel alignment at first", "neither", "number", "the same before training"),
        Metric("kernel_movement", "Kernel movement", "neither", "number", "1 less the cosine of the tangent kernels before and after"),
        Metric("score", "Score", "higher", "number", "mean over the data sets of accuracy, mAP or R²"),
        Metric("loss", "Loss", "lower", "number"),
        Metric("recovered", "Gap recovered", "higher", "percent", "0% is the student before, 100% its teacher"),
        Metric("parameters", "Parameters", "lower", "amount"),
        Metric("flops", "FLOPs", "lower", "amount", "one example, forward"),
        Metric("bytes", "Size", "lower", "size", "weights as stored"),
        Metric("latency_ms", "Latency", "lower", "milliseconds", "median, batch of one, on the machine of the run"),
        Metric("first_token_ms", "Time to the first token", "lower", "milliseconds", "of one prompt by itself, on the machine of the run"),
        Metric("next_token_ms", "Time of a further token", "lower", "milliseconds", "of one prompt by itself, on the machine of the run"),
        Metric("step_time", "Time of an update", "lower", "seconds", "on the machine of the run"),
        Metric("seconds", "Time", "lower", "seconds", "the whole run"),
    )
}
DERIVED = {
    "corrupted_": "{0}, corrupted inputs",
    "train_": "{0}, training examples",
    "worst_": "{0}, worst group",
    "_gap": "Gap of {1} between groups",
}
"""What a part of a key says of the metric that the rest of it names, as a title of its title and of its name within a sentence."""
PRIMARY = ("score", "perplexity", "accuracy", "map", "rmse", "mae", "r2", "macro_f1", "micro_f1")
"""In this order, the first metric that the models have is the one of the headline."""


def metric(key: str) -> Metric:
    """What is known of a metric; an unknown one is shown as a plain number without a direction.

    `NAME.METRIC` is the metric of one of several data sets.
    """
    for mark, words in DERIVED.items():
        if mark in key and (base := METRICS.get(key.replace(mark, ""))) is not None:
            better = "lower" if mark == "_gap" else base.better
            return Metric(key, words.format(base.title, base.noun), better, base.style, base.help)
    dataset, _, own = key.rpartition(".")
    known = METRICS.get(own) or METRICS.get(own.lower())
    if known:
        title = f"{known.title} ({dataset})" if dataset else known.title
        return Metric(key, title, known.better, known.style, known.help)
    return Metric(key, key.replace("_", " ").capitalize(), "neither")


def primary_metric(models: Mapping[str, Any]) -> Metric | None:
    """The metric of the headline: the first of `PRIMARY` that a model has, else any."""
    keys = [key for model in models.values() if isinstance(model, Mapping) for key in (model.get("metrics") or {})]
    lower = {key.lower(): key for key in reversed(keys)}
    for wanted in PRIMARY:
        if wanted in lower:
            return metric(lower[wanted])
    return metric(keys[0]) if keys else None


def finite(value: Any) -> float | None:
    """The number, or None where there is none that can be shown (absent, NaN, infinite, no number)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def percent(value: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * value:.1f}%".replace("-", MINUS)


def plain(value: float) -> str:
    """A number with about four significant digits, without an exponent where it can be helped."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        text = f"{value:.2e}"
    else:
        decimals = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
        text = f"{value:.{decimals}f}"
    return text.replace("-", MINUS)


def signed(value: float, decimals: int) -> str:
    """A number with an explicit sign; plus-minus zero where it rounds to nothing."""
    text = f"{abs(value):.{decimals}f}"
    if not float(text):
        return "±" + text
    return ("+" if value > 0 else MINUS) + text


def amount(value: Any) -> str:
    """A count in full below a million, then with an SI prefix: 21,386 or 1.25 M."""
    number = finite(value)
    if number is None:
        return ABSENT
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(number) >= limit:
            return f"{_three(number / limit)} {prefix}"
    return f"{number:,.0f}"


def size(value: Any) -> str:
    """Bytes as B, kB, MB or GB (powers of ten)."""
    number = finite(value)
    if number is None:
        return ABSENT
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{_three(number / limit)} {prefix}B"
    return f"{number:.0f} B"


def milliseconds(value: Any) -> str:
    """Milliseconds with three significant digits, in µs below a tenth."""
    number = finite(value)
    if number is None:
        return ABSENT
    return f"{_three(1000 * number)} µs" if number < 0.1 else f"{_three(number)} ms"


def joules(value: Any) -> str:
    """Joules with three significant digits, in mJ below a tenth."""
    number = finite(value)
    if number is None:
        return ABSENT
    return f"{_three(1000 * number)} mJ" if number < 0.1 else f"{_three(number)} J"


def duration(value: Any) -> str:
    """Seconds as `3.2 s`, `4 min 10 s` or `2 h 5 min`."""
    number = finite(value)
    if number is None:
        return ABSENT
    if number < 60:
        return f"{number:.1f} s"
    minutes, seconds = divmod(round(number), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def elapsed(value: Any) -> str:
    """Seconds as `duration` writes them; milliseconds below a second."""
    number = finite(value)
    return milliseconds(1000 * number) if number is not None and 0 < abs(number) < 1 else duration(value)


def factor(value: float) -> str:
    """A ratio, with one decimal below ten."""
    return f"{value:.0f}×" if value >= 10 else f"{value:.1f}×"  # noqa: RUF001 (the sign is meant)


def _three(value: float) -> str:
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


_WRITERS: Mapping[Style, Callable[[float], str]] = {
    "percent": percent,
    "number": plain,
    "amount": amount,
    "size": size,
    "milliseconds": milliseconds,
    "seconds": elapsed,
}
