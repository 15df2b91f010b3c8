r"""How well an attacker tells the examples that a model was trained on from others (membership inference).

The attacks give every example a score that is higher for those they take for members:

- the loss threshold: minus the loss (Yeom et al.);
- the likelihood ratio :math:`\log N(\phi; \mu^{in}_c, \sigma^{in}) - \log N(\phi; \mu^{out}_c, \sigma^{out})` of the logit-scaled
  confidence :math:`\phi = \log \frac{p_y}{1 - p_y}` (Carlini et al.). `shadow_scores` takes the means from shadow models that were trained
  with and without each example, which is the paper's attack. `class_scores` needs no further model: its means are those of the class among
  examples that the attacker knows to be members or not, of which half is known and the other half is asked about, in turn.

They are judged by the area under the curve, and by the share of members that are found while almost no other example is taken for one.

References: Yeom et al., "Privacy Risk in Machine Learning", CSF 2018, arXiv:1709.01604; Carlini et al., "Membership Inference Attacks From
First Principles", IEEE S&P 2022, arXiv:2112.03570, sections III and V.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from .ranking import areas

RATES = (0.01, 0.001)
"""Shares of others that may be taken for members."""
_SMALLEST = 1e-6
"""Least deviation, where all examples that are known have one confidence."""


def attack(members: Tensor, others: Tensor) -> dict[str, float]:
    """How well scores tell members: `auc`, and the true positive rate at a false positive rate of at most 1% and 0.1%.

    Args:
        members: scores of training examples, `(members,)`.
        others: scores of examples that the model never saw, `(others,)`.

    Raises:
        ShapeMismatch: where one of the two is empty.
    """
    if members.ndim != 1 or others.ndim != 1 or not len(members) or not len(others):
        raise ShapeMismatch(f"an attack is judged on scores of members and of others, found {tuple(members.shape)}, {tuple(others.shape)}.")
    scores = torch.cat([members, others]).double()[:, None]
    belongs = torch.arange(len(scores), device=scores.device)[:, None] < len(members)
    found = {"auc": areas(scores, belongs).item()}
    ordered = others.double().sort(descending=True).values
    for rate in RATES:
        threshold = ordered[math.floor(rate * len(others))]
        found[f"tpr_at_{rate}"] = (members.double() > threshold).double().mean().item()
    return found


def scaled_confidence(logits: Tensor, labels: Tensor) -> Tensor:
    r""":math:`\log p_y - \log (1 - p_y)` of the true class, `(examples,)` in float64; exact where p is near 1.

    Args:
        logits: `(examples, classes)`.
        labels: class indices, `(examples,)`.
    """
    logits = logits.double()
    own = logits.gather(1, labels[:, None])
    return (own - logits.scatter(1, labels[:, None], -math.inf).logsumexp(1, keepdim=True))[:, 0]


def class_scores(members: Tensor, others: Tensor, member_labels: Tensor, other_labels: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Likelihood ratios of members and of others, each by Gaussians of its class that were fitted without it.

    Args:
        members: scaled confidence of training examples, `(members,)`.
        others: of other examples, `(others,)`.
        member_labels: their classes.
        other_labels: likewise.
        seed: of the halves.
    """
    classes = int(torch.cat([member_labels, other_labels]).max()) + 1
    generator = torch.Generator().manual_seed(seed)
    halves = [torch.randperm(len(x), generator=generator).argsort() % 2 == 0 for x in (members, others)]
    scores = [torch.zeros(len(x), dtype=torch.float64) for x in (members, others)]
    for known in (True, False):
        fits = [
            _gaussians(phi[half == known], labels[half == known], classes)
            for phi, labels, half in zip((members, others), (member_labels, other_labels), halves, strict=True)
        ]
        for number, (phi, labels, half) in enumerate(zip((members, others), (member_labels, other_labels), halves, strict=True)):
            asked = half != known
            inside, outside = (_log_density(phi[asked].double(), mean[labels[asked]], deviation) for mean, deviation in fits)
            scores[number][asked] = inside - outside
    return scores[0], scores[1]


def shadow_scores(confidence: Tensor, shadows: Tensor, member: Tensor) -> Tensor:
    """Likelihood ratios by shadow models, `(examples,)`: the paper's online attack, with one deviation for all examples of each side.

    Args:
        confidence: scaled confidence of the model that is attacked, `(examples,)`.
        shadows: that of the shadow models, `(models, examples)`.
        member: which shadow model was trained on which example, bool, `(models, examples)`.

    Raises:
        ShapeMismatch: where the shapes do not belong together, or an example has no shadow model on one of the two sides.
    """
    if shadows.shape != member.shape or shadows.shape[1:] != confidence.shape:
        shapes = f"{tuple(confidence.shape)}, {tuple(shadows.shape)} and {tuple(member.shape)}"
        raise ShapeMismatch(f"a likelihood ratio takes (examples,), (models, examples) twice, found {shapes}.")
    densities: list[Tensor] = []
    for side in (member, ~member):
        count = side.sum(0)
        if (count == 0).any():
            raise ShapeMismatch("every example needs a shadow model that was trained with it, and one that was not.")
        mean = shadows.double().masked_fill(~side, 0.0).sum(0) / count
        spread = (shadows.double() - mean).masked_fill(~side, 0.0).square().sum() / side.sum()
        densities.append(_log_density(confidence.double(), mean, spread.sqrt().clamp(min=_SMALLEST)))
    return densities[0] - densities[1]


def _gaussians(phi: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean of each class (of all, where a class has none) and one deviation from these means."""
    phi = phi.double()
    count = torch.bincount(labels, minlength=classes)
    sums = torch.zeros(classes, dtype=torch.float64).index_add_(0, labels, phi)
    whole = phi.mean() if len(phi) else torch.zeros((), dtype=torch.float64)
    mean = torch.where(count > 0, sums / count.clamp(min=1), whole)
    deviation = (phi - mean[labels]).square().mean().sqrt() if len(phi) else torch.ones((), dtype=torch.float64)
    return mean, deviation.clamp(min=_SMALLEST)


def _log_density(phi: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Logarithm of a Gaussian density, less a constant."""
    return -deviation.log() - ((phi - mean) / deviation).square() / 2
