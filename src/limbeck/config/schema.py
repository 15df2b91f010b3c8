"""The grammar of a recipe, as typed and frozen models. One statement of every key, default and bound."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from ..types import Fraction, NonNegative, NonNegativeInt, Positive, PositiveInt
from .data_schema import DataSpec
from .evaluate_schema import EvaluateSpec
from .spec import TAGS, Spec, form
from .study_schema import StudySpec


class About(Spec):
    """What the recipe is for; shown in the report."""

    title: str = ""
    """One line."""
    paper: str = ""
    """Reference, such as `arXiv:1503.02531`."""
    claim: str = ""
    """What the paper says that this recipe should show."""
    notes: str = ""
    """Anything else a reader should know."""


class Schedule(Spec):
    """A value that changes over a stage."""

    schedule: Literal["linear", "cosine", "exponential", "step"]
    """Shape of the change from `start` to `end`; `step` jumps half-way between `begin` and `until`."""
    start: float
    """Value at the beginning."""
    end: float
    """Value at the end."""
    begin: Fraction = 0.0
    """Where the change starts, as a fraction of the stage."""
    until: Fraction = 1.0
    """Where the change is complete, as a fraction of the stage."""


class Kept(Spec):
    """A weight that is tied to the share of the training examples that a selection keeps."""

    kept: Annotated[list[Annotated[list[NonNegative], Field(min_length=2, max_length=2)]], Field(min_length=1)]
    """Points `[share, weight]` in ascending order; linear between them and constant beyond."""


class Normalize(Spec):
    """Per-channel input normalisation, `(x - mean) / std`, of inputs in [0, 1]."""

    mean: list[float]
    """One value a channel (or one for all)."""
    std: list[Positive]
    """One value a channel (or one for all)."""


Normalization = Annotated[
    Annotated[Normalize, Tag(TAGS[0])] | Annotated[Literal["auto", "data", "none"], Tag(TAGS[1])], Discriminator(form)
]


def _weight(value: Any) -> str:
    kept = isinstance(value, Kept) or (isinstance(value, dict) and "kept" in value)
    return TAGS[2] if kept else form(value)


Weight = Annotated[
    Annotated[Schedule, Tag(TAGS[0])] | Annotated[NonNegative, Tag(TAGS[1])] | Annotated[Kept, Tag(TAGS[2])], Discriminator(_weight)
]


def _listed(value: Any) -> str:
    return TAGS[0] if isinstance(value, list | tuple) else TAGS[1]


LayerMap = Annotated[
    Annotated[list[int | None], Field(min_length=1), Tag(TAGS[0])] | Annotated[Literal["uniform", "skip", "last", "top"], Tag(TAGS[1])],
    Discriminator(_listed),
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
    sources: SourcesSpec | None = None
    """Learn how far to go where other models of the recipe went; of the student only."""


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


class OptimizerSpec(Spec):
    """An optimizer and its arguments; further keys go to the optimizer."""

    model_config = ConfigDict(extra="allow")

    name: str = "adamw"
    """Name of a torch.optim class (any case), or `timm:NAME`."""
    lr: NonNegative = 1e-3
    """Learning rate."""


class LRSchedule(Spec):
    """Learning-rate schedule, stepped after every update."""

    name: Literal["constant", "cosine", "linear", "step", "plateau"] = "cosine"
    """`plateau` watches `train.monitor` and is stepped at every evaluation."""
    warmup: NonNegative = 0.0
    """Linear warm-up: a fraction of the stage if below 1, else a number of updates."""
    final: Fraction = 0.0
    """Learning rate at the end, as a fraction of the peak (cosine, linear)."""
    milestones: list[Fraction] = Field(default_factory=lambda: [0.5, 0.75])
    """Where `step` multiplies the rate by `gamma`, as fractions of the stage."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor of `step` and `plateau`."""
    patience: NonNegativeInt = 3
    """Evaluations without progress before `plateau` acts."""


class EMASpec(Spec):
    """Exponential moving average of the learner; it is what is evaluated and exported."""

    decay: Fraction = 0.999
    """Share of the old average that is kept at every update."""
    rule: Literal["exponential", "mean"] = "exponential"
    """By `decay`; or the plain mean of all weights since `begin`, which is stochastic weight averaging."""
    every: PositiveInt = 1
    """Updates between two moves of the average."""
    begin: Fraction = 0.0
    """Where averaging starts, as a fraction of the stage; until then the learner's own weights are evaluated."""
    warmup: bool = True
    """Keep less than `decay` at first, so that short trainings are not held at their initial weights."""


