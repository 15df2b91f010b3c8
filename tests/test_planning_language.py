"""The plan of a recipe of texts: what its store will weigh, and how long the end of a run will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck import rehearsal
from limbeck.cli.main import main
from limbeck.labelling import Labelling, label
from limbeck.planning import Outlook, plan
from limbeck.rehearsal import Repeated, Sample, token_choices
from limbeck.store.manage import parse_codec
from limbeck.store.manifest import TOKENS
from limbeck.types import Batch, Signals
from tests.language_data import WORDS, save_tokenizer, write_jsonl
from tests.language_models import tiny

DEFAULT = "topk:k=22,dtype=fp16"
"""Half of the 45 tokens."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("texts")
    tokenizer = save_tokenizer(folder / "model")
    tiny("llama", vocab_size=45).save_pretrained(folder / "model")
    texts = [{"text": " ".join(WORDS[(7 * i + j * j) % 40] for j in range(3 + i % 9))} for i in range(600)]
    model = {"model": f"hf:{folder / 'model'}", "weights": "pretrained"}
    return {
        "task": "causal_lm",
        "data": {"source": write_jsonl(folder / "texts.jsonl", texts), "tokenizer": tokenizer, "max_length": 24},
        "teacher": model,
        "student": model,
        "objective": {"labels": "cross_entropy", "logits": {"loss": "kd"}},
        "train": {"epochs": 2, "batch_size": 8, "optimizer": {"name": "adamw", "lr": 0.01}},
        "evaluate": {"generations": 2, "tokens": 6},
    }


@pytest.fixture(scope="module")
def outlook(recipe: dict[str, Any]) -> Outlook:
    return plan(recipe, device="cpu", budget=0.05, machines=2)


@pytest.mark.parametrize("codec", [DEFAULT, "sampled:draws=50", "hidden:dtype=bf16"])
def test_sizes_are_those_of_real_stores(recipe: dict[str, Any], outlook: Outlook, codec: str, tmp_path: Path) -> None:
    (store,) = outlook.stores
    assert store.signals[TOKENS]["shape"] == [45, 32]
    label(recipe, Labelling(tmp_path / "store", {TOKENS: parse_codec(f"tokens={codec}")[1]}), device="cpu")
    real = sum(file.stat().st_size for file in (tmp_path / "store").iterdir() if file.is_file())
    assert store.signals[TOKENS]["bytes"][codec] == pytest.approx(real, rel=0.05)


def test_documents_are_counted_and_whole_files_divided(outlook: Outlook) -> None:
    (store,) = outlook.stores
    assert store.bytes == store.signals[TOKENS]["bytes"][DEFAULT]
    distil = outlook.stages[-1]
    assert distil.updates / distil.epochs == store.examples // distil.batch == 48
    assert store.shard == 4096
    assert outlook.labelling_seconds == store.labelling_seconds > 0
    assert outlook.machines[0].labelling_seconds == pytest.approx(store.labelling_seconds)  # one file cannot be divided
    assert distil.stored_seconds_per_update is not None


def test_a_codec_that_the_teacher_cannot_be_written_in_is_left_out(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    choices = {DEFAULT: parse_codec("tokens=topk:k=22")[1], "topk:k=1000": parse_codec("tokens=topk:k=1000")[1]}
    monkeypatch.setattr(rehearsal, "token_choices", lambda vocabulary: choices)
    (store,) = plan(recipe, device="cpu", budget=0.01).stores
    assert set(store.signals[TOKENS]["bytes"]) == {DEFAULT}


def test_every_codec_can_be_typed() -> None:
    assert next(iter(token_choices(64))) == "topk:k=32,dtype=fp16"
    found = token_choices(65)
    assert next(iter(found)) == "topk:k=64,dtype=fp16"
    assert {text.partition(":")[0] for text in found} == {"hidden", "sampled", "topk"}
    assert sum(text.startswith("topk") for text in found) == 4
    for text, signal in found.items():
        asked = parse_codec(f"tokens={text}")[1]
        assert (asked.codec, asked.build_tokens().fields()) == (signal.codec, signal.build_tokens().fields())


def test_the_teacher_is_asked_once_for_each_batch() -> None:
    class Counting:
        asked = 0

        def signals(self, batch: Batch) -> Signals:
            self.asked += 1
            return Signals(torch.full((1,), float(batch.index[0])))

    teacher = Counting()
    repeated = Repeated(teacher)  # pyright: ignore[reportArgumentType]
    batches = [Batch(torch.zeros(1), None, torch.tensor([i])) for i in range(3)]
    first = [float(repeated.signals(batch).logits) for batch in batches]
    repeated.again()
    assert [float(repeated.signals(batch).logits) for batch in batches] == first == [0, 1, 2]
    assert teacher.asked == 3


def test_a_sample_numbers_its_documents_anew() -> None:
    class Whole:
        def __len__(self) -> int:
            return 9

        def keys(self, numbers: np.ndarray) -> np.ndarray:
            return np.repeat(numbers[:, None].astype(np.uint8), 32, axis=1)

        def lengths(self, numbers: np.ndarray) -> np.ndarray:
            return numbers * 10

        def shown(self, numbers: np.ndarray) -> Batch:
            return Batch(torch.zeros(1), None, torch.zeros(1), extra={"documents": torch.from_numpy(numbers), "within": torch.zeros(1)})

    sample = Sample(Whole(), np.array([2, 5, 8]))
    assert len(sample) == 3
    assert sample.lengths(np.array([0, 2])).tolist() == [20, 80]
    assert sample.keys(np.array([1]))[0, 0] == 5
    shown = sample.shown(np.array([2, 0]))
    assert shown.extra["documents"].tolist() == [2, 0]
    assert "within" in shown.extra


def test_the_command_counts_documents(recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    assert main(["plan", str(tmp_path / "recipe.yaml"), "--device", "cpu", "--seconds", "0.01"]) == 0
    said = capsys.readouterr().out
    assert "documents, one view" in said
    assert "sampled:draws=50" in said
