r"""How far a language model has memorised a secret that was planted in its training data.

.. math:: exposure = \log_2 |R| - \log_2 rank

with the rank, by how probable the model finds them, of the planted text among the texts of R, which are the same but for the secret. It is
:math:`\log_2 |R|` for a secret that is more probable than all others, and about 1.4 for one that the model never saw.

Reference: Carlini et al., "The Secret Sharer", USENIX Security 2019, arXiv:1802.08232, section 4.
"""

from __future__ import annotations

import math
import random
import re
import string
from dataclasses import dataclass

from torch import Tensor

from ..errors import DataError

SECRET = re.compile(r"\{([^{}]+)\}")
_KINDS = (string.digits, string.ascii_lowercase, string.ascii_uppercase)


@dataclass(frozen=True)
class Exposure:
    """How a planted text stands among others."""

    bits: float
    """Exposure."""
    rank: int
    """1 where the model finds the planted text more probable than all others."""
    texts: int
    """That are compared, the planted one among them."""


def exposure(secret: float, others: Tensor) -> Exposure:
    """The rank of a planted text, and what it comes to; of equally probable texts the planted one is taken to come first.

    Args:
        secret: loss of the planted text (minus the logarithm of its probability).
        others: loss of the other texts, `(others,)`.
    """
    rank, texts = 1 + int((others < secret).sum()), len(others) + 1
    return Exposure(math.log2(texts) - math.log2(rank), rank, texts)


def fillings(canary: str, count: int, seed: int) -> tuple[str, list[str]]:
    """The planted text, and other texts with another secret of the same form, all different; all there are, where these are no more.

    Args:
        canary: the text with its secret in braces, such as `my pin is {4821}`; digits are replaced by digits, letters by letters.
        count: of the other texts, at most.
        seed: of the choice.

    Raises:
        DataError: where there are no such braces, more than one pair, or nothing in them can be replaced.
    """
    found = SECRET.findall(canary)
    if len(found) != 1:
        raise DataError(f"canary {canary!r}: expected one secret in braces, such as 'my pin is {{4821}}', found {len(found)}.")
    (secret,) = found
    before, after = SECRET.split(canary)[::2]
    signs = [next((kind for kind in _KINDS if sign in kind), sign) for sign in secret]
    possible = math.prod(len(kind) for kind in signs)
    if possible < 2:
        raise DataError(f"canary {canary!r}: nothing in its braces is a digit or a letter.")
    draw = random.Random(seed)
    numbers = draw.sample(range(possible), min(count + 1, possible))
    words = [word for word in (_word(number, signs) for number in numbers) if word != secret][:count]
    return before + secret + after, [before + word + after for word in words]


def _word(number: int, signs: list[str]) -> str:
    out: list[str] = []
    for kind in signs:
        number, place = divmod(number, len(kind))
        out.append(kind[place])
    return "".join(out)
