"""A smaller model of transformers made from a larger one: some of its layers, units and channels, with their weights.

The smaller model is built from the changed configuration, and every one of its tensors is cut from the one of the same name, so that what
comes out is an ordinary model of its kind. Which axes of a tensor belong to what is cut is not guessed from names: they are those that
change when that field of the configuration does. Units and channels are kept by the norm of all weights that read or write them; layers by
place, or by how much they turn what passes through them.

Reference: for `importance`, Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024,
arXiv:2403.03853, section 3.1: the influence of a block is 1 - cos(input, output), averaged over tokens.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError

Rule = Literal["even", "odd", "first", "last", "uniform", "importance"]
Batches = Callable[[], Iterable[Mapping[str, Tensor]]]
"""Gives a few batches of inputs of the training data."""


@dataclass(frozen=True)
class Shrink:
    """What is kept of a model."""

    layers: Rule | None = None
    """Which layers: every second (`even` from the first, `odd` from the second), the `count` first or last, `count` evenly spread with the
    first and the last among them, or the `count` of the largest influence; all where absent."""
    count: int | None = None
    """How many layers `first`, `last`, `uniform` and `importance` keep; half of them where absent."""
    keep: Sequence[int] = ()
    """The layers that are kept, by their numbers from 0, instead of a rule."""
    hidden: int | None = None
    """Channels between the layers."""
    intermediate: int | None = None
    """Units of each feed-forward layer."""
    heads: int | None = None
    """Attention heads of each layer."""


def shrink(module: nn.Module, how: Shrink, reference: str, batches: Batches | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The smaller model, and the fields of its configuration that are not those of the larger one.

    Args:
        module: a model of transformers; it is left as it is.
        how: what is kept.
        reference: what messages call the model.
        batches: inputs on which the influence of layers is measured; without, the first of them count as influential (on the meta device).

    Raises:
        ModelError: where the model cannot be cut so.
    """
    import transformers

    if not isinstance(module, transformers.PreTrainedModel):
        raise ModelError(f"{reference}: only models of transformers can be shrunk.")
    changes: dict[str, Any] = {}
    if how.layers is not None or how.keep:
        module, changes = _fewer_layers(module, how, reference, batches)
    for field, number in (("intermediate", how.intermediate), ("heads", how.heads), ("hidden", how.hidden)):
        if number is not None:
            module, more = _narrower(module, field, number, reference)
            changes |= more
    return module, changes


# depth


def _fewer_layers(module: Any, how: Shrink, reference: str, batches: Batches | None) -> tuple[Any, dict[str, Any]]:
    stacks = layer_stacks(module)
    if not stacks:
        raise ModelError(f"{reference}: {type(module).__name__} has no list of equal layers to choose from.")
    state, changes = dict(module.state_dict()), {}
    wanted: dict[str, Tensor] = {}
    for path, (field, layers) in stacks.items():
        kept = chosen(how, len(layers), reference, lambda path=path: influences(module, path, batches))
        changes |= {field: len(kept), **_per_layer(module.config, len(layers), kept)}
        start = re.compile(rf"{re.escape(path)}\.(\d+)\.(.*)")
        for name in [name for name in state if start.fullmatch(name)]:
            number, rest = start.fullmatch(name).groups()  # pyright: ignore[reportOptionalMemberAccess]
            if int(number) in kept:
                wanted[f"{path}.{kept.index(int(number))}.{rest}"] = state[name]
            elif int(number) == 0:  # what the first layer alone has, such as the positions of T5
                wanted.setdefault(f"{path}.0.{rest}", state[name])
            del state[name]
    return _made(module, changes, {**state, **wanted}), changes


