"""Checks the arguments of data sources, transforms and built-in models against what these declare."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

from pydantic import ValidationError

from ..data.arguments import describe_type
from ..data.sources import SOURCES
from ..data.transforms import TRANSFORMS
from ..data.transforms._parse import check_transforms
from ..errors import LimbeckError, UnknownName
from ..registry import TEACHERS, Registry
from .marks import Node, Parts, Report, found
from .messages import explain, unknown_key
from .model_schema import TeacherSpec
from .references import BUILT_IN_MODELS, check_code
from .terms import MISSING, adapter_of, default_of, hyper_parameters


def check_arguments(report: Report, tree: Node, path: Parts, known: Mapping[str, Any], place: str, required: Iterable[str] = ()) -> None:
    """Checks a mapping of arguments.

    Args:
        report: receives the problems.
        tree: the recipe.
        path: of the mapping, which may be absent.
        known: name to type of every argument.
        place: what takes them, for messages.
        required: the arguments without a default.
    """
    node = tree.get(*path)
    if node is not None and node.value is not None and not isinstance(node.value, dict):
        return  # the recipe's own validation says it
    given = node.mapping if node is not None else {}
    for key, value in given.items():
        if key in known:
            check_argument(report, tree, (*path, key), value.plain(), known[key])
        else:
            report.at_key(tree, (*path, key), unknown_key(key, value.plain(), place, known))
    for key in required:
        if key not in given:
            report.at_key(tree, path, f"expected the argument {key!r} of {place}, found nothing.")


def check_argument(report: Report, tree: Node, path: Parts, value: Any, hint: Any) -> None:
    """Checks one value against a type with bounds; where the type has several forms, all are named."""
    try:
        adapter_of(hint).validate_json(json.dumps(value))
    except ValidationError as error:
        details = error.errors(include_url=False)
        forms = len(details) > 1 or any(part for part in details[0]["loc"])
        message = f"expected {describe_type(hint)}, found {found(value)}." if forms else explain(details[0])
        report.at_value(tree, path, message)


def fields_of(
    report: Report, tree: Node, path: Parts, registry: Registry, name: str, *, allow_code: bool
) -> tuple[type[Any], dict[str, tuple[Any, Any]]] | None:
    """A part and its hyper-parameters; None, with a problem at `path`, where it cannot be used."""
    try:
        cls = registry.get(name, allow_code=allow_code)
        return cls, hyper_parameters(cls)
    except (LimbeckError, NameError, ImportError) as error:
        report.at_value(tree, path, f"the {registry.kind} {name!r} cannot be used: {error}")
        return None


def check_fields(
    report: Report, tree: Node, path: Parts, parameters: Mapping[str, tuple[Any, Any]], own: Iterable[str], place: str
) -> None:
    """The keys of a mapping are those that every one of its kind has, or fields of the part that it names.

    Args:
        report: receives the problems.
        tree: the recipe.
        path: of the mapping.
        parameters: of the part.
        own: the keys that all have, which the recipe's own validation checks.
        place: what takes them, for messages.
    """
    node, own = tree.get(*path), list(own)
    for key, value in node.mapping.items() if node is not None else ():
        if key in parameters:
            check_argument(report, tree, (*path, key), value.plain(), parameters[key][1])
        elif key not in own:
            report.at_key(tree, (*path, key), unknown_key(key, value.plain(), place, [*parameters, *own]))


def check_source_arguments(report: Report, tree: Node, path: Parts) -> None:
    """Checks `data.args` of a built-in source; `path` is that of `data`."""
    source = tree.get(*path, "source")
    name = (source.text or "").partition(":")[0] if source is not None else ""
    if name not in SOURCES.names():
        return
    try:
        parameters = hyper_parameters(SOURCES.get(name))
    except (LimbeckError, NameError, ImportError) as error:
        report.at_value(tree, (*path, "source"), f"the data source {name!r} cannot be used: {error}")
        return
    known = {key: hint for key, (_, hint) in parameters.items()}
    required = [key for key, (field, _) in parameters.items() if default_of(field) is MISSING]
    check_arguments(report, tree, (*path, "args"), known, f"data source {name!r}", required)


def check_transform(report: Report, tree: Node, path: Parts, entry: Node) -> str | None:
    """Checks one entry of `data.transforms`; returns the local code that it names."""
    if isinstance(entry.value, dict) and len(entry.value) != 1:
        message = f"expected one transform with its arguments, such as `crop: {{padding: 4}}`, found {len(entry.value)} keys."
        report.at_value(tree, path, message)
        return None
    name = entry.text if entry.text is not None else next(iter(entry.mapping), None)
    if name is None:
        return None
    where = path if entry.text is not None else (*path, name)
    if name.startswith("tv:"):
        for _, message in check_transforms([entry.plain()]):
            report.at_key(tree, where, message)
    elif ":" in name:
        return name if check_code(report, tree, path, name, ("tv",)) else None
    elif name not in TRANSFORMS.names():
        hint = "Those of torchvision are written tv:ClassName."
        report.at_key(tree, where, str(UnknownName("transform", name, TRANSFORMS.names(), hint)))
    elif entry.text is None:
        _transform_arguments(report, tree, where, entry.mapping[name], name)
    return None


def _transform_arguments(report: Report, tree: Node, path: Parts, value: Node, name: str) -> None:
    known = {key: hint for key, (_, hint) in hyper_parameters(TRANSFORMS.get(name)).items()}
    if isinstance(value.value, dict):
        check_arguments(report, tree, path, known, f"transform {name!r}")
    elif value.value is not None and known:
        check_argument(report, tree, path, value.plain(), next(iter(known.values())))
    elif value.value is not None:
        report.at_value(tree, path, f"expected no arguments of transform {name!r}, found {found(value.plain())}.")


def check_part(report: Report, tree: Node, path: Parts, registry: Registry, key: str, *, allow_code: bool) -> None:
    """Checks the mapping of a part against its fields.

    Args:
        report: receives the problems.
        tree: the recipe.
        path: of the mapping.
        registry: the kind of part.
        key: the key of the mapping that names the part.
        allow_code: whether local code may be imported for its fields.
    """
    node = tree.get(*path, key)
    name = node.text or "" if node is not None else ""
    part = fields_of(report, tree, (*path, key), registry, name, allow_code=allow_code)
    if part is None:
        return
    parameters = part[1]
    known = {key: str, **{field: hint for field, (_, hint) in parameters.items()}}
    required = [field for field, (about, _) in parameters.items() if default_of(about) is MISSING]
    check_arguments(report, tree, path, known, f"{registry.kind} {name!r}", required)


def check_teacher(report: Report, tree: Node, path: Parts, kind: str, *, allow_code: bool) -> None:
    """Checks what a kind of teacher adds to the keys of every teacher, and that it has a model where it needs one.

    Args:
        report: receives the problems.
        tree: the recipe.
        path: of the teacher.
        kind: name of the kind.
        allow_code: whether local code may be imported for its fields.
    """
    node = tree.get(*path)
    if node is None or not isinstance(node.value, dict):
        return  # the recipe's own validation says it
    part = fields_of(report, tree, (*path, "kind"), TEACHERS, kind, allow_code=allow_code)
    if part is None:
        return
    cls, parameters = part
    check_fields(report, tree, path, parameters, TeacherSpec.model_fields, f"a teacher of kind {kind!r}")
    for key, (about, _) in parameters.items():
        if key not in node.mapping and default_of(about) is MISSING:
            report.at_key(tree, path, f"expected the key {key!r} in a teacher of kind {kind!r}, found nothing.")
    if cls.source == "members" and "view" in node.mapping:
        report.at_key(tree, (*path, "view"), f"a teacher of kind {kind!r} sees what its members see. Give `view` to them.")
    if cls.source == "own" and "model" not in node.mapping:
        report.at_key(tree, path, f"expected the key 'model' in a teacher of kind {kind!r}, found nothing.")


def check_model_arguments(report: Report, tree: Node, path: Parts) -> None:
    """Checks `args` of a built-in model; those of libraries are checked when the model is built."""
    model = tree.get(*path, "model")
    if model is None or model.text is None or model.text not in BUILT_IN_MODELS.names():
        return
    cls = BUILT_IN_MODELS.get(model.text)
    hints = get_type_hints(cls.__init__)
    known = {key: hints.get(key, Any) for key in inspect.signature(cls).parameters}
    check_arguments(report, tree, (*path, "args"), known, f"model {model.text!r}")
