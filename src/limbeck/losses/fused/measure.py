"""What the fused loss computes of every token."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import LimbeckError
from ...ops.divergence_gradients import Divergence


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A divergence, its temperature, and how much it and the labels count.

    Raises:
        LimbeckError: for values out of range.
    """

    divergence: Divergence = "forward"
    """Of the student from the teacher; `limbeck.ops.divergence_gradients` has the formulas."""
    temperature: float = 1.0
    """Of both softmaxes; log-probabilities of a `TopK` teacher are at this temperature already."""
    mixture: float = 0.5
    """The weight of the teacher in `js`, between 0 and 1 and neither."""
    skew: float = 0.1
    """Share of the first argument in the second of `skew_forward` and `skew_reverse`, below 1."""
    scale_by_temperature: bool = True
    """Multiply by the square of the temperature (`tv`: by the temperature), so that gradients keep their size."""
    weight: float = 1.0
    """Factor of the divergence; at 0 nothing of a teacher is computed, and there may be none."""
    label_weight: float = 0.0
    """Factor of the cross-entropy with the labels, at temperature 1; at 0 it is not computed."""

    def __post_init__(self) -> None:
        shapes = self.temperature > 0 and 0 < self.mixture < 1 and 0 <= self.skew < 1
        if not (shapes and self.weight >= 0 and self.label_weight >= 0):
            raise LimbeckError(
                "a fused divergence needs temperature > 0, mixture in (0, 1), skew in [0, 1), weight >= 0 and label_weight >= 0, "
                f"got {self.temperature!r}, {self.mixture!r}, {self.skew!r}, {self.weight!r} and {self.label_weight!r}."
            )

    @property
    def factor(self) -> float:
        """By which the temperature multiplies the divergence."""
        if not self.scale_by_temperature:
            return 1.0
        return self.temperature if self.divergence == "tv" else self.temperature**2

    @property
    def slope(self) -> float:
        """Of the weighted divergence with respect to the student's logits, by that with respect to its tempered ones."""
        return self.weight * self.factor / self.temperature
