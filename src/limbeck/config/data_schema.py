"""The grammar of `data`: where examples come from, how they are cut, and the views of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from ..types import Fraction, NonNegativeInt, PositiveInt
from .rollout_schema import RolloutSpec
from .spec import TAGS, Spec, form

Transform = Annotated[Annotated[dict[str, Any], Tag(TAGS[0])] | Annotated[str, Tag(TAGS[1])], Discriminator(form)]


class SplitSpec(Spec):
    """How a source without splits of its own is cut. Fractions of all examples, stratified by class."""

    valid: Fraction = 0.15
    """Share held out to pick checkpoints."""
    test: Fraction = 0.2
    """Share that is only read at the end."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Cross-validation: the examples are divided into so many parts, of which one is the test part; instead of `test`."""
    fold: PositiveInt = 1
    """Which of them, from 1."""
    seed: NonNegativeInt = 0
    """Seed of the cut; kept apart from the seed of the training."""
    group: str | None = None
    """Examples that agree in this are kept in one part: a column of a table, `block` of `sklearn:digits`. Not stratified by class then."""


class ViewSpec(Spec):
    """A further view of every example, made from the same row of the source; a mapping, or just the list of transforms.

    Of texts it is another prompt of the same reply, of which every model predicts the same tokens."""

    transforms: list[Transform] = Field(default_factory=list)
    """Its training-time augmentation, in order; none where absent, whatever `data.transforms` says."""
    size: PositiveInt | None = None
    """Images are resized to this height and width; `data.size` where absent."""
    columns: list[str] = Field(default_factory=list)
    """Tables: only these columns of the source, in this order; all where absent."""
    array: str | None = None
    """Another array of an `npz:` source, with a row for every example: another modality."""
    draws: Literal["own", "shared"] = "own"
    """Random numbers of its own, or those of `data.transforms`, so that the same list of transforms does the same."""
    prompt: str | None = None
    """Language models: what stands in the place of the prompt, with columns in braces: `"{question} Hint: {answer}"`; of a chat, in the
    place of what the user says last. The prompt itself where absent."""
    task: Literal["causal_lm", "seq2seq_lm"] | None = None
    """Language models: how it is read, by a decoder alone or by an encoder-decoder; as the task says where absent."""
    max_length: PositiveInt | None = None
    """Language models: most tokens; longer prompts lose their beginning. `data.max_length` where absent, twice that where a decoder reads
    in one what an encoder-decoder reads in two."""


class MixSpec(Spec):
    """Mixing of inputs; further keys are fields of its kind."""

    model_config = ConfigDict(extra="allow")

    kind: str
    """A registered mixing (`mixup`, `cutmix`, `selfmix`, `switch`), or `module:Class`."""


class PoolSpec(Spec):
    """A second source, whose examples are added to the training data without labels; a mapping, or just the source."""

    source: str
    """As `data.source`; its training part is used."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the source."""
    limit: PositiveInt | None = None
    """Use at most so many of its examples, at random."""


class DatasetSpec(Spec):
    """One of several data sets that are learnt together (`task: joint`)."""

    source: str
    """As `data.source`; its inputs have the shape of those of the others."""
    labels: Literal["class", "multilabel", "real"]
    """What its labels mean."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the source."""


class SelectSpec(Spec):
    """Which training examples are kept; a mapping, or just the manifest. Further keys are fields of the method."""

    model_config = ConfigDict(extra="allow")

    manifest: str | None = None
    """File that `limbeck select` has written."""
    method: str | None = None
    """How to choose when the stage begins, instead of a manifest; what was chosen is written into the run's folder."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the candidates that is kept."""
    top: PositiveInt | None = None
    """Number of candidates that are kept; of each class, for a method that chooses by class."""
    among: Literal["all", "unlabelled", "pool"] = "all"
    """Who the candidates are; all others are kept."""
    teacher: str = "teacher"
    """Which teacher (or other model of the recipe) is asked about the candidates."""
    epochs: PositiveInt | None = None
    """Ask, instead of a teacher, a model like the student trained for so many epochs on the candidates that have a label."""
    apart: NonNegativeInt | None = None
    """Leave out candidates that repeat a held-out example: images whose hashes differ in at most so many of 64 bits, other equal inputs."""


class CanarySpec(Spec):
    """Sentences with random digits, planted in the training texts."""

    text: Annotated[str, Field(pattern="#")]
    """The sentence, with a `#` for every random digit, such as `my pin is ####`."""
    count: PositiveInt = 10
    """How many different ones."""
    repeats: PositiveInt = 10
    """How often each is planted, as a line at random places of random texts."""
    fills: PositiveInt = 255
    """Random other digits that each is compared with; `exposure` is at most the binary logarithm of this and one."""


