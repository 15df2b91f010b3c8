"""The grammar of a recipe as JSON Schema, for completion, help and checks in editors.

It describes what users write: the short forms, terms by their loss, `extends`. Because a recipe may leave to its base what
it does not say itself, only a recipe without `extends` must have the keys that the grammar requires.
"""

from __future__ import annotations

from dataclasses import MISSING
from typing import Any

from pydantic import PydanticUserError, TypeAdapter

from ..data.mixing import MIXINGS
from ..describe import describe
from ..errors import LimbeckError
from ..registry import ACTIONS, ADAPTERS, LOSSES, STEPS, TARGETS, TASKS, TEACHERS, Registry
from .messages import fields
from .optimizers import optimizers
from .references import BUILT_IN_MODELS
from .schema import Recipe
from .term_schema import Schedule, TermSpec
from .terms import RESERVED, adapter_of, default_of, hyper_parameters

Json = dict[str, Any]

_CODE = {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", "description": "Code of your own, as module:Class."}
_REFERENCE = "#/$defs/"


def recipe_schema() -> Json:
    """The JSON Schema (draft 2020-12) of a recipe, with every installed loss, task, teacher, step, action, adapter and target."""
    schema = Recipe.model_json_schema(by_alias=True)
    definitions: Json = schema["$defs"]
    definitions["Schedule"] = TypeAdapter(Schedule).json_schema()
    for definition in [schema, *definitions.values()]:
        definition.pop("required", None)
        definition.pop("title", None)
        for value in definition.get("properties", {}).values():
            value.pop("title", None)
    del definitions["TermSpec"]
    definitions["Term"] = _term()
    for name in _losses():
        definitions[f"Loss-{name}"] = _loss(name)
    _names(schema, definitions)
    _shorthands(schema, definitions)
    _nullable([schema, *definitions.values(), definitions["Term"]["anyOf"][-1]])
    schema["properties"]["extends"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "Recipe(s) that this one builds on, relative to it; mappings merge, the rest replaces, null removes.",
    }
    schema["if"] = {"required": ["extends"]}
    schema["else"] = {"required": [key for key, field in fields(Recipe).items() if field.is_required()]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Limbeck recipe", **schema}


def _losses() -> list[str]:
    """The losses that can be imported; a broken plug-in does not take the schema away."""
    good = []
    for name in LOSSES.names():
        try:
            LOSSES.get(name)
        except (LimbeckError, ImportError):
            continue
        good.append(name)
    return good


def _loss(name: str) -> Json:
    """A term of one loss: the keys of every term and the hyper-parameters of this one."""
    help_of = {field.name: field.help for field in describe(LOSSES, name).fields}
    parameters: Json = {}
    for key, (field, hint) in hyper_parameters(LOSSES.get(name)).items():
        own = _type(hint)
        if own.get("type") == "number":
            own = _either(own, {"$ref": _REFERENCE + "Schedule"})
        default = default_of(field)
        known = {"default": default} if default is not MISSING else {}
        parameters[key] = {**own, "description": help_of.get(key, ""), **known}
    summary = describe(LOSSES, name).title
    return {
        "type": "object",
        "description": summary,
        "properties": {**_reserved(), "loss": {"const": name}, **parameters},
        "additionalProperties": False,
    }


def _type(hint: Any) -> Json:
    """The schema of one hyper-parameter."""
    try:
        return adapter_of(hint).json_schema()
    except PydanticUserError:  # a plug-in may use a type that JSON Schema cannot say; it is accepted unchecked
        return {}


def _reserved() -> Json:
    """The keys that every term has."""
    full = TermSpec.model_json_schema(by_alias=True)["properties"]
    own = {key: {k: v for k, v in full[key].items() if k != "title"} for key in sorted(RESERVED)}
    for side in ("student", "teacher"):
        own[side] = _either(own[side], {"type": "string"})
    own["adapter"] = _either(own["adapter"], {"type": "string"})
    one = _either(own["targets"]["items"], {"type": "string"})
    own["targets"] = _either({**own["targets"], "items": one}, *one["anyOf"])
    return own


def _term() -> Json:
    """A term: the name of a loss, or a mapping whose keys depend on `loss`; without `loss`, a change of a base's term."""
    names = _losses()
    cases: list[Json] = [
        {"if": {"properties": {"loss": {"const": name}}, "required": ["loss"]}, "then": {"$ref": f"{_REFERENCE}Loss-{name}"}}
        for name in names
    ]
    mapping = {"type": "object", "properties": {**_reserved(), "loss": _name(names)}, "allOf": cases}
    return {"description": (TermSpec.__doc__ or "").strip(), "anyOf": [*_name(names)["anyOf"], mapping]}


def _name(names: list[str]) -> Json:
    return {"anyOf": [{"enum": names}, _CODE]}


def _either(first: Json, *others: Json) -> Json:
    """A value of several forms; what describes it stays outside."""
    kept = {key: first[key] for key in ("description", "default") if key in first}
    inner = {key: value for key, value in first.items() if key not in kept}
    forms: list[Json] = []
    for form in (inner, *others):
        forms += [one for one in (form["anyOf"] if list(form) == ["anyOf"] else [form]) if one not in forms]
    return {"anyOf": forms, **kept}


def _names(schema: Json, definitions: Json) -> None:
    """Completes names that come from registries."""

    def known(place: Json, key: str, registry: Registry, *extra: str) -> None:
        old = place["properties"][key]
        kept = {part: old[part] for part in ("description", "default") if part in old}
        place["properties"][key] = {**_name([*extra, *registry.names()]), **kept}

    known(schema, "task", TASKS)
    known(definitions["TeacherSpec"], "kind", TEACHERS)
    known(definitions["TrainSpec"], "step", STEPS)
    known(definitions["StageSpec"], "between", ACTIONS)
    known(definitions["AdapterSpec"], "kind", ADAPTERS, "auto", "none")
    known(definitions["TargetSpec"], "name", TARGETS)
    known(definitions["MixSpec"], "kind", MIXINGS)
    for model in ("ModelSpec", "TeacherSpec", "PlayerSpec"):
        definitions[model]["properties"]["model"]["examples"] = [*BUILT_IN_MODELS.names(), "timm:resnet18", "torchvision:resnet18"]
    names = sorted(cls.__name__.lower() for cls in optimizers().values())
    definitions["OptimizerSpec"]["properties"]["name"]["examples"] = names


def _shorthands(schema: Json, definitions: Json) -> None:
    """Admits the short forms beside the long ones."""
    text, number, whole = {"type": "string"}, {"type": "number"}, {"type": "integer"}
    student = definitions["ModelSpec"]  # that of the student alone; the other models extend it
    student["properties"]["from"] = {"const": "teacher", "description": "Begin with the model and weights of the teacher."}
    for model in ("ModelSpec", "TeacherSpec", "PlayerSpec"):
        for short in (text, whole, {"type": "array", "items": whole}):
            _admit(definitions[model], "shrink", short)
        _admit(definitions[model], "lora", whole)
        _admit(definitions[model], "prompt", whole)
    _admit(definitions["LoraSpec"], "targets", text)
    stage, train, data = definitions["StageSpec"], definitions["TrainSpec"], definitions["DataSpec"]
    for place in (schema, stage):
        _admit(place, "teacher", text)
        _admit(place, "data", text)
        _admit(place, "peers", text)
        _admit(place, "peers", {"type": "array", "items": text})
    for place in (schema, stage, definitions["PeerSpec"]):
        place["properties"]["objective"] = {
            "type": "object",
            "additionalProperties": {"anyOf": [{"$ref": _REFERENCE + "Term"}, {"type": "null"}]},
            "description": place["properties"]["objective"].get("description", ""),
        }
    _admit(schema, "student", text)
    _admit(schema, "track", text)
    for section in ("teachers", "models", "stages"):
        entry = schema["properties"][section]
        entry["additionalProperties"] = {
            "anyOf": [entry["additionalProperties"], *([text] if section != "stages" else []), {"type": "null"}]
        }
    _admit(stage, "trainable", text)
    _admit(schema, "study", whole)
    _admit(schema, "study", {"type": "array", "items": whole})
    _study(definitions["StudySpec"], definitions["ArmSpec"])
    _admit(train, "optimizer", text)
    _admit(train, "schedule", {"enum": list(_choices(definitions["LRSchedule"]["properties"]["name"]))})
    _admit(train, "ema", number)
    _admit(train, "early_stop", whole)
    _admit(train, "mixture", whole)
    _admit(data, "transforms", text)
    _admit(data, "only", text)
    for key in ("mix", "pool", "select", "rollouts"):
        _admit(data, key, text)
    _admit(definitions["RolloutSpec"], "again", text)
    _evaluation(definitions["EvaluateSpec"])
    views, transforms = data["properties"]["views"], definitions["ViewSpec"]["properties"]["transforms"]
    listed = {key: value for key, value in transforms.items() if key not in ("default", "description")}
    views["additionalProperties"] = {"anyOf": [views["additionalProperties"], listed, text, {"type": "null"}]}
    _admit(definitions["PlayerSpec"], "optimizer", text)
    _admit(definitions["PeerSpec"], "optimizer", text)


def _evaluation(evaluate: Json) -> None:
    for key, types in {
        "corruptions": ["boolean", "string"],
        "severities": ["integer"],
        "cost": ["boolean", "integer"],
        "canaries": ["string"],
    }.items():
        for kind in types:
            _admit(evaluate, key, {"type": kind})


def _study(study: Json, arm: Json) -> None:
    text = {"type": "string"}
    _admit(study, "claims", text)
    for key in ("tags", "names", "without"):
        _admit(arm, key, text)
    keys = {
        key: {k: v for k, v in arm["properties"][key].items() if k != "default"} for key in ("from", "tags", "names", "without", "label")
    }
    study["properties"]["arms"]["properties"] = {key: {**value} for key, value in keys.items()}
    study["properties"]["arms"]["additionalProperties"] = {"anyOf": [{"$ref": _REFERENCE + "ArmSpec"}, text, {"type": "null"}]}


def _admit(place: Json, key: str, form: Json) -> None:
    place["properties"][key] = _either(place["properties"][key], form)


def _choices(value: Json) -> list[str]:
    return value.get("enum", [])


def _nullable(places: list[Json]) -> None:
    """Null stands for an absent key everywhere."""
    for place in places:
        for key, value in place.get("properties", {}).items():
            if key != "loss":
                place["properties"][key] = _either(value, {"type": "null"})
