"""Checks of a stage that need no data and no model: who learns, from whom, and whether losses, labels and layers fit together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..errors import LimbeckError, UnknownName, did_you_mean
from ..taps.path import parse_tap
from ..types import LabelKind, Needs
from .joint import kind_of
from .marks import Node, Parts, Report, found
from .optimizers import check_optimizer
from .terms import Term

PEERS = "peers"
"""What a term listens to that listens to all other members of its stage."""


STARTS = ("continue", "fresh")
"""Where a stage may begin besides at another model."""


def keys_of(tree: Node, section: str) -> list[str]:
    """The names in a section of named models."""
    node = tree.mapping.get(section)
    return list(node.mapping) if node is not None else []


class Stages:
    """Whether who learns, from whom and by what fit together."""

    def __init__(self, tree: Node, report: Report, terms: dict[Parts, Term], labels: LabelKind | None) -> None:
        self.tree, self.report, self.terms = tree, report, terms
        self.labels: LabelKind | None = labels

    def phase(self, path: Parts, node: Node) -> None:
        """A stage (or the recipe itself, where it has none): who learns, from whom, by what."""
        if not isinstance(node.value, dict):
            return
        learner = self.learner(path, node)
        self.start(path, node, learner)
        if path and "data" not in node.mapping and "data" in self.tree.mapping:
            self.report.at_key(self.tree, path, "expected data in every stage, found `data: null`.")
        objective = node.mapping.get("objective")
        if learner is not None and (objective is None or objective.value is None or objective.value == {}):
            self.no_objective(path, learner)
        for term in self.terms_below((*path, "objective")):
            self.signals(term)
            self.origin(term, node, learner)
            self.alike(term, node)
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
        names = ["student", *self.teachers(node), *keys_of(self.tree, "models")]
        if value.text not in names:
            self.report.at_value(self.tree, (*path, "learner"), str(UnknownName("model of this recipe", value.text, names)))
            return None
        return value.text

    def start(self, path: Parts, node: Node, learner: str | None) -> None:
        """A stage begins where its learner was, anew, or as another model of the recipe."""
        value = node.mapping.get("start") if path else None
        if value is None or value.text is None or value.text in STARTS:
            return
        names = [name for name in ["student", *self.teachers(node), *keys_of(self.tree, "models")] if name != learner]
        if value.text == learner:
            text = f"expected another model than the learner, found {learner!r}; `continue` goes on from where it was."
            self.report.at_value(self.tree, (*path, "start"), text)
        elif value.text not in names:
            hint = "`start` is `continue`, `fresh`, or the model whose weights the learner begins with."
            self.report.at_value(self.tree, (*path, "start"), str(UnknownName("model of this recipe", value.text, [*STARTS, *names], hint)))

    def peer(self, path: Parts, name: str, node: Node, learner: str | None) -> None:
        """A model that learns in the same updates: it is one of the recipe's, and listens to others than itself."""
        names = [other for other in [*keys_of(self.tree, "models"), *self.teachers(node)] if other != learner]
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
            self.alike(term, node)
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

    def teachers(self, node: Node) -> list[str]:
        """The teachers that a phase can ask."""
        own = node.mapping.get("teacher")
        return [*(["teacher"] if own is not None and own.value is not None else []), *keys_of(self.tree, "teachers")]

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
        if labels is not None and not term.needs.fits(labels):
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
        if name == PEERS or (name in keys_of(self.tree, "models") and name not in known and name != learner):
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

    def alike(self, term: Term, node: Node) -> None:
        """The models that a weight is tied to are those of the recipe."""
        weight = term.node.mapping.get("weight")
        names = weight.mapping.get("alike") if weight is not None else None
        known = ["student", *self.teachers(node), *keys_of(self.tree, "models")]
        for position, name in enumerate(names.value if names is not None and isinstance(names.value, list) else ()):
            if name.text is not None and name.text not in known:
                where = (*term.path, "weight", "alike", position)
                self.report.at_value(self.tree, where, str(UnknownName("model of this recipe", name.text, known)))

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
