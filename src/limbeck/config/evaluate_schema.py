"""What is asked of the models at the end of a run, besides the task's own metrics."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..types import NonNegative, NonNegativeInt, PositiveInt
from .spec import Spec

Severity = Annotated[int, Field(ge=1, le=5)]


class FusedSpec(Spec):
    """A large model that is moved at every token as training has moved smaller ones; nothing is trained for it."""

    large: str = "teacher"
    """The model that is moved, by its name in the recipe."""
    experts: dict[str, str]
    """Smaller models, each with what it was before it learnt: `{student: small}`."""
    weight: NonNegative | None = None
    """Factor of the moves; 1 is proxy tuning. Where absent, it is chosen for every token, so that the large model moves as far as the
    smaller ones did."""
    aim: str | None = None
    """The model whose loss is the aim: `recovered` is then the share of the way from the large one to it."""


class EvaluateSpec(Spec):
    """What is asked of the models at the end, besides the task's own metrics: what takes longer, or needs to be told something."""

    generations: NonNegativeInt = 3
    """Language models that write: held-out prompts after which all models write, side by side in the report."""
    tokens: PositiveInt = 48
    """Tokens that a model writes at most; always the likeliest one."""
    answer: str | None = None
    """Regular expression that finds the answer in what is written, such as `#### (.+)`: its first group, at its last place. The metric
    `exact_match` is then the share of prompts whose answer is that of the reference."""
    prompts: PositiveInt = 100
    """Held-out prompts for `exact_match`, at most."""
    fused: dict[str, FusedSpec] = Field(default_factory=dict)
    """Models of the recipe that answer together, by a name of one's own; they are judged and write like the others."""
    corruptions: list[str] = Field(default_factory=list)
    """Corruptions of the test inputs under which the models are judged again: `true` for all that there are for the kind of data, or some
    of them. Images: `noise`, `shot`, `impulse`, `blur`, `pixelate`, `contrast`, `brightness`, `occlusion`; tables: `noise`, `missing`;
    classified texts: `typos`, `dropped_words`."""
    severities: list[Severity] = Field(default_factory=lambda: [1, 3, 5], min_length=1)
    """How strong the corruptions are, from 1 to 5."""
    groups: str | None = None
    """A column of the source (or another kind of groups that it knows) that says which group an example belongs to: the metrics of every
    group, and the gaps between them. A column of a table stays an input unless `data.args.drop` names it. Texts that are
    classified also have `length`: `short`, `middle` and `long`."""
    fidelity: bool = False
    """Judge the models on the training examples, too: how far the student follows its teacher there, and what it fails to generalise."""
    membership: bool = False
    """How well an attacker tells training from test examples by what a model says of them (membership inference)."""
    canaries: list[str] = Field(default_factory=list)
    """Causal language models: texts that stand in the training data, the secret in braces, such as `my pin is {4821}`. How exposed they
    are: how few other fillings of the braces a model finds more probable. Those that `data.canaries` plants are asked about anyway."""
    fills: Annotated[int, Field(ge=2)] = 1000
    """Fillings that a canary is compared with; digits stand for digits, letters for letters."""
    cost: list[PositiveInt] = Field(default_factory=list)
    """Sizes of a batch for which latency percentiles, throughput, peak memory and energy are measured; `true` for `[1, 64]`."""
    first_token: PositiveInt | None = None
    """Language models that write: tokens of a prompt after which the time to the first token (`first_token_ms`) and that of each further
    one (`next_token_ms`) are measured, one prompt at a time."""
    kernel: Annotated[int, Field(ge=2)] | None = None
    """Images and tables: so many training examples on which the neural tangent kernel of every model is computed: `kernel_alignment` with
    the labels; of `lazy` models also `kernel_movement`, how far it is from what it was at first."""
    layers: bool = False
    """Linear CKA between all blocks of student and teacher, not only between the layers that were compared in training."""