def layer_stacks(module: Any) -> dict[str, tuple[str, nn.ModuleList]]:
    """Path to the field of the configuration that is the number of layers, and these, for every list of layers of a model."""
    config, found = module.config, {}
    names = {"encoder": ("encoder_layers", "num_layers"), "decoder": ("decoder_layers", "num_decoder_layers")}
    known = config.to_dict()
    for path, part in module.named_modules():
        if not isinstance(part, nn.ModuleList) or len({type(layer) for layer in part}) != 1 or any(path.startswith(f"{p}.") for p in found):
            continue
        side = re.search(r"(?:^|\.)(encoder|decoder)\.", f"{path}.") if config.is_encoder_decoder else None
        fields = names[side[1]] if side else (config.attribute_map.get("num_hidden_layers", "num_hidden_layers"),)
        field = next((name for name in fields if known.get(name) == len(part)), None)
        if field is not None:
            found[path] = (field, part)
    return found


def chosen(how: Shrink, total: int, reference: str, influence: Callable[[], list[float]]) -> list[int]:
    """Numbers of the layers that are kept, in order.

    Args:
        how: the rule.
        total: how many there are.
        reference: what messages call the model.
        influence: that of every layer.
    """
    if how.keep:
        kept = sorted(set(how.keep))
        if how.layers is not None or how.count is not None:
            raise ModelError(f"{reference}: shrink.keep names the layers, so layers and count have nothing to say; give one or the other.")
        if kept[0] < 0 or kept[-1] >= total:
            raise ModelError(f"{reference}: shrink.keep {kept} are not all among its layers 0 to {total - 1}.")
        return kept
    rule, count = how.layers, how.count if how.count is not None else max(1, total // 2)
    if rule in ("even", "odd") and how.count is not None:
        raise ModelError(f"{reference}: shrink.layers {rule} says itself how many are kept; leave count out, or use uniform.")
    if not 1 <= count <= total:
        raise ModelError(f"{reference}: {count} layers cannot be kept of {total}.")
    if rule == "importance":
        values = influence()
        return sorted(sorted(range(total), key=lambda i: -values[i])[:count])
    spread = [round(i * (total - 1) / (count - 1)) for i in range(count)] if count > 1 else [0]
    places: dict[Any, Sequence[int]] = {
        "even": range(0, total, 2),
        "odd": range(1, total, 2),
        "first": range(count),
        "last": range(total - count, total),
    }
    return list(places.get(rule, spread))


def influences(module: Any, path: str, batches: Batches | None) -> list[float]:
    """1 - cos(input, output) of every layer of a stack, averaged over the tokens of `batches` that are no padding."""
    layers = module.get_submodule(path)
    sums, tokens = torch.zeros(len(layers), dtype=torch.float64), 0.0
    if batches is None:
        return [-float(i) for i in range(len(layers))]
    mask: Tensor | None = None

    def measure(number: int) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            turned = 1 - F.cosine_similarity(before.float(), after.float(), dim=-1)
            weight = torch.ones_like(turned) if mask is None or mask.shape != turned.shape else mask.to(turned)
            sums[number] += (turned * weight).sum().double().cpu() / weight.sum().double().cpu()

        return hook

    handles = [layer.register_forward_hook(measure(i), with_kwargs=True) for i, layer in enumerate(layers)]
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            for inputs in batches():
                mask = inputs.get("attention_mask")
                module(**inputs)
                tokens += 1
    finally:
        for handle in handles:
            handle.remove()
        for part in training:
            part.training = True
    return (sums / max(tokens, 1.0)).tolist()


def _per_layer(config: Any, total: int, kept: Sequence[int]) -> dict[str, Any]:
    """Fields of the configuration that have an entry for every layer."""
    lists = {name: value for name, value in config.to_dict().items() if isinstance(value, list) and len(value) == total and "layer" in name}
    return {name: [value[i] for i in kept] for name, value in lists.items()}


# width


def _narrower(module: Any, what: str, number: int, reference: str) -> tuple[Any, dict[str, Any]]:
    changes, blocks, kept = _fields(module.config, what, number, reference)
    smaller = {name: value.shape for name, value in _skeleton(module, changes).state_dict().items()}
    state = dict(module.state_dict())
    axes = {name: [i for i, (a, b) in enumerate(zip(v.shape, smaller[name], strict=True)) if a != b] for name, v in state.items()}
    scores: dict[str, Tensor] = {}
    for name, value in state.items():
        for axis in axes[name]:
            score = _by_block(name, value, axis, blocks, reference, what)
            group = "" if what == "hidden" else _layer_of(name)
            scores[group] = scores[group] + score if group in scores else score
    indices = {group: score.topk(kept).indices.sort().values for group, score in scores.items()}
    for name, value in state.items():
        for axis in axes[name]:
            index = indices["" if what == "hidden" else _layer_of(name)]
            value = value.index_select(axis, _places(value.shape[axis], blocks, index, what))  # noqa: PLW2901
        state[name] = value
    return _made(module, changes, state), changes


def _fields(config: Any, what: str, number: int, reference: str) -> tuple[dict[str, Any], int, int]:
    """The changes of the configuration, how many blocks there are, and how many of them are kept."""
    text = config.to_dict()
    if what == "intermediate":
        name = next((n for n in ("intermediate_size", "n_inner", "ffn_dim", "hidden_dim", "d_ff", "encoder_ffn_dim") if n in text), None)
        old = text[name] if name is not None else None
        old = 4 * config.hidden_size if old is None and name == "n_inner" else old
        if name is None or not isinstance(old, int) or name == "encoder_ffn_dim":
            raise ModelError(f"{reference}: the size of its feed-forward layers is not known from its configuration; it cannot be cut.")
        _fewer(number, old, "units", reference)
        return {name: number}, old, number
    if text.get("head_dim") is None:
        raise ModelError(
            f"{reference}: shrink.{what} is for models whose configuration has a head_dim of its own (Llama, Mistral, Qwen3, Gemma, ...); "
            "cut layers or intermediate instead."
        )
    if what == "hidden":
        _fewer(number, config.hidden_size, "channels", reference)
        return {"hidden_size": number, "head_dim": config.head_dim}, config.hidden_size, number
    old, groups = config.num_attention_heads, text.get("num_key_value_heads") or config.num_attention_heads
    _fewer(number, old, "heads", reference)
    if number * groups % old:
        raise ModelError(f"{reference}: {old} heads share {groups} keys and values; keep a multiple of {old // groups}, not {number}.")
    kept = number * groups // old
    return {"num_attention_heads": number, "num_key_value_heads": kept, "head_dim": config.head_dim}, groups, kept


def _fewer(number: int, old: int, what: str, reference: str) -> None:
    if not 1 <= number <= old:
        raise ModelError(f"{reference}: {number} {what} cannot be kept of {old}.")


def _by_block(name: str, value: Tensor, axis: int, blocks: int, reference: str, what: str) -> Tensor:
    """Sum of squares of what belongs to each block, `(blocks,)`."""
    size = value.shape[axis]
    if size % blocks:
        raise ModelError(f"{reference}: {name} holds several things in one tensor, so shrink.{what} cannot cut it.")
    squares = value.double().square().transpose(0, axis).reshape(size, -1).sum(1)
    return squares.view(-1, blocks).sum(0) if what != "heads" else squares.view(blocks, -1).sum(1)


def _places(size: int, blocks: int, index: Tensor, what: str) -> Tensor:
    """Places along an axis of what is kept: blocks of heads lie side by side, repeated units and channels one run after the other."""
    every = torch.arange(size, device=index.device)
    return every.view(blocks, -1)[index].reshape(-1) if what == "heads" else every.view(-1, blocks)[:, index].reshape(-1)


def _layer_of(name: str) -> str:
    """The beginning of a parameter's name up to the number of its layer."""
    found = re.match(r".*?\.\d+\.", name)
    return found[0] if found else ""


# both


def _config(module: Any, changes: Mapping[str, Any]) -> Any:
    config = copy.deepcopy(module.config)
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def _skeleton(module: Any, changes: Mapping[str, Any]) -> Any:
    with torch.device("meta"):
        return type(module)(_config(module, changes))


def _made(module: Any, changes: Mapping[str, Any], state: Mapping[str, Tensor]) -> Any:
    """A model of the changed configuration with these weights."""
    device, dtype = next((p.device, p.dtype) for p in module.parameters())
    with torch.device(device):
        made = type(module)(_config(module, changes)).to(dtype)
    made.load_state_dict(state)
    return made.train(module.training)
