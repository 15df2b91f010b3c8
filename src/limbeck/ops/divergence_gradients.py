r"""Divergences of rows of logits together with their gradients in closed form, in place.

For probabilities p of the teacher and q of the student, both from logits by a softmax, each function gives the divergence of every row and
its gradient with respect to the student's logits:

- `forward`, :math:`KL(p \| q)`: :math:`q - p`
- `reverse`, :math:`KL(q \| p)`: :math:`q \, (\log q - \log p - KL)`
- `symmetric`, half of both: half of both gradients
- `js`, :math:`\pi KL(p \| m) + (1 - \pi) KL(q \| m)`, :math:`m = \pi p + (1 - \pi) q`:
  :math:`(1 - \pi) \, q \, (\log q - \log m - KL(q \| m))`
- `skew_forward`, :math:`KL(p \| m)`, :math:`m = \sigma p + (1 - \sigma) q`: :math:`(1 - \sigma) \, q \, (E_q[p / m] - p / m)`
- `skew_reverse`, :math:`KL(q \| m)`, :math:`m = \sigma q + (1 - \sigma) p`: :math:`q \, (g - E_q[g])` for
  :math:`g = \log (q / m) - \sigma q / m`
- `tv`, :math:`\frac{1}{2} \sum |p - q|`: :math:`\frac{1}{2} q \, (s - E_q[s])`, :math:`s = sign(q - p)`

Close to the teacher a divergence is small beside the rounding of the softmaxes. The plain ones take the difference of logarithms from the
logits, those with a mixture from the ratio of probabilities, and each adds what both sums lack of 1, to which its value is not blind.

None keeps a graph, and the two arguments are overwritten: the gradient stands where the student's logits stood. That is what lets a loss
over 100,000 classes live in four buffers instead of a dozen. On a CPU the softmax of torch, one kernel, costs less than an exponential
alone: a step here is worth what it saves of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Divergence = Literal["forward", "reverse", "symmetric", "js", "skew_forward", "skew_reverse", "tv"]

TINY = 1e-30
"""What stands for a probability of 0 in ratios: too small for any sum, and its products with gradients are not denormal."""


def divergence_and_gradient(
    student: Tensor, teacher: Tensor, rooms: tuple[Tensor, Tensor], *, divergence: Divergence, mixture: float, skew: float
) -> tuple[Tensor, Tensor]:
    """Divergence of each row, and its gradient with respect to the student's logits.

    Args:
        student: logits `(rows, classes)`, finite; overwritten.
        teacher: likewise; overwritten.
        rooms: two more of the same shape, for what is computed on the way.
        divergence: which one.
        mixture: the weight of the teacher in the mixture of `js`, between 0 and 1 and neither.
        skew: the share of the first argument that is mixed into the second by `skew_forward` and `skew_reverse`; at 0 they are plain.

    Returns:
        `(rows,)`, and `(rows, classes)` in the memory of `student`.
    """
    if skew == 0 and divergence in _PLAIN:
        divergence = _PLAIN[divergence]
    return _FORMS[divergence](student, teacher, rooms, mixture if divergence == "js" else skew)


def softmax_and_normaliser(logits: Tensor, out: Tensor) -> Tensor:
    """The softmax of rows in `out`, which may be their own memory, and `log sum exp` `(rows, 1)` in float64, as exact as the softmax."""
    top = logits.amax(1, keepdim=True)
    torch.softmax(logits, 1, out=out)
    return top - out.amax(1, keepdim=True).double().log_()  # the largest logit's probability is one over the sum


def _probabilities(student: Tensor, teacher: Tensor, room: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both softmaxes, in place; `log q - log p`; and what that still lacks by its rounding, the same for a whole row."""
    gap = torch.sub(student, teacher, out=room)
    exact = softmax_and_normaliser(student, student) - softmax_and_normaliser(teacher, teacher)
    level = exact.to(gap.dtype)  # mutate: equivalent unwrapped (to within the last digit of the gap)
    return student, teacher, gap.sub_(level), (level - exact).to(gap.dtype).squeeze(1)


def _forward(student: Tensor, teacher: Tensor, rooms: tuple[Tensor, Tensor], _: float) -> tuple[Tensor, Tensor]:
    q, p, gap, rest = _probabilities(student, teacher, rooms[0])  # mutate: equivalent constant (either room)
    value = rest.add_(torch.linalg.vecdot(p, gap)).neg_()
    gradient = q.sub_(p)
    return value.add_(gradient.sum(1)), gradient


