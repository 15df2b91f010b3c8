"""Brings the short forms of a recipe into the long one, so that merging and validation know a single form."""

from __future__ import annotations

from collections.abc import Callable

from .marks import Node
from .references import JOINT

Rewrite = Callable[[Node], Node]
_GENERATOR = ("from", "tags", "names", "without", "label")
"""Keys of an arm that stands for many losses."""


def expand(root: Node) -> Node:
    """A recipe (or a part of one that overrides another) with every shorthand written out; marks are kept."""
    return _entries(
        root,
        data=_data,
        student=_model,
        teacher=_teacher,
        teachers=_each(_teacher),
        models=_each(_player),
        objective=_each(_term),
        train=_train,
        peers=_peers,
        stages=_each(_stage),
        evaluate=_evaluate,
        track=_listed,
        study=_study,
    )


def _entries(node: Node, **rewrites: Rewrite) -> Node:
    """Rewrites some entries of a mapping; anything else is left to the validation."""
    changes = {key: rewrite(node.mapping[key]) for key, rewrite in rewrites.items() if key in node.mapping}
    return node.replaced(changes) if changes else node


def _each(rewrite: Rewrite) -> Rewrite:
    """Rewrites every value of a mapping."""

    def each(node: Node) -> Node:
        return node.replaced({key: rewrite(value) for key, value in node.mapping.items()}) if node.mapping else node

    return each


def _keyed(key: str, *types: type) -> Rewrite:
    """`x` becomes `{key: x}`."""
    accepted = types or (str,)

    def keyed(node: Node) -> Node:
        if not isinstance(node.value, accepted) or isinstance(node.value, bool):
            return node
        return Node({key: node}, node.mark, {key: node.mark}, replaces=True)

    return keyed


def _listed(node: Node) -> Node:
    """`x` becomes `[x]`."""
    return Node([node], node.mark) if isinstance(node.value, str) else node


def _data(node: Node) -> Node:
    def transforms(entries: Node) -> Node:
        return _listed(entries) if entries.text is not None else entries

    def view(entry: Node) -> Node:
        node = Node({"transforms": entry}, entry.mark, {"transforms": entry.mark}) if isinstance(entry.value, list | str) else entry
        return _entries(node, transforms=transforms, columns=_listed)

    node = _keyed("source")(node)
    several = node.mapping.get("datasets")
    if several is not None and "source" not in node.mapping:
        node = node.replaced({"source": Node(JOINT, several.mark)})
    return _entries(
        node,
        only=_listed,
        transforms=transforms,
        test_transforms=transforms,
        views=_each(view),
        mix=_keyed("kind"),
        pool=_keyed("source"),
        select=_keyed("manifest"),
        rollouts=_rollouts,
    )


def _rollouts(node: Node) -> Node:
    """`x` becomes `{file: x}`, and `again: x` becomes `again: {view: x}`."""
    return _entries(_keyed("file")(node), again=_keyed("view"))


def _evaluate(node: Node) -> Node:
    """`corruptions: true` asks for all of them, `cost: true` for `[1, 64]`; `false` is none, `blur` becomes `[blur]`."""

    def listed(whole: list[int] | list[str]) -> Rewrite:
        def rewrite(entry: Node) -> Node:
            if isinstance(entry.value, bool):
                return Node([Node(item, entry.mark) for item in (whole if entry.value else [])], entry.mark)
            return Node([entry], entry.mark) if isinstance(entry.value, (int, str)) else entry

        return rewrite

    few = listed([])
    return _entries(node, corruptions=listed(["all"]), cost=listed([1, 64]), severities=few, canaries=few)


def _train(node: Node) -> Node:
    return _entries(
        node,
        optimizer=_keyed("name"),
        schedule=_keyed("name"),
        ema=_keyed("decay", int, float),
        early_stop=_keyed("patience", int),
        mixture=_keyed("every", int),
    )


def _teacher(node: Node) -> Node:
    """`x` becomes `{model: x}`, and `stored: PATH` or `remote: URL` a kind with its field."""
    node = _model(node)
    for kind, key in (("stored", "path"), ("remote", "url")):
        where = node.mapping.get(kind)
        if where is not None:
            return node.without(kind).replaced({"kind": Node(kind, where.mark), key: where})
    return node


def _model(node: Node) -> Node:
    return _entries(_keyed("model")(node), shrink=_shrink, lora=_lora, prompt=_keyed("length", int))


def _shrink(node: Node) -> Node:
    """`even` becomes `{layers: even}`, a number that many layers evenly spread, a list those that are kept."""
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        entries = {"layers": Node("uniform", node.mark), "count": node}
        return Node(entries, node.mark, dict.fromkeys(entries, node.mark), replaces=True)
    return _keyed("keep", list)(node) if isinstance(node.value, list) else _keyed("layers")(node)


def _lora(node: Node) -> Node:
    """`8` becomes `{rank: 8}`, and one target a list."""
    return _entries(_keyed("rank", int)(node), targets=_listed)


def _player(node: Node) -> Node:
    return _entries(_model(node), optimizer=_keyed("name"))


def _term(node: Node) -> Node:
    return _entries(_keyed("loss")(node), student=_listed, teacher=_listed, adapter=_keyed("kind"), targets=_targets)


def _targets(node: Node) -> Node:
    """`x` and `{name: x}` become `[{name: x}]`."""
    entries = node.value if isinstance(node.value, list) else [node] if node.text is not None or node.mapping else None
    return node if entries is None else Node([_keyed("name")(entry) for entry in entries], node.mark)


def _peers(node: Node) -> Node:
    """`x` and `[x, y]` become `{x: {}, y: {}}`; such a list replaces what it is merged over."""
    entries = node.value if isinstance(node.value, list) else [node]
    if not entries or not all(entry.text for entry in entries):
        return _each(_peer)(node)
    names = {str(entry.value): entry for entry in entries}
    items = {name: Node({}, entry.mark) for name, entry in names.items()}
    return Node(items, node.mark, {name: entry.mark for name, entry in names.items()}, replaces=True)


def _peer(node: Node) -> Node:
    return _entries(node, objective=_each(_term), optimizer=_keyed("name"))


def _stage(node: Node) -> Node:
    return _entries(node, teacher=_teacher, data=_data, objective=_each(_term), train=_train, peers=_peers, trainable=_listed)


def _study(node: Node) -> Node:
    return _entries(_keyed("seeds", int, list)(node), arms=_arms, claims=_listed)


def _arms(node: Node) -> Node:
    """`{from: losses, ...}` in the place of the arms becomes an arm of that kind, beside those that are mappings."""
    if "from" in node.mapping and node.mapping["from"].text is not None:
        own = {key: value for key, value in node.mapping.items() if key in _GENERATOR}
        marks = {key: mark for key, mark in node.keys.items() if key in own}
        node = Node({"losses": Node(own, node.mark, marks), **node.without(*own).mapping}, node.mark, node.keys)
    return _each(_arm)(node)


def _arm(node: Node) -> Node:
    return _entries(_keyed("recipe")(node), tags=_listed, names=_listed, without=_listed)
