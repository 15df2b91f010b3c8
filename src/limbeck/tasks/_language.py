"""What language models have in common: a row for every trained token, hidden states instead of logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import DataError, ShapeMismatch, SignalMissing, TapError
from ..evaluate.tokens import TokenStatistics, language_metrics, token_agreement, token_reliability, token_statistics
from ..models.language import LanguageHead, language_head
from ..ops.projection import narrowed, vocabulary_of
from ..taps.tapped import Tapped
from ..tokens import Hidden, Logits, Projection, Tokens
from ..types import ROW_WEIGHTS, Batch, DataInfo, LabelKind, Signals
from .base import Kind, Task

if TYPE_CHECKING:
    from ..models.base import Normalization

MAXIMIZE = {"perplexity": False, "nll": False, "accuracy": True, "top5": True, "ece": False}
"""The metrics of a language model, and whether more is better."""


class Language(Task):
    """Predicts tokens. Signals hold a row for each trained token: hidden states and the head, never the logits of all of them.

    Rows of a head beyond the tokenizer are no words. They are cut off here, from what every model says, so that they are left out of all
    distributions alike: in training, in stores, and in what is evaluated.

    Args:
        vocabulary: number of tokens that the tokenizer of the data has; all rows of a head count where absent.
    """

    labels: ClassVar[LabelKind] = "token"
    data_kinds: ClassVar[tuple[Kind, ...]] = ("text",)
    loss: ClassVar[str] = "cross_entropy"
    monitor: ClassVar[str] = "perplexity"
    maximize: ClassVar = MAXIMIZE

    def __init__(self, vocabulary: int | None = None) -> None:
        self.vocabulary = vocabulary
        self._heads: WeakKeyDictionary[nn.Module, LanguageHead] = WeakKeyDictionary()
        self._last: tuple[Any, Any, TokenStatistics] | None = None

    def on(self, info: DataInfo) -> Language:
        """The task with the tokens of the data's tokenizer."""
        return type(self)(info.num_outputs)

    def head(self, module: nn.Module) -> LanguageHead:
        """How the logits of a model are made, found once."""
        if module not in self._heads:
            self._heads[module] = language_head(module)
        return self._heads[module]

    def call(self, model: Callable[..., Any], normalization: Normalization | None, batch: Batch) -> Signals:
        """Hidden states of the trained tokens, with the rows of the head that are words; the features of the same tokens.

        Raises:
            ShapeMismatch: where the model knows fewer tokens than the tokenizer.
        """
        module = _module(model)
        head = self.head(module)
        with head.catching() as caught:
            result = self.forward(model, batch, normalization)
        output, features = result if isinstance(model, Tapped) else (result, {})
        rows = _rows(batch)
        shape = batch.tokens_shape
        kept = {path: at_rows(value, rows, shape, path) for path, value in features.items()}
        extra = {} if batch.weights is None else {ROW_WEIGHTS: batch.weights.float()}
        if output is None:
            return Signals(features=kept, extra=extra)
        hidden = caught.hidden.flatten(0, 1).index_select(0, rows)
        return Signals(features=kept, extra=extra, tokens=Hidden(hidden, self._words(head.projection(), type(module).__name__)))

    def _words(self, head: Projection, model: str) -> Projection:
        """The rows of a head that are tokens of the tokenizer, without a copy; the head itself where it has no others."""
        if self.vocabulary is None:
            return head
        _check_size(len(head.weight), self.vocabulary, model)
        return narrowed(head, self.vocabulary)

    def check_head(self, logits: Any, info: DataInfo, *, model: str = "the model") -> None:
        """Checks that a model knows every token of the vocabulary; further rows of its head only pad it.

        Raises:
            ShapeMismatch: where it knows fewer.
        """
        _check_size(vocabulary_of(logits if not isinstance(logits, Tensor) else Logits(logits)), info.num_outputs, model)

    def report(self, logits: Any, labels: Tensor, examples: Tensor | None = None) -> dict[str, float]:
        """Perplexity, nll, accuracy, top-5 accuracy and ece over all tokens.

        Raises:
            DataError: where there is no token.
        """
        return language_metrics(self._statistics(logits, labels))

    def metrics(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """The same of logits."""
        return language_metrics(token_statistics(Logits(logits), labels))

    def predictions(self, logits: Tensor) -> Tensor:
        """The likeliest token of each row."""
        return logits.argmax(1)

    def details(self, logits: Any, labels: Tensor) -> dict[str, Any]:
        """The reliability diagram of the likeliest tokens."""
        return {"reliability": token_reliability(self._statistics(logits, labels))}

    def agreement(self, student: Any, teacher: Any, labels: Tensor) -> dict[str, Any] | None:
        """Share of equal likeliest tokens, and mean KL."""
        return token_agreement(student, teacher, labels)

    def _statistics(self, said: Tokens | Tensor, labels: Tensor) -> TokenStatistics:
        """What is known of each token; asked for the same model twice in a row, it is computed once."""
        if len(labels) == 0:
            raise DataError("there is no token to evaluate.")
        if self._last is None or self._last[0] is not said or self._last[1] is not labels:
            tokens = Logits(said) if isinstance(said, Tensor) else said
            self._last = (said, labels, token_statistics(tokens, labels))
        return self._last[2]

    def example(self, info: DataInfo, *, batch: int = 2, device: str = "meta") -> Batch:
        """Token numbers that every vocabulary has, of the longest length, without padding; every position is trained."""
        tokens = info.input_shape[0]
        ids = (torch.arange(batch * tokens).reshape(batch, tokens) % 2).to(device)
        # A mask's contents are read to see whether it hides anything, which on meta there are none of; one for pairs is taken as it is.
        mask = torch.ones_like(ids) if device != "meta" else torch.empty(batch, 1, tokens, tokens, device=device)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if info.language == "seq2seq_lm":
            inputs |= {"decoder_input_ids": ids, "decoder_attention_mask": mask}
        count = batch * tokens
        labels = torch.zeros(count, dtype=torch.int64, device=device)
        extra = {name: torch.zeros(count, device=device) for name in ("given", "private")}
        return Batch(inputs, labels, torch.arange(batch), extra, rows=torch.arange(count, device=device))


def _check_size(found: int, vocabulary: int, model: str) -> None:
    """Whether a head has a row for every token of the tokenizer."""
    if found < vocabulary:
        raise ShapeMismatch(
            f"{model} knows {found:,} tokens, and the tokenizer of the data has {vocabulary:,}. Give the model the tokenizer that it "
            "was made with (data.tokenizer), or a larger vocabulary."
        )


def _module(model: Any) -> nn.Module:
    """The model itself, without what taps or compiles it."""
    inner = model.module if isinstance(model, Tapped) else model
    return dict(inner.named_children()).get("_orig_mod", inner) if isinstance(inner, nn.Module) else inner


def _rows(batch: Batch) -> Tensor:
    if batch.rows is None or not isinstance(batch.inputs, Mapping):
        raise SignalMissing("a language model needs batches that say which tokens are trained (`Batch.rows`).")
    return batch.rows


def at_rows(value: Tensor, rows: Tensor, shape: tuple[int, int], path: str) -> Tensor:
    """A tapped value at the trained tokens.

    Args:
        value: `(batch, tokens, ...)`; attention maps are `(batch, heads, tokens, tokens)`.
        rows: positions in the flattened `(batch, tokens)`.
        shape: `(batch, tokens)`.
        path: of the tap, for the error.

    Returns:
        `(rows, ...)`; of attention maps, what each token looks at, `(rows, heads, tokens)`.

    Raises:
        TapError: where the value has no place for each token.
    """
    if value.ndim == 4 and value.shape[0] == shape[0] and value.shape[2:] == (shape[1], shape[1]):
        value = value.transpose(1, 2)
    if tuple(value.shape[:2]) != shape:
        raise TapError(f"{path!r} has values of shape {list(value.shape)}, not one for each of {list(shape)} tokens.")
    return value.flatten(0, 1).index_select(0, rows)
