"""Checks of a recipe that need no data and no model: names, references, and whether terms, teachers and stages fit together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ..data.mixing import MIXINGS
from ..data.selection import SELECTIONS
from ..errors import LimbeckError, UnknownName, did_you_mean
from ..registry import ACTIONS, ADAPTERS, STEPS, TARGETS, TASKS, TEACHERS, Registry
from ..taps.path import parse_tap
from ..types import LabelKind, Needs
from .arguments import check_model_arguments, check_part, check_source_arguments, check_teacher, check_transform
from .joint import check_joint, kind_of
from .marks import Node, Parts, Report, found
from .optimizers import check_optimizer
from .references import check_code, check_model, check_source
from .selection import check_selection
from .terms import Term, is_code

PEERS = "peers"
"""What a term listens to that listens to all peers."""
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
        stages = self.tree.mapping.get("stages")
        if stages is None or not stages.mapping:
            self.phase((), self.tree)
            return
        for name, stage in stages.mapping.items():
            path: Parts = ("stages", name)
            self.section(path)
            self.phase(path, stage)

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
            if PEERS in self.keys(section):
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
        if sum(shares.values()) >= 1:
            message = f"expected valid + test below 1, found {shares['valid']:g} + {shares['test']:g}: nothing is left to train on."
            self.report.at_key(self.tree, path, message)

    def select(self, prefix: Parts) -> None:
        """A selection names a manifest, or a method with its fields and an amount."""
        path: Parts = (*prefix, "data", "select")
        method = self.named((*path, "method"), SELECTIONS)
        if self.tree.get(*path) is not None:
            models = ["student", *self.keys("models"), *self.keys("teachers"), *(["teacher"] if "teacher" in self.tree.mapping else [])]
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

    def phase(self, path: Parts, node: Node) -> None:
        """A stage (or the recipe itself, where it has none): who learns, from whom, by what."""
        if not isinstance(node.value, dict):
            return
        if path and node.mapping.get("teacher") is not None:
            self.teacher((*path, "teacher"))
        learner = self.learner(path, node)
        self.named((*path, "between"), ACTIONS)
        if path and "data" not in node.mapping and "data" in self.tree.mapping:
            self.report.at_key(self.tree, path, "expected data in every stage, found `data: null`.")
        objective = node.mapping.get("objective")
        if learner is not None and (objective is None or objective.value is None or objective.value == {}):
            self.no_objective(path, learner)
        for term in self.terms_below((*path, "objective")):
            self.signals(term)
            self.origin(term, node, learner)
        for name in self.peers(node):
            self.peer((*path, "peers", name), name, node, learner)

    def terms_below(self, path: Parts) -> Iterator[Term]:
        """The terms of one objective."""
        return (term for own, term in self.terms.items() if own[:-1] == path)

    def learner(self, path: Parts, node: Node) -> str | None:
        """The name of the model that learns; None where there is no such model."""
        value = node.mapping.get("learner") if path else None
        if value is None or value.text is None:
            return "student"
        names = ["student", *self.teachers(node), *self.keys("models")]
        if value.text not in names:
            self.report.at_value(self.tree, (*path, "learner"), str(UnknownName("model of this recipe", value.text, names)))
            return None
        return value.text

    def peer(self, path: Parts, name: str, node: Node, learner: str | None) -> None:
        """A model that learns in the same updates: it is one of the recipe's, and listens to others than itself."""
        names = [other for other in [*self.keys("models"), *self.teachers(node)] if other != learner]
        if name not in names:
            hint = "`peers` are names under `models`, or teachers with a model of their own."
            text = (
                f"{name!r} is what this stage trains. {hint}" if name == learner else str(UnknownName("possible peer", name, names, hint))
            )
            self.report.at_key(self.tree, path, text)
            return
        if (optimizer := self.tree.get(*path, "optimizer")) is not None:
            check_optimizer(self.report, self.tree, (*path, "optimizer"), optimizer)
        own = self.tree.get(*path, "objective")
        if own is not None and own.value == {}:
            self.no_objective(path, name)
        for term in self.terms_below((*path, "objective")):
            self.signals(term)
            self.origin(term, node, name, [learner or "student", *self.peers(node)])
        shared = self.terms_below((*path[:-2], "objective")) if own is None or own.value is None else ()
        for term in shared:
            if self._listens_to(term) == name:
                text = f"{name!r} shares the objective of the stage, whose term {term.path[-1]!r} listens to {name!r} itself."
                self.report.at_key(self.tree, path, f"{text} Let the term listen to `peers`, or give {name!r} an `objective` of its own.")

    def peers(self, node: Node) -> list[str]:
        """The peers of a phase."""
        found = node.mapping.get("peers")
        return list(found.mapping) if found is not None else []

    def keys(self, section: str) -> list[str]:
        """The names in a section of named models."""
        node = self.tree.mapping.get(section)
        return list(node.mapping) if node is not None else []

    def teachers(self, node: Node) -> list[str]:
        """The teachers that a phase can ask."""
        own = node.mapping.get("teacher")
        return [*(["teacher"] if own is not None and own.value is not None else []), *self.keys("teachers")]

    def no_objective(self, path: Parts, learner: str) -> None:
        """A phase must say what it minimises."""
        example = "`objective: {labels: cross_entropy}`"
        inherited = "; only stages of the student inherit the recipe's" if path and learner != "student" else ""
        self.report.at_key(self.tree, (*path, "objective"), f"expected at least one term, such as {example}, found none{inherited}.")

    def signals(self, term: Term) -> None:
        """The loss fits the task, and the layers fit the loss."""
        if term.needs is None:
            return
        where = (*term.path, "loss")
        labels = kind_of(self.tree, term, self.labels)
        if labels is not None and labels not in term.needs.label_kinds:
            kinds = " or ".join(repr(kind) for kind in term.needs.label_kinds)
            self.report.at_value(
                self.tree, where, f"expected a loss for labels of kind {labels!r}, found {term.loss!r}, which is for {kinds}."
            )
        student, teacher = self.layers(term, "student"), self.layers(term, "teacher")
        if student is None or teacher is None:
            return
        if term.needs.features == "none":
            self.no_layers(term, {"student": student, "teacher": teacher})
        elif not student and (term.needs.features != "optional" or teacher):
            many = "layers" if term.needs.features == "many" else "the layer"
            self.report.at_value(
                self.tree, where, f"expected {many} that loss {term.loss!r} reads, found no `student:`. Add `student: LAYER`."
            )
        else:
            self.counts(term, student, teacher, term.needs)

    def no_layers(self, term: Term, sides: dict[str, list[str]]) -> None:
        """A loss on logits takes no layers and no adapter."""
        for side, layers in sides.items():
            if layers:
                message = f"loss {term.loss!r} reads logits and takes no layers, found {found(layers[0])}. Remove this key."
                self.report.at_key(self.tree, (*term.path, side), message)
        if term.node.mapping.get("adapter") is not None:
            self.report.at_key(
                self.tree, (*term.path, "adapter"), f"loss {term.loss!r} reads logits and takes no adapter. Remove this key."
            )

    def counts(self, term: Term, student: list[str], teacher: list[str], needs: Needs) -> None:
        """As many layers as the loss takes, and as many of the teacher as of the student."""
        if needs.features in ("one", "optional") and len(student) > 1:
            self.report.at_value(self.tree, (*term.path, "student"), f"expected one layer for loss {term.loss!r}, found {len(student)}.")
        if teacher and not needs.teacher:
            self.report.at_key(self.tree, (*term.path, "teacher"), f"loss {term.loss!r} asks no teacher. Remove this key.")
        elif teacher and len(teacher) != len(student):
            message = f"expected as many layers as `student` has ({len(student)}), found {len(teacher)}."
            self.report.at_value(self.tree, (*term.path, "teacher"), message)

    def layers(self, term: Term, side: str) -> list[str] | None:
        """The layers of one side; None where the value is no list of text."""
        node = term.node.mapping.get(side)
        if node is None or node.value is None:
            return []
        values = node.plain()
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            return None
        for position, value in enumerate(values):
            try:
                parse_tap(value)
            except LimbeckError as error:
                self.report.at_value(self.tree, (*term.path, side, position), str(error))
        return values

    def origin(self, term: Term, node: Node, learner: str | None, members: Sequence[str] = ()) -> None:
        """The teacher that a term asks exists and is not the learner itself.

        Args:
            term: the term.
            node: the phase.
            learner: who learns from the term.
            members: all who learn in the phase; the learner and its peers where it is empty.
        """
        given = term.node.mapping.get("from")
        name = self._listens_to(term)
        if name is None:
            return
        others = [member for member in members or self.peers(node) if member != learner]
        known = [*self.teachers(node), *(member for member in others if member not in self.teachers(node))]
        where = (*term.path, "from" if given is not None and given.text is not None else "loss")
        if name == PEERS and others:
            return
        if name == PEERS or (name in self.keys("models") and name not in known and name != learner):
            what = "peers" if name == PEERS else f"the peer {name!r}"
            example = "peers: [NAME]" if name == PEERS else f"peers: [{name}]"
            self.report.at_value(self.tree, where, f"expected {what} in this stage, found none. Add `{example}` beside `objective`.")
        elif not known:
            subject = f"loss {term.loss!r}" if term.loss else "this term"
            self.report.at_value(
                self.tree, where, f"expected a teacher for {subject}, found none. Add `teacher: {{model: ...}}` to the recipe."
            )
        elif name == learner:
            self.report.at_value(
                self.tree, where, f"expected a teacher other than the learner, found {name!r}, which is what this stage trains."
            )
        elif name not in known:
            self.report.at_value(self.tree, where, self._choose(name, [*known, *([PEERS] if others else [])]))

    def _listens_to(self, term: Term) -> str | None:
        """Whom a term asks; None where nobody, or where its value is no text."""
        given = term.node.mapping.get("from")
        if given is None or given.value is None:
            return "teacher" if term.needs is not None and term.needs.teacher else None
        return given.text

    def _choose(self, name: str, known: Iterable[str]) -> str:
        known = list(known)
        if name == "teacher":
            return f"expected `from` to say which teacher ({', '.join(known)}), found nothing."
        hint = did_you_mean(name, known) or f" Known: {', '.join(known)}."
        return f"no teacher is called {name!r}.{hint}"
