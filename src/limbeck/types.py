"""The vocabulary that every layer shares: signals, batches, bounds.

Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from annotated_types import Ge, Gt, Le

if TYPE_CHECKING:
    from torch import Tensor

    from .tokens import Tokens

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]

IGNORE = -100
"""The class label of an example (or token) that has none; torch's own convention."""

PADDING = "attention_mask"
"""Name in `Signals.extra` of what tells tokens from the padding of texts: `(batch, tokens)`, 0 where there is padding."""

LabelKind = Literal["class", "multilabel", "real", "joint", "token", "span"]
"""What labels mean: one class, any number of labels, numbers, those of several data sets with labels of their own (`Share`), for every
trained token one of the vocabulary, for which all losses on one class are meaningful, or where an answer begins and ends."""

ROW_WEIGHTS = "row_weights"
"""Name in `Signals.extra` of how much each trained token counts, `(rows,)`, where they do not all count alike."""

LanguageKind = Literal["causal_lm", "masked_lm", "seq2seq_lm", "token_classification", "span_extraction"]
"""What is predicted of texts, by the name of the task: the next token, those that are masked, those of another text, a class of every
token, or where an answer begins and ends."""
WRITES: tuple[LanguageKind, ...] = ("causal_lm", "seq2seq_lm")
"""Those whose models write texts, token by token."""


@dataclass(frozen=True)
class Head:
    """The linear layer that makes a model's logits, for losses that work in its space; it has no batch dimension."""

    weight: Tensor
    """`(classes, channels)`."""
    bias: Tensor | None = None
    """`(classes,)`."""


@dataclass
class Signals:
    """What a model says about a batch.

    A loss sees only the features that its term names, in the order in which the term names them.
    """

    logits: Tensor = field(default=cast("Tensor", None))
    """Outputs of the head: `(batch, classes)`, `(batch, targets)` or `(batch, tokens, classes)`; None where absent."""
    features: Mapping[str, Tensor] = field(default_factory=dict)
    """Tapped values by layer path, batch first."""
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """What else is known of the examples, batch first: `index` (position in the data set, int64), `mask`, ..."""
    head: Head | None = None
    """The model's classifier, for a loss whose `needs.head` asks for it."""
    views: tuple[Signals, ...] = ()
    """What the model says of the same images rotated by 90, 180 and 270 degrees, for a loss whose `needs.rotations` asks for it."""
    tokens: Tokens | None = None
    """Language: what is known of every trained token, a row each, in the place of `logits`."""
    parts: tuple[Signals, ...] = ()
    """What a stored teacher says of the two examples that were mixed, each by itself; empty where nothing was mixed."""

    @property
    def feature(self) -> Tensor:
        """The only tapped value; an error where there is none or more than one."""
        if len(self.features) != 1:
            from .errors import SignalMissing

            raise SignalMissing(f"one feature was expected, found {len(self.features)}: {list(self.features)}")
        return next(iter(self.features.values()))

    def select(self, paths: list[str] | tuple[str, ...]) -> Signals:
        """The same signals with only the features at `paths`, in that order."""
        return replace(self, features={path: self.features[path] for path in paths})

    @classmethod
    def of(cls, *features: Tensor) -> Signals:
        """Signals that hold features only, named by position; handy in a loop of one's own."""
        return cls(features={str(i): value for i, value in enumerate(features)})


@dataclass(frozen=True)
class Mixed:
    """How the examples of a batch were mixed: each input is `share` of its own and the rest of its partner."""

    partner: Tensor
    """Position of the partner in the data set, `(batch,)`, int64."""
    epoch: Tensor
    """Number of the partner's augmentation, `(batch,)`, int64."""
    labels: Tensor
    """Labels of the partners, as those of the batch."""
    share: Tensor
    """Share of the input that is the example's own, from 0 to 1, `(batch,)`, float32; 1 where it was not mixed."""


