"""A folder that transformers (for `hf:` students) or timm (for `timm:` students) loads by itself."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from ..data.language.vocabulary import llama2c_file, of_llama2c
from ..errors import MissingDependency, RunError
from ..files import writing_folder
from ..models.prompt import has_prompt, without_prompt, write_prompt
from .base import BATCH_SIZES, ExportResult, largest_difference, size_on_disk
from .student import Deployable, Student

_PROMPT = "prompt"
"""The folder of a student's prompt, within that of the model."""
_PEFT_TASKS = {None: "SEQ_CLS", "token_classification": "TOKEN_CLS", "span_extraction": "QUESTION_ANS", "causal_lm": "CAUSAL_LM"}
"""Peft's words for what models do, by `DataInfo.language`."""


def export(student: Student, out: Path, tolerance: float) -> ExportResult:
    """Writes the folder `out`, reloads it with its library, and compares.

    Raises:
        RunError: for students of other kinds, or where the reloaded model differs.
        MissingDependency: without the library.
    """
    source, _, name = student.reference.partition(":")
    writers: dict[str, Callable[[Student, str, Path], tuple[Callable[[Path], nn.Module], str]]] = {
        "hf": _transformers,
        "llama2c": _transformers,
        "timm": _timm,
    }
    if source not in writers:
        raise RunError(
            f"--to hf is for students of transformers (hf:...) and timm (timm:...); this one is {student.reference}. "
            "It supports: safetensors, onnx, pt2."
        )
    with writing_folder(out) as folder, _no_bars(source):
        reload, note = writers[source](student, name, folder)
        again = Deployable(reload(folder).eval(), student.normalization, text=student.info.kind == "text")
        difference, scale = largest_difference(student.deployable(), again, student.draw, tolerance=tolerance, what=str(out))
    return ExportResult("hf", out, difference, scale, BATCH_SIZES, size_on_disk(out), student.input_names, note.format(out))


def _transformers(student: Student, name: str, folder: Path) -> tuple[Callable[[Path], nn.Module], str]:
    try:
        import transformers  # noqa: F401

        from ..models.sources.hf import auto_class
    except ImportError as error:
        raise MissingDependency("transformers", "text", "export of a transformers student") from error
    module: Any = student.module
    if student.info.class_names and student.info.language in (None, "token_classification"):
        module.config.id2label = dict(enumerate(student.info.class_names))
        module.config.label2id = {label: i for i, label in enumerate(student.info.class_names)}
    if student.info.language == "causal_lm":
        module.config.use_cache = True  # it is to generate from now on
    prompted = has_prompt(module)
    module.save_pretrained(folder, state_dict=without_prompt(module.state_dict()) if prompted else None)
    generation = student.folder / "generation_config.json"
    if generation.is_file():
        shutil.copy(generation, folder)
    text = student.info.kind == "text"
    if text:
        _save_tokenizer(student, name, folder)
    else:
        _save_processor(student, folder)
    auto, _ = auto_class(student.info)
    if prompted:
        return _with_prompt(student, folder, auto)
    return lambda path: auto.from_pretrained(path, local_files_only=True), f"load with transformers.{auto.__name__}.from_pretrained('{{}}')"


def _with_prompt(student: Student, folder: Path, auto: Any) -> tuple[Callable[[Path], nn.Module], str]:
    """Writes the prompt beside the model, as peft reads it."""
    try:
        import peft
    except ImportError as error:
        raise MissingDependency("peft", "lora", "export of a student with a prompt") from error
    task = _PEFT_TASKS.get(student.info.language)
    if task is None:
        raise RunError(f"peft has no prompts for {auto.__name__}. This student supports: safetensors, pt2.")
    write_prompt(student.module, folder / _PROMPT, task)
    whole: Any = peft.PeftModel

    def reload(path: Path) -> nn.Module:
        return whole.from_pretrained(auto.from_pretrained(path, local_files_only=True), path / _PROMPT)

    return reload, f"load with peft.PeftModel.from_pretrained(transformers.{auto.__name__}.from_pretrained('{{0}}'), '{{0}}/{_PROMPT}')"


def _save_tokenizer(student: Student, name: str, folder: Path) -> None:
    """The tokenizer beside the model, where it can be had without fetching anything."""
    from transformers import AutoTokenizer

    own = (student.folder / "tokenizer_config.json").is_file()
    source = str(student.folder) if own else str((student.card.get("text") or {}).get("tokenizer") or name)
    file = llama2c_file(source)
    try:
        tokenizer = of_llama2c(file) if file is not None else AutoTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError):
        return
    tokenizer.save_pretrained(folder)


def _save_processor(student: Student, folder: Path) -> None:
    """Size and normalisation for the image processor; Limbeck reads the file, too."""
    norm, shape = student.normalization, student.info.input_shape
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": shape[1], "width": shape[2]},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": norm is not None,
        **({"image_mean": list(norm.mean), "image_std": list(norm.std)} if norm else {}),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _timm(student: Student, name: str, folder: Path) -> tuple[Callable[[Path], nn.Module], str]:
    try:
        import timm
        from timm.models import save_for_hf
    except ImportError as error:
        raise MissingDependency("timm", "vision", "export of a timm student") from error
    norm, info = student.normalization, student.info
    args = {"in_chans": info.input_shape[0], **student.card["model"]["args"]}
    args.pop("num_classes", None)
    # timm has no way to say "not normalised" but zero and one
    mean, std = (list(norm.mean), list(norm.std)) if norm else ([0.0], [1.0])
    data: dict[str, Any] = {"input_size": list(info.input_shape), "mean": mean, "std": std}
    config: dict[str, Any] = {"model_args": args, "pretrained_cfg": data, "num_classes": info.num_outputs}
    if info.class_names:
        config["label_names"] = list(info.class_names)
    module: Any = student.module
    save_for_hf(module, str(folder), model_config=config, safe_serialization=True)
    note = "load with timm.create_model('local-dir:{}', pretrained=True)"
    return lambda path: timm.create_model(f"local-dir:{path}", pretrained=True), note


@contextlib.contextmanager
def _no_bars(source: str) -> Iterator[None]:
    """Keeps the progress bars of transformers, which take longer to read than the work, from the terminal."""
    if source not in ("hf", "llama2c"):
        yield
        return
    from ..models.sources.hf import without_bars

    with without_bars():
        yield