class EarlyStop(Spec):
    """Ends a stage when the monitored metric stops improving."""

    patience: PositiveInt = 5
    """Evaluations without improvement before the stage ends."""
    min_delta: NonNegative = 0.0
    """Least change that counts as an improvement."""


class MixtureSpec(Spec):
    """Domains of texts (`data.domain`) are trained on by shares that follow how far the student is behind its teacher in each."""

    every: PositiveInt = 50
    """Updates between two looks at the losses."""
    alpha: Fraction = 0.7
    """How much of the shares follows the gap; the rest is even, so at 0 all domains have the same share."""
    probe: PositiveInt = 32
    """Validation examples of each domain on which the losses are taken, at most."""
    teacher: str = "teacher"
    """The teacher that the student is compared with, one that a term of the objective listens to."""


class TrainSpec(Spec):
    """How a stage trains."""

    epochs: PositiveInt = 10
    """Passes over the training data; ignored where `steps` is set."""
    steps: PositiveInt | None = None
    """Number of updates."""
    batch_size: PositiveInt = 64
    """Examples of one update, over all accumulation steps and processes together."""
    accumulate: PositiveInt = 1
    """Into how many forward passes a process splits its share of an update."""
    optimizer: OptimizerSpec = OptimizerSpec()
    """A mapping, or just the name: `optimizer: sgd`."""
    schedule: LRSchedule = LRSchedule()
    """A mapping, or just the name: `schedule: cosine`."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Mixed precision of the learner."""
    clip: Positive | None = None
    """Largest gradient norm."""
    ema: EMASpec | None = None
    """Moving average of the learner; a mapping, or just the decay."""
    early_stop: EarlyStop | None = None
    """Ends the stage when progress stops; a mapping, or just the patience."""
    monitor: str | None = None
    """Validation metric that picks the best checkpoint; the task's own where absent."""
    select: Literal["best", "last"] = "best"
    """Which weights a stage hands on: the best by `monitor` on the validation split, or the last."""
    evaluate_every: PositiveInt = 1
    """Epochs between evaluations on the validation split."""
    checkpoint_every: PositiveInt | None = None
    """Updates between checkpoints, besides the one after every epoch."""
    log_every: PositiveInt = 10
    """Updates between log lines."""
    normalize: Literal["token", "sequence"] = "token"
    """Language: what the loss is a mean over: all trained tokens of an update, or its documents, each the mean over its own tokens."""
    mixture: MixtureSpec | None = None
    """Language: in which shares the domains of the texts are trained on; as they come where absent. A mapping, or just `every`."""
    step: str = "supervised"
    """How a batch becomes an update; a registered step or `module:Class`."""
    channels_last: bool = False
    """Memory format of a convolutional learner."""
    compile: bool = False
    """Compile the learner with torch.compile."""
    workers: NonNegativeInt = 0
    """Processes that load data; 0 loads in the training process."""


class AdapterSpec(Spec):
    """A trainable bridge from the student's feature to the teacher's; further keys go to the adapter."""

    model_config = ConfigDict(extra="allow")

    kind: str = "auto"
    """A registered adapter, `auto` (picked from the shapes) or `none`."""


class TargetSpec(Spec):
    """A change of both models' signals before a loss compares them; further keys go to it."""

    model_config = ConfigDict(extra="allow")

    name: str
    """A registered target, or `module:Class`."""


class TermSpec(Spec):
    """One loss of the objective. Every other key is a hyper-parameter of the loss."""

    loss: str
    """A registered loss, or `module:Class`."""
    weight: Weight = 1.0
    """Factor of the term."""
    student: list[str] = Field(default_factory=list)
    """Layer path(s) of the student, for a loss on features."""
    teacher: list[str] = Field(default_factory=list)
    """Layer path(s) of the teacher; those of the student where absent."""
    layers: LayerMap | None = None
    """Where paths have a star in the place of the layer's number, as in `encoder.layer.*`: which layer of the teacher each one of the
    student learns from. `uniform` (where absent), `skip`, `last`, `top`, or a list of the teacher's layers, one (or null) for each."""
    from_: str = Field(default="teacher", alias="from")
    """Which teacher, where a recipe names several; in a stage with `peers` also one of its members, or `peers`: the mean over all other
    members."""
    only: str | None = None
    """Where several data sets are learnt together: the one whose examples, outputs and labels the term reads."""
    adapter: AdapterSpec = AdapterSpec()
    """How the student's feature is brought to the shape of the teacher's; a mapping, or just the kind."""
    targets: list[TargetSpec] = Field(default_factory=list)
    """What is done to the signals of both models before the loss sees them, in order; a list, or one name or mapping."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Hyper-parameters of the loss, validated against its fields (written beside the keys above, not under `options`)."""
    schedules: dict[str, Schedule] = Field(default_factory=dict)
    """Those hyper-parameters that change over the stage."""


