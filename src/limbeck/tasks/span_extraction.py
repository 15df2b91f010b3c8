"""Reading: where in a text the answer to a question begins and ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DataError, ShapeMismatch, SignalMissing
from ..evaluate.agreement import class_agreement
from ..types import Batch, DataInfo, LabelKind, Signals
from .base import Kind, Task

_NOWHERE = -1e4
"""The logit of a place at which no answer can lie: its probability is 0, and no divergence meets an infinity."""
LONGEST = 30
"""Most tokens of an answer that is given, as in the evaluation of BERT on SQuAD."""


@final
class SpanExtraction(Task):
    """Questions with windows of a text: signals hold logits over its tokens for the first and for the last one of the answer.

    An answer on the first token of all says that the window holds none.
    """

    labels: ClassVar[LabelKind] = "span"
    data_kinds: ClassVar[tuple[Kind, ...]] = ("text",)
    language: ClassVar = "span_extraction"
    loss: ClassVar[str] = "cross_entropy"
    monitor: ClassVar[str] = "f1"
    maximize: ClassVar = {"f1": True, "exact_match": True, "nll": False}

    def signals(self, output: Any, features: Mapping[str, Tensor], batch: Batch) -> Signals:
        """Logits `(batch, 2, max_length)`, next to nothing where no answer may lie.

        Args:
            output: with `start_logits` and `end_logits`, `(batch, tokens)`; or a tensor `(batch, tokens, 2)`.
            features: tapped values by path.
            batch: what the model was given; `extra["allowed"]` says where an answer may lie.

        Raises:
            SignalMissing: where the output has no such logits, or the batch does not say where an answer may lie.
        """
        if output is None:
            return Signals(features=features)
        allowed = batch.extra.get("allowed")
        if not isinstance(allowed, Tensor):
            raise SignalMissing("span extraction needs batches that say where an answer may lie (`Batch.extra['allowed']`).")
        both = _both(output)
        wide = F.pad(both.float(), (0, allowed.shape[1] - both.shape[2]), value=_NOWHERE)
        return Signals(torch.where(allowed[:, None], wide, _NOWHERE), features)

    def check_head(self, logits: Any, info: DataInfo, *, model: str = "the model") -> None:
        """Checks that there are logits for the first and the last token of an answer.

        Raises:
            ShapeMismatch: where they have not the shape `(batch, 2, tokens)`.
        """
        expected = (2, info.input_shape[0])
        if tuple(logits.shape[1:]) != expected:
            raise ShapeMismatch(f"{model} gives outputs of shape {tuple(logits.shape)}, expected (batch, {expected[0]}, {expected[1]}).")

    def report(self, logits: Tensor, labels: Tensor, examples: Tensor | None = None) -> dict[str, float]:
        """F1 of the tokens of the answers and share that is exactly right, by question; mean nll of first and last token (nats).

        A question is answered in the window in which the likeliest answer exceeds the likelihood of none the most; where it does so in no
        window, the answer is that there is none.

        Args:
            logits: `(windows, 2, tokens)`.
            labels: first and last token, `(windows, 2)`; both 0 where the window holds no answer.
            examples: number of the question of each window; every window is a question of its own where absent.

        Raises:
            DataError: where there is nothing to judge.
        """
        if len(labels) == 0:
            raise DataError("no example to evaluate has a label.")
        owner = torch.arange(len(labels)) if examples is None else torch.unique(examples, return_inverse=True)[1]
        guess, gain = self._answers(logits)
        right, common = self._judged(guess, labels, owner, gain)
        nll = F.cross_entropy(logits.double().flatten(0, 1), labels.flatten())
        return {"f1": common.mean().item(), "exact_match": right.mean().item(), "nll": nll.item()}

    def metrics(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """As `report`, each window by itself."""
        return self.report(logits, labels)

    def _answers(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest answer of every window, and by how much its logits exceed those of none."""
        parts = [_best(part) for part in logits.split(64)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _judged(self, guess: Tensor, labels: Tensor, owner: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Of every question, whether its answer is exactly right, and the F1 of its tokens, float64."""
        count = int(owner.max()) + 1
        most = torch.full((count,), -torch.inf, dtype=gain.dtype).scatter_reduce_(0, owner, gain, "amax")
        answered = (labels[:, 0] > 0).to(torch.float64)
        has = torch.zeros(count, dtype=torch.float64).scatter_reduce_(0, owner, answered, "amax")
        order = torch.arange(len(owner))
        best = torch.full((count,), len(owner)).scatter_reduce_(0, owner, torch.where(gain == most[owner], order, len(owner)), "amin")
        said, truth = guess[best], labels[best]
        common = (torch.minimum(said[:, 1], truth[:, 1]) - torch.maximum(said[:, 0], truth[:, 0]) + 1).clamp_min(0).double()
        f1 = 2 * common / (said[:, 1] - said[:, 0] + truth[:, 1] - truth[:, 0] + 2).double()
        silent = most <= 0
        return torch.where(silent, 1 - has, (said == truth).all(1).double()), torch.where(silent, 1 - has, f1)

    def predictions(self, logits: Tensor) -> Tensor:
        """First and last token of the likeliest answer of at most `LONGEST` tokens, both 0 where none is likelier, `(windows, 2)`."""
        if len(logits) == 0:
            return torch.zeros(0, 2, dtype=torch.int64)
        guess, gain = self._answers(logits)
        return torch.where(gain[:, None] > 0, guess, 0)

    def agreement(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Any] | None:
        """Share of equal predictions of the first and the last token, and mean KL."""
        return class_agreement(student.flatten(0, 1), teacher.flatten(0, 1), labels.flatten())

    def example(self, info: DataInfo, *, batch: int = 2, device: str = "meta") -> Batch:
        """Token numbers that every vocabulary has, of the longest length, without padding; answers may lie anywhere."""
        tokens = info.input_shape[0]
        ids = (torch.arange(batch * tokens).reshape(batch, tokens) % 2).to(device)
        inputs = {"input_ids": ids}
        if device != "meta":  # a mask's contents are read to see whether it hides anything; on meta there are none
            inputs["attention_mask"] = torch.ones_like(ids)
        allowed = torch.ones(batch, tokens, dtype=torch.bool, device=device)
        return Batch(inputs, torch.zeros(batch, 2, dtype=torch.int64, device=device), torch.arange(batch), {"allowed": allowed})


def _both(output: Any) -> Tensor:
    """Logits of the first and the last token, `(batch, 2, tokens)`."""
    if isinstance(output, Tensor) and output.ndim == 3 and output.shape[2] == 2:
        return output.transpose(1, 2)
    if isinstance(output, Mapping) and "start_logits" in output and "end_logits" in output:
        return torch.stack([output["start_logits"], output["end_logits"]], 1)
    raise SignalMissing(
        f"the model returns a {type(output).__name__}; span extraction needs start_logits and end_logits, or a tensor (batch, tokens, 2)."
    )


def _best(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest first and last token behind the very first, in order and not too far apart; and their lead over the very first."""
    count = logits.shape[2]
    place = torch.arange(count, device=logits.device)
    apart = place[None, :] - place[:, None]
    fits = (apart >= 0) & (apart < LONGEST) & (place[:, None] > 0)
    scores = (logits[:, 0, :, None] + logits[:, 1, None, :]).masked_fill(~fits, -torch.inf)
    value, best = scores.flatten(1).max(1)
    return torch.stack([best // count, best % count], 1), value - logits[:, :, 0].sum(1)
