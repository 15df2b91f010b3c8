"""A teacher whose answers belong to other tokens is refused before anything is trained; an honest one, however bad, is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.engine.alignment import check_alignment
from limbeck.errors import LimbeckError
from limbeck.tokens import Logits, Sampled, TopK
from limbeck.types import Batch, Signals
from tests.language_data import WORDS, load, save_tokenizer, write_jsonl

Says = Callable[[Batch], Signals]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("texts")
    generator = torch.Generator().manual_seed(0)
    rows = [{"text": " ".join(WORDS[int(i)] for i in torch.randint(40, (12,), generator=generator))} for _ in range(30)]
    return load(write_jsonl(folder / "texts.jsonl", rows), save_tokenizer(folder / "tokenizer")).train


def context(teachers: Mapping[str, Says]) -> Any:
    said = lambda batch: {name: one(batch) for name, one in teachers.items()}  # noqa: E731
    return SimpleNamespace(heard=tuple(teachers), teacher_signals=said, backend=SimpleNamespace(device=torch.device("cpu")))


def knowing(tokens: Tensor, *, sure: float = 3.0) -> Tensor:
    """Logits of a teacher that expects just these tokens."""
    return torch.nn.functional.one_hot(tokens, 45).float() * sure


def shifted(batch: Batch, by: int) -> Tensor:
    assert batch.labels is not None
    return batch.labels.roll(-by)


def check(examples: Any, says: Says) -> None:
    check_alignment(context({"teacher": says}), examples, 0)


def test_an_honest_teacher_passes(examples: Any) -> None:
    check(examples, lambda batch: Signals(tokens=Logits(knowing(shifted(batch, 0)))))
    check(examples, lambda batch: Signals(knowing(shifted(batch, 0))))


def test_an_untrained_teacher_passes(examples: Any) -> None:
    check(examples, lambda batch: Signals(tokens=Logits(0.3 * torch.randn(int(batch.units), 45))))


@pytest.mark.parametrize(("by", "word"), [(1, "after"), (-1, "before")])
def test_a_shifted_teacher_is_refused(examples: Any, by: int, word: str) -> None:
    with pytest.raises(LimbeckError, match=rf"teacher: it predicts the tokens {word} the ones that the student is to predict"):
        check(examples, lambda batch: Signals(tokens=Logits(knowing(shifted(batch, by)))))


def test_who_hardly_knows_the_neighbours_is_not_called_shifted(examples: Any) -> None:
    check(examples, lambda batch: Signals(tokens=Logits(knowing(shifted(batch, 1), sure=0.7))))  # 0.7 nats better than chance
    with pytest.raises(LimbeckError, match="the tokens after"):
        check(examples, lambda batch: Signals(tokens=Logits(knowing(shifted(batch, 1), sure=1.5))))  # 1.4 nats


def test_a_shifted_store_is_refused(examples: Any) -> None:
    def says(batch: Batch) -> Signals:
        values, ids = knowing(shifted(batch, 1)).log_softmax(1).topk(5)
        return Signals(tokens=TopK(ids, values))

    with pytest.raises(LimbeckError, match="the tokens after"):
        check(examples, says)


def test_samples_are_compared_with_neighbours_and_not_with_chance(examples: Any) -> None:
    def says(batch: Batch, by: int = 0) -> Signals:
        ids = torch.stack([shifted(batch, by), torch.zeros(int(batch.units), dtype=torch.int64)], 1)
        return Signals(tokens=Sampled(ids, torch.full(ids.shape, 0.5)))

    check(examples, says)
    check(
        examples,
        lambda batch: Signals(tokens=Sampled(torch.zeros(int(batch.units), 1, dtype=torch.int64), torch.ones(int(batch.units), 1))),
    )
    with pytest.raises(LimbeckError, match="the tokens after"):
        check(examples, lambda batch: says(batch, 1))


def test_a_teacher_of_another_vocabulary_is_refused(examples: Any) -> None:
    order = torch.randperm(45, generator=torch.Generator().manual_seed(1))
    with pytest.raises(
        LimbeckError, match=r"teacher: the tokens .* cost it \d+\.\d+ nats each, and chance 3\.81\. It was made for another"
    ):
        check(examples, lambda batch: Signals(tokens=Logits(knowing(order[shifted(batch, 0)], sure=9.0))))


def test_nothing_is_concluded_from_a_few_tokens(tmp_path: Path) -> None:
    rows = [{"text": "w1 w2 w3"}] * 4
    few = load(write_jsonl(tmp_path / "few.jsonl", rows), save_tokenizer(tmp_path / "tokenizer")).train
    check(few, lambda batch: Signals(tokens=Logits(knowing(shifted(batch, 1)))))


def test_without_a_teacher_nothing_is_read(examples: Any) -> None:
    check_alignment(context({}), examples, 0)


def test_who_knows_neither_target_nor_neighbour_has_another_vocabulary(examples: Any) -> None:
    def says(batch: Batch) -> Signals:
        wrong = torch.zeros(int(batch.units), 45)
        wrong[:, 0] = 20.0  # a token that the texts do not have
        wrong.scatter_(1, shifted(batch, 1)[:, None], 1.0)
        return Signals(tokens=Logits(wrong))

    with pytest.raises(LimbeckError, match="It was made for another vocabulary"):
        check(examples, says)