class DataSpec(Spec):
    """Where examples come from."""

    source: str
    """`sklearn:`, `torchvision:`, `folder:`, `idx:`, `npz:`, `csv:`, `jsonl:`, `parquet:`, `text:`, `squad:`, `python:`, `hf:` or
    `module:callable`.
    `joint`, which need not be written, where there are `datasets`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the source, such as `{target: species}` for a CSV file."""
    datasets: dict[str, DatasetSpec] = Field(default_factory=dict)
    """Instead of `source`, for `task: joint`: several data sets by name, each with its own kind of labels."""
    only: list[str] = Field(default_factory=list)
    """Of several data sets, train and validate on these only, by name; all where empty. The outputs and the test part stay those of all."""
    split: SplitSpec = SplitSpec()
    """How a source without splits of its own is cut."""
    label_fraction: Fraction = 1.0
    """Share of the training examples that keep their label, stratified; the rest stay as unlabelled."""
    wrong: Fraction = 0.0
    """Classes: how likely it is that the label of a training example is another class's, to see what a method makes of it. Validation and
    test labels stay right."""
    classes: list[str | int] = Field(default_factory=list)
    """Train and validate on these classes only, by name; all where empty. The outputs and the test part stay those of all classes."""
    unlabelled: bool = True
    """Keep the unlabelled examples in training; `false` drops them."""
    limit: PositiveInt | None = None
    """Use at most so many training examples."""
    size: PositiveInt | None = None
    """Images are resized to this height and width."""
    transforms: list[Transform] = Field(default_factory=list)
    """Training-time augmentation by name, in order, such as `[flip, {crop: {padding: 4}}]`."""
    views: dict[str, ViewSpec] = Field(default_factory=dict)
    """Further views of every example by name; a model looks at one with its key `view`. `clean: {}` is the example without augmentation."""
    crops: PositiveInt = 1
    """Augmentations of each example in an update (the crops per image of FKD); `train.batch_size` counts all of them."""
    mix: MixSpec | None = None
    """Mixing of the inputs of an update, and of labels and stored answers with them; a mapping, or just the kind: `mix: cutmix`."""
    pool: PoolSpec | None = None
    """A second source without labels, added to the training data; a mapping, or just the source."""
    select: SelectSpec | None = None
    """Which training examples are kept; a mapping, or just the manifest. All where absent."""
    test_transforms: list[Transform] = Field(default_factory=list)
    """What is done to the test examples, the same way every time, to judge models under a shift of the data."""
    tokenizer: str | None = None
    """Text: tokenizer by hub id or local folder; `characters` of the training text; a `.bin` of llama2.c; else the student's own."""
    max_length: PositiveInt = 128
    """Text: longest sequence, in tokens. Longer texts of language models are read in windows, longer prompts and chats are cut."""
    columns: dict[str, str | list[str]] = Field(default_factory=dict)
    """Language models: which column holds what, such as `{prompt: question, completion: answer}`; usual names are found by themselves."""
    train_on: Literal["completion", "all"] | None = None
    """Language models, of prompts and chats: train the answers only (so where absent), or every token."""
    pack: bool = False
    """Causal language models: as many documents in a row as fit; none sees another."""
    padding: Literal["left", "right"] | None = None
    """Language models: where short rows are filled; the tokenizer's side where absent."""
    stride: NonNegativeInt = 0
    """Language models: tokens that a window of a long text repeats of the one before it, as context; none is trained twice."""
    end: bool = True
    """Language models: documents end with the tokenizer's end token, which is trained."""
    separator: str = ""
    """Language models: text between prompt and completion, such as `"\n"`; it belongs to the prompt."""
    cut: Literal["end", "prompt"] = "end"
    """Causal language models, prompts with completions that are too long: cut the end, or the beginning of the prompt."""
    chat_template: str | None = None
    """Language models: file with a chat template (Jinja); the tokenizer's own where absent."""
    mask: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Masked language models: share of the tokens that is to be predicted."""
    scrambled: Fraction = 0.0
    """Language models: share of the training texts (or completions) whose characters are put in random order: noise, to see what a method
    makes of it."""
    domain: str | None = None
    """Causal language models: the column that names the domain of each text, for `train.mixture`; results are told for each domain."""
    private: str | None = None
    """Causal language models: regular expression of what is private in a text, such as `[0-9]{4}`; losses and targets may read it."""
    rollouts: RolloutSpec | None = None
    """Language models that write: a model of the recipe writes replies for the training questions when the stage begins; they are verified
    against the data's own, and the stage trains on them. A mapping, or just the file of an earlier run."""
    canaries: CanarySpec | None = None
    """Causal language models: sentences planted in the training texts; the metric `exposure` says how far each model knows them."""
    decoder_start: str | None = None
    """Encoder-decoders: the token that the decoder begins with; the padding token, or the end token of tokenizers that have a `<s>`."""
