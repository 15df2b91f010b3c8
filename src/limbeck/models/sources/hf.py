"""`hf:ID_OR_FOLDER`: transformers models for texts (classifiers, language models, taggers, span extraction) and images.

`hf:TYPE` builds a random one from `args`. Which head it gets is what the data are for: `DataInfo.language`, else a classifier.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import LimbeckError, MissingDependency, ModelError, NotFetched, did_you_mean
from ...types import DataInfo
from ..arguments import unknown_argument
from ..base import ModelRequest, Normalization
from ..checkpoints import fetch_error

LANGUAGE_MODELS = ("causal_lm", "masked_lm", "seq2seq_lm")
"""What is predicted by models whose outputs are the tokens of their vocabulary."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_ATTENTION = "attn_implementation"
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Argument that is no field of a configuration but of the loading."""


@contextmanager
def without_bars() -> Iterator[None]:
    """Without the progress bars of transformers, which would run into those of the training."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def build(name: str, request: ModelRequest, info: DataInfo, *, load: bool) -> tuple[nn.Module, Normalization | None]:
    """The model, and the image statistics of its processor where its own weights are asked for."""
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingDependency("transformers", "text", request.model) from error
    if info.kind == "tabular":
        raise ModelError(f"{request.model} reads text or images; the data is tabular. Try mlp.")
    pretrained = request.weights == "pretrained"
    config = _config(name, request, info, load=load)
    auto, mapping = auto_class(info)
    if type(config) not in mapping:
        raise ModelError(f"{request.model} ({config.model_type}) is no {_word(info)}; transformers has none of that type.")
    if info.kind != "text":
        request = replace(request, dtype="fp32")  # images come in fp32; autocast does what is wanted for them
    try:
        if pretrained and load:
            module = _pretrained(auto, name, config, request, info)
        else:
            module = auto.from_config(config, dtype=_DTYPES.get(request.dtype, torch.float32), **_attention(request))
    except OSError as error:
        raise fetch_error(f"the weights of {request.model}", error) from error
    except LimbeckError:
        raise
    except Exception as error:
        if type(error).__name__ == "SafetensorError":
            raise ModelError(
                f"{request.model}: its file of weights is damaged or was cut short ({error}). Copy or download it again."
            ) from error
        raise ModelError(f"{request.model} could not be built for {info.kind} data: {type(error).__name__}: {error}") from error
    module.train()
    return module, _own(name, load=load) if pretrained and info.kind == "image" else None


def _pretrained(auto: Any, name: str, config: Any, request: ModelRequest, info: DataInfo) -> nn.Module:
    """The model with its own weights; a language model without a part of them is refused, a classifier may get a new head."""
    whole = info.language in LANGUAGE_MODELS
    with without_bars():
        module, found = auto.from_pretrained(
            name,
            config=config,
            dtype=_DTYPES.get(request.dtype, request.dtype),
            ignore_mismatched_sizes=not whole,
            output_loading_info=True,
            **_attention(request),
        )
    if whole and found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise ModelError(
            f"{request.model} is no whole {_word(info)}: its file lacks {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}, "
            "which would be random. Use weights that were saved with the head."
        )
    return module


def _attention(request: ModelRequest) -> dict[str, Any]:
    """How attention is computed, where it is said: `eager` is the one that gives attention maps."""
    how = request.args.get(_ATTENTION)
    return {} if how is None else {_ATTENTION: how}


def _word(info: DataInfo) -> str:
    words = {
        "causal_lm": "language model that predicts the next token",
        "masked_lm": "language model that predicts masked tokens",
        "seq2seq_lm": "encoder-decoder language model",
        "token_classification": "classifier of tokens",
        "span_extraction": "model that finds answers in texts",
    }
    return words[info.language] if info.language is not None else f"classifier of {info.kind} data"


def configuration_of(module: nn.Module, special: Mapping[str, int | None], tokens: int | None = None) -> dict[str, str]:
    """The files, by name, that tell transformers how to build a model and to generate with it; none of any other model.

    Args:
        module: the model.
        special: numbers of the first, the last and the padding token (`bos_token_id`, ...) by its tokenizer. They count for a model that
            was built from arguments; one that was read from somewhere has its own.
        tokens: how many its tokenizer knows; what its head has beyond them never learnt, and is not to be written.
    """
    loaded = sys.modules.get("transformers.modeling_utils")  # whoever has made such a model has it; for another, its import takes seconds
    if loaded is None or not isinstance(module, loaded.PreTrainedModel):
        return {}
    model: Any = module
    settings: dict[str, Any] = json.loads(model.config.to_json_string())
    settings["architectures"] = [type(module).__name__]
    if "use_cache" in settings:
        settings["use_cache"] = True  # whoever reads it generates
    made = not model.config.name_or_path
    if made:
        settings |= {name: token for name, token in special.items() if name in settings}
    files = {"config.json": _json(settings)}
    if not model.can_generate():
        return files
    rows = vocabulary_size(module) or 0
    beyond = list(range(tokens, rows)) if tokens is not None else []
    own: dict[str, Any] = json.loads(model.generation_config.to_json_string())
    if beyond:
        own.pop("_from_model_config", None)  # it would be made from config.json again
        own["suppress_tokens"] = sorted({*(own.get("suppress_tokens") or ()), *beyond})
    if made:
        own |= {name: token for name, token in special.items() if name in settings}
    return files if made and not beyond else {**files, "generation_config.json": _json(own)}


