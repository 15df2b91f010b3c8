"""The grammar of a model: which one, with which weights, what is kept of it, and how a teacher is run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from ..types import NonNegative, NonNegativeInt, Positive, PositiveInt
from .spec import TAGS, Spec, form


class Normalize(Spec):
    """Per-channel input normalisation, `(x - mean) / std`, of inputs in [0, 1]."""

    mean: list[float]
    """One value a channel (or one for all)."""
    std: list[Positive]
    """One value a channel (or one for all)."""


Normalization = Annotated[
    Annotated[Normalize, Tag(TAGS[0])] | Annotated[Literal["auto", "data", "none"], Tag(TAGS[1])], Discriminator(form)
]


class ShrinkSpec(Spec):
    """What is kept of a model of transformers, with its weights."""

    layers: Literal["even", "odd", "first", "last", "uniform", "importance"] | None = None
    """Which layers: every second (`even` from the first, `odd` from the second), the `count` first or last, `count` evenly spread with the
    first and the last among them, or the `count` that turn most what passes through them, measured on training batches."""
    count: PositiveInt | None = None
    """How many layers `first`, `last`, `uniform` and `importance` keep; half of them where absent."""
    keep: list[NonNegativeInt] = Field(default_factory=list)
    """The layers that are kept, by their numbers from 0, instead of a rule."""
    hidden: PositiveInt | None = None
    """Channels between the layers: those of the largest weights."""
    intermediate: PositiveInt | None = None
    """Units of each feed-forward layer: those of the largest weights."""
    heads: PositiveInt | None = None
    """Attention heads of each layer: those of the largest weights, with their keys and values."""


class LoraSpec(Spec):
    """Low-rank adapters beside the linear layers of a transformers model, whose own weights stay as they are (arXiv:2106.09685)."""

    rank: PositiveInt = 8
    """Rank of the adapters' product."""
    alpha: Positive = 16.0
    """The product is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of what the adapters read."""
    targets: list[str] = Field(default_factory=list)
    """Linear layers by name, such as `q_proj`, or by the end of their path; all but those of the head where empty."""
    head: bool | None = None
    """Whether the head learns as a whole; where absent, that of classifiers does, and that of language models does not."""


class PromptSpec(Spec):
    """A soft prompt before a transformers model whose own weights stay as they are (arXiv:2110.07602)."""

    length: PositiveInt = 20
    """Number of prompt tokens."""
    kind: Literal["prefix"] = "prefix"
    """What a prompt token is: keys and values in every layer (`prefix`)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of the keys and values."""
    spread: NonNegative = 1.0
    """Standard deviation of the keys and values at first."""
    head: bool | None = None
    """Whether the head learns as a whole; where absent, that of classifiers does, and that of language models does not."""
    weights: str | None = None
    """A run, or a file of weights, whose prompt it begins as; its classifier is not read."""


class SourcesSpec(Spec):
    """A model made of what others of the recipe have learnt from the same beginning: their changes are scaled, and only the scales and the
    head learn (arXiv:2310.01217)."""

    models: list[str]
    """Two or more models by name; they have its layers, and began with its weights (`start`)."""
    scales: Literal["channel", "layer", "model"] = "channel"
    """What has a scale of its own for each source: every channel of a layer, every layer, or the whole model."""
    total: Positive = 2.0
    """Sum of the scales of all sources at first."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of the scales."""


class ModelSpec(Spec):
    """A model by reference."""

    model: str
    """`timm:NAME`, `torchvision:NAME`, `hf:ID_OR_FOLDER`, `llama2c:FILE`, a built-in (`mlp`, `convnet`, `resnet`), or `module:callable`."""
    weights: str | None = None
    """`.safetensors` or `.pt` file, a run directory, `pretrained` (the library's own), `hub:ID`, or `random`; none means random too,
    but a teacher that no stage trains must say so."""
    prefix: dict[str, str] = Field(default_factory=dict)
    """Renames the beginning of parameter names of a foreign checkpoint, such as `{"module.": ""}`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the builder."""
    normalize: Normalization = "auto"
    """Input normalisation: the model's own where it has one, else the data's (`auto`); the data's; none; or given values."""
    view: str | None = None
    """The view of the data that it sees, by its name in `data.views`; the examples themselves where absent."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] | None = None
    """Type of a text model's weights in memory; `auto` is that of the file. A teacher of texts has `auto` where absent, all others
    fp32."""
    gradient_checkpointing: bool = False
    """Run the layers of a transformers model again in the backward pass instead of keeping what they computed: less memory, a third more
    time, the same gradients."""
    shrink: ShrinkSpec | None = None
    """Keep a part of a transformers model: a mapping, or just `layers` (`shrink: even`), their number (`shrink: 4`, evenly spread) or the
    list of those that are kept (`shrink: [0, 2, 5]`)."""
    lora: LoraSpec | None = None
    """Learn adapters beside a transformers model instead of the model itself: a mapping, or just their rank (`lora: 8`)."""
    prompt: PromptSpec | None = None
    """Learn a soft prompt instead of a transformers model itself: a mapping, or just its length (`prompt: 20`)."""
    sources: SourcesSpec | None = None
    """Learn how far to go where other models of the recipe went; of the student only."""
    lazy: Positive | None = None
    """The output is this factor times its change since the beginning, `lazy * (F(x) - F_0(x))`: 0 at first, and the larger the factor, the
    less do the weights move (lazy training, arXiv:1812.07956). Models of images and tables."""


class TeacherSpec(ModelSpec):
    """A teacher: a model and how it is run. Further keys are fields of its kind."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    """As for any model; a kind that has no model of its own (`ema`, `ensemble`, `stored`, ...) needs none."""
    kind: str = "frozen"
    """Kind of teacher; `limbeck methods` lists them. `stored: PATH` is short for `kind: stored` with `path: PATH`, and
    `remote: URL` for `kind: remote` with `url: URL`."""
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Precision of its forward; that of the training where absent."""
    channels_last: bool = False
    """Memory format of convolutional teachers."""
    compile: bool = False
    """Compile its forward with torch.compile."""
    fold: bool = True
    """Fold batch normalisation into the convolutions before it: the same values up to rounding, about a tenth less work."""
