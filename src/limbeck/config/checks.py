"""Checks of a recipe that need no data and no model: names, references, and whether terms, teachers and stages fit together."""

from __future__ import annotations

import re

from ..data.mixing import MIXINGS
from ..data.selection import SELECTIONS
from ..errors import LimbeckError, UnknownName
from ..registry import ACTIONS, ADAPTERS, STEPS, TARGETS, TASKS, TEACHERS, Registry
from ..types import LabelKind
from .arguments import check_model_arguments, check_part, check_source_arguments, check_teacher, check_transform
from .data_schema import SplitSpec
from .joint import check_joint
from .marks import Node, Parts, Report, found
from .optimizers import check_optimizer
from .references import check_code, check_model, check_source
from .rollouts import check_rollouts
from .selection import check_selection
from .stages import PEERS, Stages, keys_of
from .terms import Term, is_code

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class Checker:
    """Walks a composed recipe once.

    Attributes:
        code: local code that the recipe names, in order.
    """

    def __init__(self, tree: Node, report: Report, terms: dict[Parts, Term], *, allow_code: bool) -> None:
        self.tree, self.report, self.terms, self.allow_code = tree, report, terms, allow_code
        self.code: list[str] = []
        self.labels: LabelKind | None = None

    def run(self) -> None:
        """All checks."""
        self.names_of_labels()
        self.task()
        self.models()
        for reference in check_joint(self.report, self.tree, self.terms, self.labels):
            self.add_code(reference)
        self.section(())
        for term in self.terms.values():
            self.term_names(term)
        checks = Stages(self.tree, self.report, self.terms, self.labels)
        stages = self.tree.mapping.get("stages")
        if stages is None or not stages.mapping:
            checks.phase((), self.tree)
            return
        for name, stage in stages.mapping.items():
            path: Parts = ("stages", name)
            self.section(path)
            if stage.mapping.get("teacher") is not None:
                self.teacher((*path, "teacher"))
            self.named((*path, "between"), ACTIONS)
            checks.phase(path, stage)

    def named(self, path: Parts, registry: Registry, *extra: str) -> str | None:
        """Checks a value that names a registered part or local code; returns it where it is good."""
        node = self.tree.get(*path)
        if node is None or node.text is None:
            return None
        if is_code(node.text):
            good = check_code(self.report, self.tree, path, node.text, ())
            self.add_code(node.text if good else None)
            return node.text if good else None
        try:
            names = [*extra, *registry.names()]
        except LimbeckError as error:
            self.report.at_value(self.tree, path, str(error))
            return None
        if node.text in names:
            return node.text
        self.report.at_value(self.tree, path, str(UnknownName(registry.kind, node.text, names)))
        return None

    def add_code(self, reference: str | None) -> None:
        """Remembers local code."""
        if reference is not None and reference not in self.code:
            self.code.append(reference)

    def names_of_labels(self) -> None:
        """Names that users choose appear in `--set` paths and in logs, so they hold no dots or spaces."""
        for section in ("objective", "teachers", "models", "stages"):
            node = self.tree.mapping.get(section)
            for name in node.mapping if node is not None else ():
                if not _LABEL.fullmatch(name):
                    message = f"expected a name of letters, digits, '_' and '-' that begins with a letter, found {found(name)}."
                    self.report.at_key(self.tree, (section, name), message)

    def task(self) -> None:
        """The task, and the kind of labels that it works on."""
        name = self.named(("task",), TASKS)
        if name is None or (is_code(name) and not self.allow_code):
            return
        try:
            self.labels = TASKS.get(name, allow_code=self.allow_code).labels
        except LimbeckError as error:
            self.report.at_value(self.tree, ("task",), str(error))

    def models(self) -> None:
        """Every model of the top level."""
        self.model(("student",))
        self.teacher(("teacher",))
        for section, check in (("teachers", self.teacher), ("models", self.model)):
            for name in self.tree.mapping[section].mapping if section in self.tree.mapping else ():
                check((section, name))
        teachers = self.tree.mapping.get("teachers")
        for name in ("student", "teacher"):
            if teachers is not None and name in teachers.mapping:
                self.report.at_key(self.tree, ("teachers", name), f"expected a name other than 'student' and 'teacher', found {name!r}.")
        for section in ("teachers", "models"):
            if PEERS in keys_of(self.tree, section):
                self.report.at_key(
                    self.tree, (section, PEERS), "expected a name other than 'peers', which stands for all peers of a stage."
                )

    def model(self, path: Parts) -> None:
        """A model reference, its weights, and the optimizer of a further player."""
        node = self.tree.get(*path)
        if node is None:
            return
        self.add_code(check_model(self.report, self.tree, path, node))
        check_model_arguments(self.report, self.tree, path)
        self.view((*path, "view"))
        if (optimizer := node.get("optimizer")) is not None:
            check_optimizer(self.report, self.tree, (*path, "optimizer"), optimizer)

    def view(self, path: Parts) -> None:
        """A view that a model looks at is one of the data's, in its own stage or at the top."""
        node = self.tree.get(*path)
        if node is None or node.text is None:
            return
        own = self.tree.get(*path[:2], "data", "views") if path[0] == "stages" else None
        views = own or self.tree.get("data", "views")
        names = [name for name, value in (views.mapping if views is not None else {}).items() if value.value is not None]
        if node.text not in names:
            hint = "" if names else "Name it under data.views, such as `views: {clean: {}}`."
            self.report.at_value(self.tree, path, str(UnknownName("view of the data", node.text, names, hint)))

    def teacher(self, path: Parts) -> None:
        """A teacher: a model of a registered kind, with the fields of the kind."""
        if self.tree.get(*path) is None:
            return
        self.model(path)
        kind = self.named((*path, "kind"), TEACHERS)
        kind = "frozen" if self.tree.get(*path, "kind") is None else kind
        if kind is not None and (not is_code(kind) or self.allow_code):
            check_teacher(self.report, self.tree, path, kind, allow_code=self.allow_code)

    def section(self, prefix: Parts) -> None:
        """Data and training, of the top or of a stage."""
        source = self.tree.get(*prefix, "data", "source")
        if source is not None:
            self.add_code(check_source(self.report, self.tree, (*prefix, "data", "source"), source))
            check_source_arguments(self.report, self.tree, (*prefix, "data"))
        pool = self.tree.get(*prefix, "data", "pool", "source")
        if pool is not None:
            self.add_code(check_source(self.report, self.tree, (*prefix, "data", "pool", "source"), pool))
            check_source_arguments(self.report, self.tree, (*prefix, "data", "pool"))
        self.split(prefix)
        self.select(prefix)
        self.transforms((*prefix, "data", "transforms"))
        self.transforms((*prefix, "data", "test_transforms"))
        views = self.tree.get(*prefix, "data", "views")
        for name in views.mapping if views is not None else ():
            if not _LABEL.fullmatch(name):
                message = f"expected a name of letters, digits, '_' and '-' that begins with a letter, found {found(name)}."
                self.report.at_key(self.tree, (*prefix, "data", "views", name), message)
            self.transforms((*prefix, "data", "views", name, "transforms"))
        self.part((*prefix, "data", "mix"), MIXINGS, "kind")
        self.named((*prefix, "train", "step"), STEPS)
        optimizer = self.tree.get(*prefix, "train", "optimizer")
        if optimizer is not None:
            check_optimizer(self.report, self.tree, (*prefix, "train", "optimizer"), optimizer)

    def split(self, prefix: Parts) -> None:
        """The held-out shares leave something to train on."""
        path: Parts = (*prefix, "data", "split")
        shares = {"valid": 0.15, "test": 0.2}
        for name in shares:
            node = self.tree.get(*path, name)
            if node is not None:
                if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
                    return
                shares[name] = node.value
        folds, fold = (self.tree.get(*path, name) for name in ("folds", "fold"))
        if folds is not None and type(folds.value) is int and folds.value > 1:
            shares["test"] = 1 / folds.value
            if fold is not None and type(fold.value) is int and fold.value > folds.value:
                self.report.at_value(self.tree, (*path, "fold"), f"expected a number from 1 to {folds.value}, found {fold.value}.")
            test = self.tree.get(*path, "test")
            if test is not None and test.value != SplitSpec().test:  # a resolved recipe holds every default
                self.report.at_key(self.tree, (*path, "test"), "expected either `test` or `folds`, found both; leave `test` out.")
        elif fold is not None and folds is None and fold.value != SplitSpec().fold:
            self.report.at_key(self.tree, (*path, "fold"), "expected `folds` beside `fold`, such as folds: 5.")
        if sum(shares.values()) >= 1:
            message = f"expected valid + test below 1, found {shares['valid']:g} + {shares['test']:g}: nothing is left to train on."
            self.report.at_key(self.tree, path, message)

    def select(self, prefix: Parts) -> None:
        """A selection names a manifest, or a method with its fields and an amount; replies are written by a model of the recipe."""
        path: Parts = (*prefix, "data", "select")
        method = self.named((*path, "method"), SELECTIONS)
        own = self.tree.get("teacher")
        teacher = ["teacher"] if own is not None and own.value is not None else []
        models = ["student", *keys_of(self.tree, "models"), *keys_of(self.tree, "teachers"), *teacher]
        check_rollouts(self.report, self.tree, prefix, models, allow_code=self.allow_code)
        if self.tree.get(*path) is not None:
            check_selection(self.report, self.tree, path, method, models, allow_code=self.allow_code)

    def transforms(self, path: Parts) -> None:
        """Each entry is a name, or a name with its arguments."""
        node = self.tree.get(*path)
        for position, entry in enumerate(node.value if node is not None and isinstance(node.value, list) else ()):
            self.add_code(check_transform(self.report, self.tree, (*path, position), entry))

    def term_names(self, term: Term) -> None:
        """Local code of a term, its adapter and its targets."""
        if term.loss is not None and is_code(term.loss) and term.cls is None:
            self.add_code(term.loss if check_code(self.report, self.tree, (*term.path, "loss"), term.loss, ()) else None)
        elif term.loss is not None and is_code(term.loss):
            self.add_code(term.loss)
        self.part((*term.path, "adapter"), ADAPTERS, "kind", "auto", "none")
        targets = term.node.mapping.get("targets")
        for position in range(len(targets.value) if targets is not None and isinstance(targets.value, list) else 0):
            self.part((*term.path, "targets", position), TARGETS, "name")

    def part(self, path: Parts, registry: Registry, key: str, *words: str) -> None:
        """A mapping that names a part (or one of the words) under a key and holds its fields beside it."""
        name = self.named((*path, key), registry, *words)
        if name is not None and name not in words and (not is_code(name) or self.allow_code):
            check_part(self.report, self.tree, path, registry, key, allow_code=self.allow_code)