@dataclass
class Batch:
    """A batch on its way to the models.

    A text batch holds a mapping of tensors in `inputs`; all other tasks hold one tensor.
    """

    inputs: Any
    """A tensor, batch first, or a mapping of such tensors."""
    labels: Tensor | None
    """Class indices `(batch,)`, or `(batch, targets)`; `IGNORE` (integers) or NaN (floats) where unlabelled."""
    index: Tensor
    """Position of each example in its data set, `(batch,)`, int64; per-sample state is kept by it."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further views, stored signals, group membership, by name."""
    epoch: int | Tensor = 0
    """Number of the augmentation that `inputs` show, or one for each example; a store of teacher signals keeps one answer for each."""
    views: dict[str, Any] = field(default_factory=dict)
    """Inputs of the further views of the same examples (`data.views` of a recipe), by name; `shown` makes batches of them."""
    view_rows: dict[str, Tensor] = field(default_factory=dict)
    """Language: where the trained tokens stand in the inputs of a view, by its name; the same tokens in the same order as `rows`."""
    rows: Tensor | None = None
    """Language: the trained tokens, as increasing positions in the flattened `(batch, tokens)` of the inputs, `(rows,)`, int64.
    `labels` and signals then hold a row for each: what is to be predicted there, which for a causal model is the next token."""
    weights: Tensor | None = None
    """Language: how much each trained token counts, `(rows,)`; all alike where absent."""
    mixed: Mixed | None = None
    """How `inputs` were mixed; `labels`, `index` and `epoch` are those of the examples' own part."""

    _shown: dict[str, Batch] = field(default_factory=dict, repr=False, compare=False)
    _prepared: tuple[Any, Tensor, int] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.index.shape[0]

    @property
    def tokens_shape(self) -> tuple[int, int]:
        """Language: `(batch, tokens)`, in which `rows` are positions; of encoder-decoders, the decoder's tokens."""
        ids = self.inputs["decoder_input_ids" if "decoder_input_ids" in self.inputs else "input_ids"]
        return ids.shape[0], ids.shape[1]

    @property
    def units(self) -> float:
        """What the loss is a mean over: the trained tokens of language (or the sum of their weights), else the examples."""
        if self.weights is not None:
            return float(self.weights.sum())
        return len(self) if self.rows is None else self.rows.shape[0]

    def by_sequence(self) -> Batch:
        """Language: the same batch, in which every document counts alike, however many trained tokens it has."""
        if self.rows is None:
            return self
        _, of, counts = self.extra["documents"].unique(return_inverse=True, return_counts=True)
        return replace(self, weights=1 / counts[of].double())

    def shown(self, view: str | None) -> Batch:
        """The batch as a model sees it that looks at `view`; itself for None. Asked twice, it is the same object.

        Raises:
            UnknownName: where the data have no such view.
        """
        if view is None:
            return self
        if view not in self.views:
            from .errors import UnknownName

            raise UnknownName("view of the data", view, self.views)
        if view not in self._shown:
            own = {"rows": self.view_rows.get(view, self.rows), "weights": self.weights, "mixed": self.mixed}
            self._shown[view] = Batch(self.views[view], self.labels, self.index, self.extra, self.epoch, **own)
        return self._shown[view]

    def prepared(self, how: Callable[[Tensor], Tensor], key: object) -> Tensor:
        """`how(inputs)`, computed once for all models that prepare their inputs alike.

        Args:
            how: the preparation, such as a normalisation.
            key: tells preparations apart; equal keys mean equal preparations.
        """
        kept = self._prepared
        if kept is None or kept[0] != key or kept[1]._version != kept[2]:  # noqa: SLF001 - a model may have written into its input
            value = how(self.inputs)
            self._prepared = kept = (key, value, value._version)  # noqa: SLF001
        return kept[1]

    def to(self, device: Any) -> Batch:
        """The batch on `device` (`index` stays on the CPU, where per-sample state is kept)."""

        def move(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: move(item) for key, item in value.items()}
            return value.to(device, non_blocking=True) if hasattr(value, "to") else value

        if device.type == "cpu":
            return self
        mixed = self.mixed
        if mixed is not None:
            mixed = replace(mixed, labels=move(mixed.labels), share=move(mixed.share))
        own = {"views": move(self.views), "view_rows": move(self.view_rows), "rows": move(self.rows), "weights": move(self.weights)}
        return Batch(move(self.inputs), move(self.labels), self.index, move(self.extra), self.epoch, mixed=mixed, **own)


