"""`hf:ID_OR_FOLDER`: transformers classifiers for text and images; `hf:TYPE` builds a random one from `args`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from ...errors import MissingDependency, ModelError, NotFetched, did_you_mean
from ...types import DataInfo
from ..arguments import unknown_argument
from ..base import ModelRequest, Normalization
from ..checkpoints import fetch_error


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
    auto, mapping = _auto(info)
    if type(config) not in mapping:
        raise ModelError(f"{request.model} ({config.model_type}) is no classifier of {info.kind} data; transformers has none of that type.")
    try:
        if pretrained and load:
            with without_bars():
                module = auto.from_pretrained(name, config=config, ignore_mismatched_sizes=True)
        else:
            module = auto.from_config(config)
    except OSError as error:
        raise fetch_error(f"the weights of {request.model}", error) from error
    except Exception as error:
        raise ModelError(f"{request.model} could not be built for {info.kind} data: {type(error).__name__}: {error}") from error
    module.train()
    return module, _own(name, load=load) if pretrained and info.kind == "image" else None


def vocabulary_size(module: nn.Module) -> int | None:
    """How many tokens a transformers model knows; None of any other model."""
    import transformers

    if not isinstance(module, transformers.PreTrainedModel):
        return None
    embeddings = module.get_input_embeddings()
    return embeddings.num_embeddings if isinstance(embeddings, nn.Embedding) else None


def _auto(info: DataInfo) -> tuple[Any, Any]:
    """The class that builds, and the mapping of configurations that it can build from."""
    import transformers as t

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
        config = AutoConfig.for_model(name)
    elif not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ModelError(f"{request.model}: there is no such folder (looked for {folder.absolute()}).")
    else:
        config = _fetched_config(name, request, load=load)
    return _with_arguments(config, request, info)


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


def _with_arguments(config: Any, request: ModelRequest, info: DataInfo) -> Any:
    known = config.to_dict()
    settings: dict[str, Any] = {"num_labels": info.num_outputs}
    if info.kind == "image" and "num_channels" in known:
        channels = info.input_shape[0]
        if request.weights is not None and known["num_channels"] != channels:
            raise ModelError(f"{request.model} reads images of {known['num_channels']} channels; the data has {channels}.")
        settings["num_channels"] = channels
        if request.weights is None and "image_size" in known:
            settings["image_size"] = info.input_shape[1]
    for key in request.args:
        if key not in known and key not in settings:
            raise unknown_argument(request.model, key, sorted(known))
    for key, value in {**settings, **request.args}.items():
        setattr(config, key, value)
    return config


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
