"""The grammar of `train`: optimizer, learning rate, averaging, and when to stop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ..types import Fraction, NonNegative, NonNegativeInt, Positive, PositiveInt
from .spec import Spec


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