def labelled(labels: Tensor) -> Tensor:
    """Which examples carry a label: `(batch,)` or `(batch, tokens)`, bool."""
    if not labels.dtype.is_floating_point:
        return labels != IGNORE
    known = labels.isfinite()
    return known if known.ndim == 1 else known.flatten(1).all(1)


@dataclass(frozen=True)
class Share:
    """What one of several data sets has of joint data: some of the outputs, and its own kind of labels.

    The labels of joint data are float32, `(batch, 1 + values)`: the number of the example's data set, then what its own labels
    are, which is one class, or a value for each of its outputs; 0 where another data set has more of them, NaN where unlabelled.
    """

    number: int
    """Place among the data sets, from 0."""
    labels: LabelKind
    """What its own labels mean."""
    start: int
    """Its first output."""
    stop: int
    """The output after its last."""
    names: tuple[str, ...] = ()
    """Names of its classes, labels or targets."""

    @property
    def outputs(self) -> int:
        """Number of its outputs."""
        return self.stop - self.start


@dataclass(frozen=True)
class DataInfo:
    """What models, tasks and reports need to know of the data."""

    kind: Literal["image", "tabular", "text"]
    labels: LabelKind
    num_outputs: int
    """Number of classes, of labels or of regression targets."""
    input_shape: tuple[int, ...]
    """Shape of one input without the batch: `(channels, height, width)`, `(columns,)`, `(tokens,)`."""
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    """Per-channel (or per-column) mean of the training inputs."""
    std: tuple[float, ...] | None = None
    views: Mapping[str, DataInfo] = field(default_factory=dict)
    """The same of every further view of the examples, by name."""
    shares: Mapping[str, Share] = field(default_factory=dict)
    """Joint data: what each data set has of the outputs, by name."""
    language: LanguageKind | None = None
    """Texts: what is predicted of them, which says what head a model gets; None where it is a class of the whole text."""

    def shown(self, view: str | None) -> DataInfo:
        """The data as a model sees them that looks at `view`; themselves for None.

        Raises:
            UnknownName: where the data have no such view.
        """
        if view is not None and view not in self.views:
            from .errors import UnknownName

            raise UnknownName("view of the data", view, self.views)
        return self if view is None else self.views[view]


@dataclass(frozen=True)
class Needs:
    """What a loss asks for; the objective and `limbeck check` read it."""

    logits: bool = False
    """The logits of the student (and of the teacher, where it needs a teacher)."""
    labels: bool = False
    """Ground truth; unlabelled examples are masked out by the objective."""
    teacher: bool = True
    features: Literal["none", "optional", "one", "many"] = "none"
    """Tapped layers: none; one or else the logits; exactly one; one or more."""
    match: Literal["any", "space", "full"] = "full"
    """What must agree between the student's and the teacher's feature, for the adapter: nothing, the spatial size, or the whole shape."""
    label_kinds: tuple[LabelKind, ...] = ("class", "multilabel", "real")
    """The tasks for which the loss is meaningful."""
    global_batch: bool = False
    """A batch quantity: the engine gathers the signals of all processes first."""
    extra: tuple[str, ...] = ()
    """Names in `Signals.extra` of the student: `index`, or what the data set gives beside inputs and labels."""
    head: Literal["none", "student", "teacher", "both"] = "none"
    """Whose classifier the loss reads, as `Signals.head`."""
    rotations: bool = False
    """Whether both models are also run on the rotated images, given as `Signals.views`."""
    padding: bool = False
    """Whether the loss leaves the padding of texts out, which `Signals.extra` of the student tells (`PADDING`); others take no tokens of
    texts."""

    def fits(self, labels: LabelKind) -> bool:
        """Whether the loss is meaningful for such labels; a trained token is an example with one class, and so is an end of an answer."""
        return ("class" if labels in ("token", "span") else labels) in self.label_kinds