class PlayerSpec(ModelSpec):
    """A further model of a recipe (critic, generator, peer), with an optimizer of its own if it learns."""

    optimizer: OptimizerSpec | None = None
    """Its optimizer; a player without one is not trained."""


class PeerSpec(Spec):
    """A model that learns in the same updates as the learner of a stage, with an optimizer of its own."""

    objective: dict[str, TermSpec] | None = None
    """What it learns from; the stage's objective where absent. `from` names a teacher, a member of the cohort, or `peers`."""
    optimizer: OptimizerSpec | None = None
    """Its optimizer; that of the model (`models.NAME.optimizer`), else the training's, where absent."""


class StageSpec(Spec):
    """A phase. What it does not say, it takes from the top of the recipe."""

    learner: str = "student"
    """Which model learns: `student`, `teacher` (or the name of one), or a name from `models`."""
    teacher: TeacherSpec | None = None
    """Another teacher for this stage; merged over the recipe's."""
    data: DataSpec | None = None
    """Merged over the recipe's."""
    objective: dict[str, TermSpec] | None = None
    """Merged over the recipe's; a label set to null is removed. A stage whose learner is no student has no inherited objective."""
    train: TrainSpec | None = None
    """Merged over the recipe's."""
    peers: dict[str, PeerSpec] | None = None
    """Models (of `models`, or teachers) that learn in the same updates: a mapping by name, or a list of names that share the stage's
    objective. Merged over the recipe's; a stage whose learner is no student has no inherited peers."""
    trainable: list[str] = Field(default_factory=list)
    """Patterns of parameter names of the learner that learn, such as `layer4.*`; all where empty."""
    start: str = "continue"
    """Whether the learner goes on from where it was (`continue`), starts anew from its initial weights (`fresh`), or from the weights that
    another model of the recipe has by then: `student`, `teacher`, or a name from `teachers` or `models`."""
    repeat: PositiveInt = 1
    """How many rounds the stage runs."""
    between: str | None = None
    """Action between two rounds, such as `refresh_teacher`."""


class Recipe(Spec):
    """A whole recipe."""

    about: About = About()
    """Title, reference and claim."""
    task: str
    """What kind of data and labels; `limbeck methods` lists the tasks."""
    seed: NonNegativeInt = 0
    """Seed of initial weights, order of the data, augmentation and dropout."""
    data: DataSpec
    """Where examples come from; a mapping, or just the source."""
    student: ModelSpec
    """The model that learns; a mapping, or just the reference."""
    teacher: TeacherSpec | None = None
    """The model that it learns from; a mapping, or just the reference."""
    teachers: dict[str, TeacherSpec] = Field(default_factory=dict)
    """Several teachers by name; a term picks one with `from`."""
    models: dict[str, PlayerSpec] = Field(default_factory=dict)
    """Further models, for steps with more than two players."""
    objective: dict[str, TermSpec] = Field(default_factory=dict)
    """Label to term."""
    train: TrainSpec = TrainSpec()
    """How it trains."""
    peers: dict[str, PeerSpec] = Field(default_factory=dict)
    """Models (of `models`, or teachers) that learn in the same updates as the student: a mapping by name, or a list of names that share
    its objective."""
    stages: dict[str, StageSpec] = Field(default_factory=dict)
    """Phases in order; without any there is one, named `distil`, that is the recipe itself."""
    baseline: bool = False
    """Also train the same student without any teacher, for comparison (`alone` in the report)."""
    evaluate: EvaluateSpec = EvaluateSpec()
    """What is asked of the models at the end, besides the task's own metrics."""
    track: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(default_factory=list)
    """Experiment trackers, besides metrics.jsonl."""
    study: StudySpec | None = None
    """Variants of the recipe over several seeds, for `limbeck study`; a mapping, or just the number of seeds."""

    def phases(self) -> dict[str, StageSpec]:
        """The stages by name; a recipe without any has one, `distil`, made of its top level."""
        if self.stages:
            return self.stages
        return {"distil": StageSpec(teacher=self.teacher, data=self.data, objective=self.objective, train=self.train, peers=self.peers)}
