"""The grammar of a recipe, as typed and frozen models; with the files beside it, the one statement of every key, default and bound."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..types import NonNegativeInt, PositiveInt
from .data_schema import DataSpec
from .evaluate_schema import EvaluateSpec
from .model_schema import ModelSpec, TeacherSpec
from .spec import Spec
from .study_schema import StudySpec
from .term_schema import TermSpec
from .train_schema import OptimizerSpec, TrainSpec


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