def _reverse(student: Tensor, teacher: Tensor, rooms: tuple[Tensor, Tensor], _: float) -> tuple[Tensor, Tensor]:
    q, p, gap, rest = _probabilities(student, teacher, rooms[0])  # mutate: equivalent constant (either room)
    mean = torch.linalg.vecdot(q, gap)
    value = rest.add_(mean).add_(p.sub_(q).sum(1))
    return value, q.mul_(gap.sub_(mean.unsqueeze(1)))


def _symmetric(student: Tensor, teacher: Tensor, rooms: tuple[Tensor, Tensor], _: float) -> tuple[Tensor, Tensor]:
    q, p, gap = _probabilities(student, teacher, rooms[0])[:3]  # mutate: equivalent constant (either room)
    mean = torch.linalg.vecdot(q, gap)
    value = (mean - torch.linalg.vecdot(p, gap)).div_(2)
    gap.sub_(mean.unsqueeze(1)).add_(1)  # q (gap - KL) of the one and q - p of the other
    return value, q.mul_(gap).sub_(p).div_(2)


def _total_variation(student: Tensor, teacher: Tensor, rooms: tuple[Tensor, Tensor], _: float) -> tuple[Tensor, Tensor]:
    q, p = torch.softmax(student, 1, out=student), torch.softmax(teacher, 1, out=teacher)
    gap = torch.sub(q, p, out=rooms[0])  # mutate: equivalent constant (either room)
    side = torch.sign(gap, out=p)
    value = torch.linalg.vecdot(gap, side).div_(2)
    return value, q.mul_(side.sub_(torch.linalg.vecdot(q, side).unsqueeze(1))).div_(2)


def _jensen_shannon(student: Tensor, teacher: Tensor, rooms: tuple[Tensor, Tensor], mixture: float) -> tuple[Tensor, Tensor]:
    p, q, mixed = _mixed(teacher, student, rooms[0], mixture)
    log_q = torch.div(q, mixed, out=rooms[1]).log_()  # both less that of the mixture
    log_p = torch.div(p, mixed, out=mixed).log_()
    from_q = torch.linalg.vecdot(q, log_q)
    from_p = torch.linalg.vecdot(p, log_p)
    return mixture * from_p + (1 - mixture) * from_q, q.mul_(log_q.sub_(from_q.unsqueeze(1))).mul_(1 - mixture)


def _skew_forward(student: Tensor, teacher: Tensor, rooms: tuple[Tensor, Tensor], skew: float) -> tuple[Tensor, Tensor]:
    p, q, mixed = _mixed(teacher, student, rooms[0], skew)
    lacking = torch.sub(mixed, p, out=rooms[1]).sum(1)
    ratio = torch.div(p, mixed, out=mixed)
    value = lacking.add_(torch.linalg.vecdot(p, torch.log(ratio, out=rooms[1])))
    return value, q.mul_(ratio.sub_(torch.linalg.vecdot(q, ratio).unsqueeze(1))).mul_(skew - 1)


def _skew_reverse(student: Tensor, teacher: Tensor, rooms: tuple[Tensor, Tensor], skew: float) -> tuple[Tensor, Tensor]:
    q, p, mixed = _mixed(student, teacher, rooms[0], skew)
    lacking = torch.sub(mixed, q, out=p).sum(1)
    ratio = torch.div(q, mixed, out=mixed)
    slope = torch.log(ratio, out=rooms[1])
    value = lacking.add_(torch.linalg.vecdot(q, slope))
    slope.sub_(ratio, alpha=skew)
    return value, q.mul_(slope.sub_(torch.linalg.vecdot(q, slope).unsqueeze(1)))


def _mixed(first: Tensor, second: Tensor, room: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Both softmaxes, in place, without zeros; and the mixture in which the first has this share."""
    a, b = (torch.softmax(x, 1, out=x).clamp_(min=TINY) for x in (first, second))
    return a, b, torch.lerp(b, a, share, out=room)


_PLAIN: dict[Divergence, Divergence] = {"skew_forward": "forward", "skew_reverse": "reverse"}
"""What is left of a divergence with a mixture in which the first argument has no share."""
_FORMS: dict[str, Callable[[Tensor, Tensor, tuple[Tensor, Tensor], float], tuple[Tensor, Tensor]]] = {
    "forward": _forward,
    "reverse": _reverse,
    "symmetric": _symmetric,
    "tv": _total_variation,
    "js": _jensen_shannon,
    "skew_forward": _skew_forward,
    "skew_reverse": _skew_reverse,
}
