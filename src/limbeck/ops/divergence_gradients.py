r"""Divergences of rows of log-probabilities together with their gradients in closed form, in place.

For log-probabilities :math:`\log p` of the teacher and :math:`\log q` of the student, both from logits z by a softmax, each function gives
the divergence of every row and its gradient with respect to the student's logits:

- `forward`, :math:`KL(p \| q)`: :math:`q - p`
- `reverse`, :math:`KL(q \| p)`: :math:`q \, (\log q - \log p - KL)`
- `symmetric`, half of both: half of both gradients
- `js`, :math:`\pi KL(p \| m) + (1 - \pi) KL(q \| m)`, :math:`m = \pi p + (1 - \pi) q`:
  :math:`(1 - \pi) \, q \, (\log q - \log m - KL(q \| m))`
- `skew_forward`, :math:`KL(p \| m)`, :math:`m = \sigma p + (1 - \sigma) q`: :math:`(1 - \sigma) \, q \, (E_q[p / m] - p / m)`
- `skew_reverse`, :math:`KL(q \| m)`, :math:`m = \sigma q + (1 - \sigma) p`: :math:`q \, (g - E_q[g])` for
  :math:`g = \log (q / m) - \sigma q / m`
- `tv`, :math:`\frac{1}{2} \sum |p - q|`: :math:`\frac{1}{2} q \, (s - E_q[s])`, :math:`s = sign(q - p)`

Close to the teacher a divergence is small beside the rounding of the logarithms of both normalisers. To first order that error is the
amount by which p and q do not sum to 1 exactly; the two plain divergences are corrected by it, in the others it is damped or cancels.

None keeps a graph, and the two arguments are overwritten: the gradient stands where the student's log-probabilities stood. That is what
lets a loss over 100,000 classes live in three buffers instead of a dozen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Divergence = Literal["forward", "reverse", "symmetric", "js", "skew_forward", "skew_reverse", "tv"]


def divergence_and_gradient(
    log_q: Tensor, log_p: Tensor, room: Tensor, *, divergence: Divergence, mixture: float, skew: float
) -> tuple[Tensor, Tensor]:
    """Divergence of each row, and its gradient with respect to the student's logits.

    Args:
        log_q: the student's log-probabilities `(rows, classes)`, finite; overwritten.
        log_p: the teacher's, likewise; overwritten.
        room: of the same shape, for what is computed on the way.
        divergence: which one.
        mixture: the weight of the teacher in the mixture of `js`, between 0 and 1 and neither.
        skew: the share of the first argument that is mixed into the second by `skew_forward` and `skew_reverse`; at 0 they are plain.

    Returns:
        `(rows,)`, and `(rows, classes)` in the memory of `log_q`.
    """
    if skew == 0 and divergence in _PLAIN:
        divergence = _PLAIN[divergence]
    return _FORMS[divergence](log_q, log_p, room, mixture if divergence == "js" else skew)


def _forward(log_q: Tensor, log_p: Tensor, room: Tensor, _: float) -> tuple[Tensor, Tensor]:
    gap = torch.sub(log_p, log_q, out=room)
    p, q = log_p.exp_(), log_q.exp_()
    value = torch.linalg.vecdot(p, gap)
    gradient = q.sub_(p)
    return value.add_(gradient.sum(1)), gradient


def _reverse(log_q: Tensor, log_p: Tensor, room: Tensor, _: float) -> tuple[Tensor, Tensor]:
    gap = torch.sub(log_q, log_p, out=room)
    q, p = log_q.exp_(), log_p.exp_()
    value = torch.linalg.vecdot(q, gap).add_(p.sub_(q).sum(1))
    return value, q.mul_(gap.sub_(value.unsqueeze(1)))


def _symmetric(log_q: Tensor, log_p: Tensor, room: Tensor, _: float) -> tuple[Tensor, Tensor]:
    gap = torch.sub(log_q, log_p, out=room)
    q, p = log_q.exp_(), log_p.exp_()
    reverse = torch.linalg.vecdot(q, gap)
    value = (reverse - torch.linalg.vecdot(p, gap)) / 2
    gap.sub_(reverse.unsqueeze(1)).add_(1)  # q (gap - KL) of the one and q - p of the other
    return value, q.mul_(gap).sub_(p).div_(2)


def _total_variation(log_q: Tensor, log_p: Tensor, room: Tensor, _: float) -> tuple[Tensor, Tensor]:
    q = log_q.exp_()
    gap = torch.sub(q, log_p.exp_(), out=room)
    side = torch.sign(gap, out=log_p)
    value = torch.linalg.vecdot(gap, side) / 2
    side.sub_(torch.linalg.vecdot(q, side).unsqueeze(1))
    return value, q.mul_(side).div_(2)


def _jensen_shannon(log_q: Tensor, log_p: Tensor, room: Tensor, mixture: float) -> tuple[Tensor, Tensor]:
    log_ratio = _ratio_to_mixture(log_q, log_p, room, 1 - mixture, mixture)  # of q to m
    # log p / m is log q / m + (log p - log q); the memory of log p holds p from here on.
    gap = log_p - log_q
    p, q = log_p.exp_(), log_q.exp_()
    from_q = torch.linalg.vecdot(q, log_ratio)
    from_p = torch.linalg.vecdot(p, gap.add_(log_ratio))
    return mixture * from_p + (1 - mixture) * from_q, q.mul_(log_ratio.sub_(from_q.unsqueeze(1))).mul_(1 - mixture)


def _skew_forward(log_q: Tensor, log_p: Tensor, room: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    log_ratio = _ratio_to_mixture(log_p, log_q, room, skew, 1 - skew)  # of p to m
    value = torch.linalg.vecdot(log_p.exp_(), log_ratio)
    q, ratio = log_q.exp_(), log_ratio.exp_()
    mean = torch.linalg.vecdot(q, ratio).unsqueeze(1)
    return value, q.mul_(ratio.sub_(mean)).mul_(skew - 1)


def _skew_reverse(log_q: Tensor, log_p: Tensor, room: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    log_ratio = _ratio_to_mixture(log_q, log_p, room, skew, 1 - skew)  # of q to m
    # A constant would have no part in the gradient.
    slope = torch.exp(log_ratio, out=log_p).mul_(-skew).add_(log_ratio)  # mutate: equivalent function (the constant)
    q = log_q.exp_()
    value = torch.linalg.vecdot(q, log_ratio)
    return value, q.mul_(slope.sub_(torch.linalg.vecdot(q, slope).unsqueeze(1)))


def _ratio_to_mixture(log_a: Tensor, log_b: Tensor, room: Tensor, own: float, other: float) -> Tensor:
    """Log of a / m for m = `own` a + `other` b with shares above 0, in `room`; as exact for a = b as for a far from b."""
    gap = torch.sub(log_b, log_a, out=room).add_(math.log(other) - math.log(own))
    return torch.logaddexp(gap, gap.new_zeros(()), out=gap).add_(math.log(own)).neg_()


_PLAIN: dict[Divergence, Divergence] = {"skew_forward": "forward", "skew_reverse": "reverse"}
"""What is left of a divergence with a mixture in which the first argument has no share."""
_FORMS: dict[str, Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]] = {
    "forward": _forward,
    "reverse": _reverse,
    "symmetric": _symmetric,
    "tv": _total_variation,
    "js": _jensen_shannon,
    "skew_forward": _skew_forward,
    "skew_reverse": _skew_reverse,
}
