"""Loads the student of a run and makes it fit for deployment: normalisation inside, logits out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError, RunError
from ..files import read_json
from ..models.base import ModelRequest, Normalization
from ..models.build import build_model
from ..models.checkpoints import load_into, read_state_dict
from ..models.prompt import Prompt
from ..types import DataInfo


@dataclass(frozen=True)
class Student:
    """The student of a run, in eval mode on the CPU."""

    folder: Path
    """The `student/` of the run."""
    card: Mapping[str, Any]
    """Contents of model.json."""
    module: nn.Module
    normalization: Normalization | None
    info: DataInfo

    @property
    def reference(self) -> str:
        """Reference of the model, such as `convnet` or `timm:resnet18`."""
        return str(self.card["model"]["model"])

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of the deployable model, in order."""
        names = {"text": ("input_ids", "attention_mask"), "image": ("image",), "tabular": ("columns",)}
        return names[self.info.kind]

    @property
    def longest(self) -> int:
        """Text: the longest sequence, in tokens, that the recipe allowed."""
        return int((self.card.get("text") or {}).get("max_length") or self.info.input_shape[0])

    def deployable(self) -> Deployable:
        """The student as one module from what the data yields to logits."""
        return Deployable(self.module, self.normalization, text=self.info.kind == "text").eval()

    def draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Random inputs such as the data yields: images in [0, 1], raw columns, token ids with a mask."""
        info = self.info
        if info.kind == "text":
            return self._draw_text(size, generator)
        if info.kind == "image":
            return (torch.rand(size, *info.input_shape, generator=generator),)
        values = torch.randn(size, *info.input_shape, generator=generator)
        if info.mean is not None and info.std is not None:
            values = values * torch.tensor(info.std) + torch.tensor(info.mean)
        return (values,)

    def _draw_text(self, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        vocabulary = int(self.module.get_input_embeddings().num_embeddings)  # pyright: ignore[reportCallIssue]
        length = min(self.longest, 16 + size)
        ids = torch.randint(min(5, vocabulary - 1), vocabulary, (size, length), generator=generator)
        lengths = torch.randint(max(length // 2, 1), length + 1, (size,), generator=generator)
        lengths[0] = length
        if self.info.language == "causal_lm":  # what it says of padding means nothing, and depends on where positions are counted from
            lengths[:] = length
        return ids, (torch.arange(length) < lengths[:, None]).long()


class Deployable(nn.Module):
    """A student that takes raw inputs and gives logits; the input normalisation is a part of it."""

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, normalization: Normalization | None, *, text: bool) -> None:
        super().__init__()
        self.module, self.text, self.normalizes = module, text, normalization is not None
        if normalization is not None:
            self.register_buffer("mean", torch.tensor(normalization.mean))
            self.register_buffer("std", torch.tensor(normalization.std))

    def forward(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`(batch, ...)` raw inputs (token ids and mask for text) to `(batch, outputs)`."""
        if self.text:
            return logits_of(self.module(input_ids=inputs, attention_mask=attention_mask))
        if self.normalizes:
            shape = (1, -1, *[1] * (inputs.ndim - 2))
            inputs = (inputs - self.mean.view(shape)) / self.std.view(shape)
        return logits_of(self.module(inputs))


def logits_of(output: Any) -> Tensor:
    """The logits in what a model gives: a tensor, a mapping or an object with `logits`, or a tuple that starts with them."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        return output["logits"]
    if isinstance(output, (tuple, list)):
        return output[0]
    return output.logits


def load_student(run: Path, *, allow_code: bool = False) -> Student:
    """The student of a finished run.

    Raises:
        RunError: where the run holds none.
    """
    if not run.is_dir():
        raise RunError(f"{run} is not a directory. Expected a run directory, as `limbeck run` makes them.")
    folder = run / "student"
    weights, card_file = folder / "model.safetensors", folder / "model.json"
    if not weights.is_file() or not card_file.is_file():
        raise RunError(f"{run} holds no student: {folder} is written when a run is finished. Finish it: limbeck run {run} --resume")
    card = read_json(card_file)
    try:
        info, norm = _info(card["data"]), card["normalization"]
        normalization = Normalization(tuple(norm["mean"]), tuple(norm["std"])) if norm else None
        reference, args = str(card["model"]["model"]), dict(card["model"].get("args") or {})
        prompt = Prompt(**card["model"]["prompt"]) if "prompt" in card["model"] else None
        lazy = card["model"].get("lazy")
    except (KeyError, TypeError) as error:
        raise RunError(f"{card_file} is no card of a student: {error!r} is missing or of the wrong kind. Run the recipe again.") from error
    if (folder / "config.json").is_file():  # all that a model of transformers needs lies beside its weights
        reference, args = f"hf:{folder}", {}
    request = ModelRequest(reference, str(weights), args=args, normalize=normalization or "none", prompt=prompt, lazy=lazy)
    try:
        module = build_model(request, info, allow_code=allow_code).module
    except ModelError:
        if not reference.startswith("hf:"):
            raise
        # a transformers model that was trained from scratch took the size and channels of the data instead of its configuration's
        module = build_model(ModelRequest(reference, None, args=args, normalize="none"), info, allow_code=allow_code).module
        load_into(module, read_state_dict(weights), source=str(weights))
    return Student(folder, card, module.eval().requires_grad_(False), normalization, info)


def _info(data: Mapping[str, Any]) -> DataInfo:
    return DataInfo(
        kind=data["kind"],
        labels=data["labels"],
        num_outputs=data["num_outputs"],
        input_shape=tuple(data["input_shape"]),
        class_names=tuple(data.get("class_names") or ()),
        mean=tuple(data["mean"]) if data.get("mean") else None,
        std=tuple(data["std"]) if data.get("std") else None,
        language=data.get("language"),
    )