def _json(settings: Any) -> str:
    return json.dumps(settings, indent=2, sort_keys=True) + "\n"


def vocabulary_size(module: nn.Module) -> int | None:
    """How many tokens a transformers model knows; None of any other model."""
    import transformers

    if not isinstance(module, transformers.PreTrainedModel):
        return None
    embeddings = module.get_input_embeddings()
    return embeddings.num_embeddings if isinstance(embeddings, nn.Embedding) else None


def auto_class(info: DataInfo) -> tuple[Any, Any]:
    """The class that builds, and the mapping of configurations that it can build from."""
    import transformers as t

    heads = {
        "causal_lm": (t.AutoModelForCausalLM, t.MODEL_FOR_CAUSAL_LM_MAPPING),
        "masked_lm": (t.AutoModelForMaskedLM, t.MODEL_FOR_MASKED_LM_MAPPING),
        "seq2seq_lm": (t.AutoModelForSeq2SeqLM, t.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING),
        "token_classification": (t.AutoModelForTokenClassification, t.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING),
        "span_extraction": (t.AutoModelForQuestionAnswering, t.MODEL_FOR_QUESTION_ANSWERING_MAPPING),
    }
    if info.language is not None:
        return heads[info.language]
    if info.kind == "text":
        return t.AutoModelForSequenceClassification, t.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    return t.AutoModelForImageClassification, t.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING


def _config(name: str, request: ModelRequest, info: DataInfo, *, load: bool) -> Any:
    """The configuration, with the number of outputs of the data and the user's arguments."""
    from transformers import CONFIG_MAPPING, AutoConfig

    folder = Path(name).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(
            f"{request.model}: the folder has no config.json; expected what save_pretrained writes. It has: {_listing(folder)}."
        )
    if name in CONFIG_MAPPING and not folder.is_dir():
        if request.weights == "pretrained":
            raise ModelError(f"{request.model} names a kind of model, which has no weights; give the id or folder of one.")
        plain = AutoConfig.for_model(name)
        values = _arguments(plain, request, info, fresh=True)
        try:  # made with them, since some follow from others, such as the size of an attention head
            return AutoConfig.for_model(name, **values)
        except Exception as error:  # whatever the configuration finds wrong with them
            raise ModelError(f"{request.model}: {str(error).splitlines()[-1].strip().removeprefix('ValueError: ')}") from error
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ModelError(f"{request.model}: there is no such folder (looked for {folder.absolute()}).")
    config = _fetched_config(name, request, load=load)
    for key, value in _arguments(config, request, info, fresh=False).items():
        setattr(config, key, value)
    return config


def _fetched_config(name: str, request: ModelRequest, *, load: bool) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    try:
        return AutoConfig.from_pretrained(name, local_files_only=not load)
    except Exception as error:
        hint = "" if "/" in name else did_you_mean(name, CONFIG_MAPPING)
        if not load and not Path(name).is_dir():
            raise NotFetched(
                f"the configuration of {request.model} is not on this machine, and nothing is fetched here.{hint} "
                f"A run fetches it; to have it before: hf download {name} config.json"
            ) from error
        raise fetch_error(f"the configuration of {request.model}", error) from error


def _arguments(config: Any, request: ModelRequest, info: DataInfo, *, fresh: bool) -> dict[str, Any]:
    """What is set in a configuration: what the data say, and the user's arguments."""
    known = config.to_dict()
    settings: dict[str, Any] = {}
    if info.language in LANGUAGE_MODELS:
        settings["use_cache"] = False  # nothing is generated here; keys and values would be kept for nothing
        if fresh:
            settings["vocab_size"] = info.num_outputs
    elif info.language != "span_extraction":
        settings["num_labels"] = info.num_outputs
    if info.kind == "image" and "num_channels" in known:
        channels = info.input_shape[0]
        if request.weights is not None and known["num_channels"] != channels:
            raise ModelError(f"{request.model} reads images of {known['num_channels']} channels; the data has {channels}.")
        settings["num_channels"] = channels
        if request.weights is None and "image_size" in known:
            settings["image_size"] = info.input_shape[1]
    given = {key: value for key, value in request.args.items() if key != _ATTENTION}
    for key in given:
        if key not in known and key not in settings and key not in config.attribute_map:
            raise unknown_argument(request.model, key, sorted([*known, _ATTENTION]))
    values = settings | given
    if fresh and "vocab_size" in values:  # the kind's own numbers of special tokens mean nothing in a smaller vocabulary
        beyond = [key for key in _SPECIAL if isinstance(known.get(key), int) and known[key] >= values["vocab_size"]]
        values = dict.fromkeys(beyond) | values
    return values


def _listing(folder: Path) -> str:
    return ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"


def _own(name: str, *, load: bool) -> Normalization | None:
    """Mean and std of the image processor that lies beside the weights."""
    file = Path(name).expanduser() / "preprocessor_config.json"
    if not Path(name).expanduser().is_dir():
        from huggingface_hub import hf_hub_download

        try:
            file = Path(hf_hub_download(name, "preprocessor_config.json", local_files_only=not load))
        except Exception:
            return None
    if not file.is_file():
        return None
    stated = json.loads(file.read_text(encoding="utf-8"))
    if not stated.get("do_normalize", True) or "image_mean" not in stated:
        return None
    return Normalization(tuple(stated["image_mean"]), tuple(stated["image_std"]))
